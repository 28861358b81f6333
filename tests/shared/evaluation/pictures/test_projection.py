import importlib.util

import numpy as np
import pytest

from shared.errors import DependencyError, UnknownNameError
from shared.evaluation.pictures.projection import check_projection, project


@pytest.mark.parametrize("n", [1, 2, 49])
def test_few_rows_are_projected_by_pca(n):
    points, method = project(np.random.default_rng(0).normal(size=(n, 5)).astype(np.float32))
    assert points.shape == (n, 2)
    assert np.isfinite(points).all()
    assert "PCA" in method


@pytest.mark.parametrize("vectors", [np.ones((80, 4)), np.ones((80, 1)), np.zeros((80, 4))])
def test_constant_embeddings_are_one_point(vectors):
    points, method = project(vectors.astype(np.float32))
    assert np.ptp(points) < 1e-6
    assert "PCA" in method


def test_tsne_is_the_same_every_time():
    vectors = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
    (first, method), (second, _) = project(vectors), project(vectors)
    assert "t-SNE" in method
    assert np.array_equal(first, second)


def test_what_is_not_there_is_told(monkeypatch):
    with pytest.raises(UnknownNameError, match="Did you mean 'tsne'"):
        check_projection("t-sne")
    monkeypatch.setattr("shared.evaluation.pictures.projection.find_spec", lambda name: None)
    with pytest.raises(DependencyError, match=r"pip install 'domain-zoo\[umap\]'"):
        check_projection("umap")


@pytest.mark.parametrize("train", [None, np.eye(5)[np.arange(22) % 5], np.ones((40, 5))])
def test_umap_without_enough_to_fit_on_is_pca(train):
    points, method = project(np.eye(5, dtype=np.float32), train, "umap")
    assert "PCA" in method
    assert points.shape == (5, 2)


@pytest.mark.skipif(importlib.util.find_spec("umap") is None, reason="needs umap-learn")
def test_umap_is_fitted_on_train_and_the_same_every_time():
    rng = np.random.default_rng(0)
    train = rng.normal(size=(60, 5)) + 4 * np.eye(5)[np.arange(60) % 2]
    test = train[:10] + 0.01
    (first, method), (second, _) = project(test, train, "umap"), project(test, train, "umap")
    assert "60 train rows" in method
    assert np.array_equal(first, second)
