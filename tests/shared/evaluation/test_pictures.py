import numpy as np
import pytest
from matplotlib.image import imread

from shared.evaluation.pictures import project, save_pictures
from shared.evaluation.run import evaluate_arrays


def drawn(path):
    """Share of the picture that is not white."""
    return (imread(path)[..., :3] < 0.95).any(axis=-1).mean()


def test_one_picture_a_question(made_up, tmp_path):
    evaluation = evaluate_arrays(made_up, n_resamples=0)
    paths = save_pictures(tmp_path / "new", evaluation, made_up)
    assert [p.name for p in paths] == [
        "confusion_linear_probe.png",
        "confusion_nearest_centroid.png",
        "embedding_map.png",
        "recall.png",
    ]
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    assert all(0.005 < drawn(path) < 0.9 for path in paths)


@pytest.mark.filterwarnings("error")
def test_odd_names_and_unlabelled_rows_are_drawn(make_set, tmp_path):
    labels = np.arange(240) % 5 - 1
    odd = make_set(labels=labels, classes=("$\\frac$", "_b", "a b", "[x]"), dataset="$5 set")
    evaluation = evaluate_arrays(odd, n_resamples=0)
    assert len(save_pictures(tmp_path, evaluation, odd)) == 4


def test_what_did_not_run_has_no_picture(make_set, tmp_path):
    alone = make_set(widths=(4,), n=12)
    evaluation = evaluate_arrays(alone, protocols=["retrieval"], n_resamples=0)
    assert [p.name for p in save_pictures(tmp_path, evaluation, alone)] == ["embedding_map.png"]
    nothing = make_set(n=1)
    assert save_pictures(tmp_path, evaluate_arrays(nothing), nothing) == []


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
