"""Extraction of a whole dataset: order, missing modalities, cache, schema errors."""

from pathlib import Path

import numpy as np
import pytest

import zoo
from domains.astro.evaluators import VARIABLE_STARS
from shared.errors import SchemaError
from shared.evaluation.extract import ZooEmbedder, extract, simple_features


@pytest.fixture(scope="module")
def stars() -> zoo.Dataset:
    return zoo.dataset("simulated_variable_stars", n_stars=15, spectra_fraction=0.5)


@pytest.fixture(scope="module")
def embedder() -> ZooEmbedder:
    model = zoo.load("star-clip", weights="random")
    return ZooEmbedder(model, "mine", "projected", "cpu", "float32")


def test_rows_are_those_of_single_samples(stars: zoo.Dataset, embedder: ZooEmbedder) -> None:
    embeddings = extract(embedder, stars, batch_size=4)
    assert embeddings.ids.tolist() == stars.ids.tolist()
    assert embeddings.modalities == ("photometry", "spectra", "metadata")
    assert 0 < embeddings.present["spectra"].sum() < 15
    for index in range(15):
        raw = stars[index]
        for modality in embeddings.modalities:
            assert embeddings.present[modality][index] == (modality in raw)
            if modality in raw:
                alone = embedder.embed(modality, [raw[modality]], stars.schemas[modality])[0]
                np.testing.assert_allclose(embeddings.vectors[modality][index], alone, atol=2e-6)


def test_cache(stars: zoo.Dataset, embedder: ZooEmbedder, tmp_path: Path) -> None:
    first = extract(embedder, stars, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    touched = path.stat().st_mtime_ns
    again = extract(embedder, stars, cache=tmp_path)
    assert path.stat().st_mtime_ns == touched
    np.testing.assert_array_equal(first.vectors["metadata"], again.vectors["metadata"])
    # another output, other data and other preprocessing each have an entry of their own
    model = zoo.load("star-clip", weights="random")
    extract(ZooEmbedder(model, "mine", "pooled", "cpu", "float32"), stars, cache=tmp_path)
    other = zoo.dataset("simulated_variable_stars", n_stars=15, spectra_fraction=0.4)
    extract(embedder, other, cache=tmp_path)
    model.config.modalities["photometry"].preprocess["max_length"] = 40
    extract(ZooEmbedder(model, "mine", "projected", "cpu", "float32"), stars, cache=tmp_path)
    assert len(list(tmp_path.iterdir())) == 4


def test_a_channel_that_is_not_given_is_named(tmp_path: Path, embedder: ZooEmbedder) -> None:
    (tmp_path / "photometry").mkdir()
    rows = "\n".join(f"{t},{1 + t % 3},0.1" for t in range(9))
    (tmp_path / "photometry" / "a.csv").write_text(f"time,flux,flux_error\n{rows}\n")
    (tmp_path / "table.csv").write_text("id,teff\na,5000\n")
    folder = zoo.dataset("star_folder", root=str(tmp_path))
    with pytest.raises(SchemaError) as caught:
        extract(embedder, folder)
    assert "mine takes channel mean_vmag [mag]" in str(caught.value)
    assert "modalities=[photometry]" in str(caught.value)


def test_simple_features_of_the_modalities_asked_for(stars: zoo.Dataset) -> None:
    features = simple_features(VARIABLE_STARS, stars, ("photometry", "spectra"))
    assert features is not None
    assert {m: v.shape for m, v in features.vectors.items()} == {
        "photometry": (15, 6),
        "spectra": (15, 64),
    }
    assert simple_features(VARIABLE_STARS, stars, ("image",)) is None
