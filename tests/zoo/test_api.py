"""`zoo.embed` and `zoo.evaluate` on names, models, functions and sets of embeddings."""

from pathlib import Path

import numpy as np
import pytest

import zoo
from shared.errors import ConfigError, UnknownNameError


@pytest.fixture(scope="module")
def stars() -> zoo.Dataset:
    return zoo.dataset("simulated_variable_stars", n_stars=60)


@pytest.fixture(scope="module")
def model() -> zoo.Model:
    return zoo.load("star-clip", weights="random")


def test_a_model_object_keeps_its_domain(model: zoo.Model, stars: zoo.Dataset) -> None:
    """So that the simple features of its evaluator stand beside its scores."""
    evaluation = zoo.evaluate(
        model,
        stars,
        cache=False,
        protocols=["linear_probe"],
        n_resamples=20,
        modalities=["spectra"],
    )
    assert {r.inputs for r in evaluation.results} == {"spectra"}
    assert all(r.simple_features is not None for r in evaluation.results)
    assert all(r.dataset == "simulated_variable_stars version 1" for r in evaluation.results)


def test_modalities_are_those_asked_for(model: zoo.Model, stars: zoo.Dataset) -> None:
    embeddings = zoo.embed(model, stars, cache=False, modalities=["metadata"])
    assert embeddings.modalities == ("metadata",)
    with pytest.raises(UnknownNameError, match="Did you mean 'spectra'"):
        zoo.embed(model, stars, cache=False, modalities=["spectre"])
    whole = zoo.embed(model, stars, cache=False)
    judged = zoo.evaluate(whole, modalities=["metadata"], n_resamples=20)
    assert {r.inputs for r in judged.results} == {"metadata"}
    with pytest.raises(UnknownNameError, match="no embeddings of 'image'"):
        zoo.evaluate(whole, modalities=["image"])


def test_options_that_cannot_matter_are_refused(model: zoo.Model, stars: zoo.Dataset) -> None:
    with pytest.raises(ConfigError, match=r"save them by \.save"):
        zoo.embed(model, stars, out="x.npz")
    with pytest.raises(ConfigError, match="an object has its weights"):
        zoo.embed(model, stars, weights="random")
    with pytest.raises(ConfigError, match="output says how to embed"):
        zoo.evaluate(zoo.embed(model, stars, cache=False), output="pooled")


def test_a_function_is_a_model(stars: zoo.Dataset, tmp_path: Path) -> None:
    def mean_flux(curves: list[np.ndarray]) -> np.ndarray:
        return np.array([[c[:, 1].mean(), c[:, 1].std()] for c in curves])

    embeddings = zoo.embed(mean_flux, stars, modalities=["photometry"])
    raw = stars[4]["photometry"][:, 1]
    np.testing.assert_allclose(embeddings.vectors["photometry"][4], [raw.mean(), raw.std()], 1e-6)
    embeddings.save(tmp_path / "x.parquet")
    assert zoo.EmbeddingSet.load(tmp_path / "x.parquet").ids.tolist() == stars.ids.tolist()
