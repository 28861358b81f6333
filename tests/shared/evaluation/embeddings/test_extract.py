"""Extraction of a whole dataset: order, missing modalities, cache, schema errors."""

import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from domains.astro.evaluators import VARIABLE_STARS
from shared.data.dataset import Dataset, Raw, SampleTable
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.errors import SchemaError
from shared.evaluation.embeddings.copies import with_copies
from shared.evaluation.embeddings.extract import ZooEmbedder, extract, simple_features
from shared.evaluation.evaluator import DEFAULT
from shared.evaluation.foreign.function import FunctionEmbedder
from shared.schema import Channel, Schema


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


def test_cache(
    stars: zoo.Dataset, embedder: ZooEmbedder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = extract(embedder, stars, cache=tmp_path)
    (path,) = tmp_path.iterdir()
    touched = path.stat().st_mtime_ns
    again = extract(embedder, stars, cache=tmp_path)
    assert path.stat().st_mtime_ns == touched
    np.testing.assert_array_equal(first.vectors["metadata"], again.vectors["metadata"])
    monkeypatch.setattr(embedder, "name", "renamed")
    assert extract(embedder, stars, cache=tmp_path).model == "renamed"
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


def test_an_object_in_neighbouring_rows_is_embedded_once_a_batch() -> None:
    image, other = np.zeros((4, 4, 3), np.uint8), np.full((4, 4, 3), 99, np.uint8)
    shown = [image, image, image, other, image, image]
    embedded: list[int] = []

    class Repeated(Dataset):
        name, schemas = "repeated", types.MappingProxyType({"image": IMAGE})

        def make_table(self) -> SampleTable:
            return SampleTable([str(i) for i in range(6)], groups=["a", "a", "a", "b", "a", "a"])

        def read(self, index: int) -> Raw:
            return {"image": shown[index]}

        def content_fingerprint(self) -> str:
            return "1"

    def mean(images: list[Any]) -> Any:
        embedded.append(len(images))
        return np.array([[image.mean(), 1.0] for image in images])

    found = extract(FunctionEmbedder("mean", mean, None), Repeated(), batch_size=4)
    assert embedded == [2, 1]
    assert found.vectors["image"][:, 0].tolist() == [0, 0, 0, 99, 0, 0]
    features = simple_features(DEFAULT, Repeated(), ("image",))
    assert features is not None
    assert [row == 3 for row in range(6)] == [
        bool((v != features.vectors["image"][0]).any()) for v in features.vectors["image"]
    ]


def test_an_object_has_one_vector_where_batches_round_differently() -> None:
    """As in bfloat16: an image of five captions that lie in two batches is still one image."""

    class Captioned(Dataset):
        name, schemas = "captioned", types.MappingProxyType({"image": IMAGE})

        def __init__(self) -> None:
            self._images = [np.full((4, 4, 3), 10 * i, np.uint8) for i in range(7)]

        def make_table(self) -> SampleTable:
            return SampleTable([str(i) for i in range(35)], groups=[str(i // 5) for i in range(35)])

        def read(self, index: int) -> Raw:
            return {"image": self._images[index // 5]}

        def content_fingerprint(self) -> str:
            return "1"

    def rough(images: list[Any]) -> Any:
        return np.array([[image.mean(), 1 + 0.01 * len(images)] for image in images])

    found = with_copies(extract(FunctionEmbedder("rough", rough, None), Captioned(), batch_size=8))
    assert found.copies["image"].tolist() == [i - i % 5 for i in range(35)]


def test_simple_features_of_the_modalities_asked_for(stars: zoo.Dataset) -> None:
    features = simple_features(VARIABLE_STARS, stars, ("photometry", "spectra"))
    assert features is not None
    assert {m: v.shape for m, v in features.vectors.items()} == {
        "photometry": (15, 6),
        "spectra": (15, 64),
    }
    assert simple_features(VARIABLE_STARS, stars, ("image",)) is None


class Images(Dataset):
    """Eight grey images, two of them the same, with everything that can be known of samples."""

    name = "images"

    def __init__(self, schema: Schema = IMAGE) -> None:
        self.schemas = {"image": schema}

    def make_table(self) -> SampleTable:
        return SampleTable(
            [f"i{i}" for i in range(8)],
            [i % 2 for i in range(8)],
            ("a", "b"),
            tags={"dark": [1, 0, np.nan, 0] * 2},
            targets={"cover": np.linspace(0, 1, 8)},
            subgroups={"camera": ["x", "y"] * 4},
        )

    def read(self, index: int) -> Raw:
        return {"image": np.full((4, 5, 3), 20 * (index % 7), np.uint8)}

    def content_fingerprint(self) -> str:
        return "1"


def test_what_is_known_of_samples_is_kept(tmp_path: Path) -> None:
    def levels(raws: list[Any]) -> Any:
        return np.stack([raw.reshape(-1, 3).mean(axis=0) for raw in raws])

    levels.revision = "1"  # type: ignore[attr-defined]
    for _ in range(2):  # computed, and from the cache
        found = extract(FunctionEmbedder("levels", levels, None), Images(), cache=tmp_path)
        np.testing.assert_array_equal(found.tags["dark"], [1, 0, np.nan, 0] * 2)
        np.testing.assert_array_equal(found.targets["cover"], np.linspace(0, 1, 8))
        assert found.subgroups["camera"].tolist() == ["x", "y"] * 4
        assert found.content is not None
        assert [i for i in range(8) if found.content[i] == found.content[0]] == [0, 7]
        assert len(found.revision) == 16


def test_a_function_that_states_its_revision_is_cached(tmp_path: Path) -> None:
    calls = []

    def embed(raws: list[Any]) -> Any:
        calls.append(len(raws))
        return np.stack([raw.reshape(-1)[:2] for raw in raws])

    def count(revision: object) -> int:
        embed.revision = revision  # type: ignore[attr-defined]
        extract(FunctionEmbedder("f", embed, None), Images(), cache=tmp_path)
        return len(calls)

    assert [count("1"), count("1"), count("2"), count("1")] == [1, 1, 2, 2]
    assert [count(""), count(""), count(None)] == [3, 4, 5]


def test_a_function_that_writes_into_its_input_makes_no_copies() -> None:
    def embed(raws: list[Any]) -> Any:
        vectors = np.stack([raw.reshape(-1)[:2] for raw in raws])
        for raw in raws:
            raw[...] = 0
        return vectors

    found = extract(FunctionEmbedder("f", embed, None), Images())
    assert found.content is not None
    assert [i for i in range(8) if found.content[i] == found.content[0]] == [0, 7]


def test_another_constant_is_another_function(tmp_path: Path) -> None:
    """Changed code under a revision that was forgotten."""

    def embedder(body: str) -> FunctionEmbedder:
        names: dict[str, Any] = {"np": np, "__name__": "m"}
        exec(f"def embed(raws):\n    return np.stack([{body} for raw in raws])", names)
        names["embed"].revision = "1"
        return FunctionEmbedder("f", names["embed"], None)

    bodies = ("raw[0, 0] * 2.0", "raw[0, 0] * 3.0", "raw[0, 1] * 2.0", "raw.max((0, 1)) * 2.0")
    assert len({embedder(body).revision for body in bodies}) == len(bodies)
    assert embedder(bodies[0]).revision == embedder(bodies[0]).revision
    found = [extract(embedder(body), Images(), cache=tmp_path) for body in bodies[:2]]
    np.testing.assert_allclose(found[1].vectors["image"], found[0].vectors["image"] * 1.5)


def test_a_cached_file_of_another_revision_is_not_taken(tmp_path: Path) -> None:
    """As after files of the cache were copied over each other."""

    def embed(raws: list[Any]) -> Any:
        first = float(embed.revision)  # type: ignore[attr-defined]
        return np.full((len(raws), 2), first)

    def value(revision: str) -> float:
        embed.revision = revision  # type: ignore[attr-defined]
        found = extract(FunctionEmbedder("f", embed, None), Images(), cache=tmp_path)
        return float(found.vectors["image"][0, 0])

    assert value("1") == 1
    (first,) = tmp_path.iterdir()
    assert value("2") == 2
    (second,) = set(tmp_path.iterdir()) - {first}
    second.write_bytes(first.read_bytes())
    assert value("2") == 2


def test_simple_features_of_data_of_no_domain() -> None:
    features = simple_features(DEFAULT, Images(), ("image",))
    assert features is not None
    assert features.vectors["image"].shape == (8, 80)
    assert DEFAULT.simple_features["text"](TEXT, "a star").shape == (1024,)


def test_simple_features_that_do_not_fit_are_none(caplog: pytest.LogCaptureFixture) -> None:
    counts = Schema("image", IMAGE.axes, tuple(Channel(c) for c in "abc"), "uint8")
    assert simple_features(DEFAULT, Images(counts), ("image",)) is None
    assert "no simple features of image" in caplog.text


def test_simple_features_of_one_modality_stay_where_another_does_not_fit() -> None:
    class Both(Images):
        def read(self, index: int) -> Raw:
            return {**super().read(index), "text": f"number {index}"}

    counts = Schema("image", IMAGE.axes, tuple(Channel(c) for c in "abc"), "uint8")
    data = Both(counts)
    data.schemas = {**data.schemas, "text": TEXT}
    features = simple_features(DEFAULT, data, ("image", "text"))
    assert features is not None
    assert features.modalities == ("text",)
