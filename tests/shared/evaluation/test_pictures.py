import numpy as np
import pytest
from matplotlib.image import imread

from shared.evaluation.pictures import save_pictures
from shared.evaluation.run import evaluate_arrays


def drawn(path):
    """Share of the picture that is not white."""
    return (imread(path)[..., :3] < 0.95).any(axis=-1).mean()


def test_one_picture_a_question(made_up, tmp_path):
    evaluation = evaluate_arrays(made_up, n_resamples=0)
    paths = save_pictures(tmp_path / "new", evaluation)
    assert [p.name for p in paths] == [
        "confusion_linear_probe.png",
        "confusion_nearest_centroid.png",
        "confusion_nearest_neighbour.png",
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
    assert len(save_pictures(tmp_path, evaluation)) == 5


def test_what_did_not_run_has_no_picture(make_set, tmp_path):
    alone = make_set(widths=(4,), n=12)
    evaluation = evaluate_arrays(alone, protocols=["retrieval"], n_resamples=0)
    assert [p.name for p in save_pictures(tmp_path, evaluation)] == ["embedding_map.png"]
    nothing = make_set(n=1)
    assert save_pictures(tmp_path, evaluate_arrays(nothing)) == []
