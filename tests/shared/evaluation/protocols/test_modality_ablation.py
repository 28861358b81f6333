import numpy as np
import pytest

from shared.evaluation.protocols.modality_ablation import PROTOCOL, variants


def run(embeddings):
    settings = dict(PROTOCOL.settings)
    return {
        task.variant: PROTOCOL.run(task, embeddings, settings)
        for task in PROTOCOL.tasks(embeddings, settings)
    }


def accuracy(output):
    return output.outcome.statistic(np.ones((1, len(output.outcome))))[0, 0]


@pytest.mark.parametrize(
    ("modalities", "names"),
    [
        ("ab", ["", "only=a", "only=b"]),
        ("abc", ["", "without=a", "without=b", "without=c", "only=a", "only=b", "only=c"]),
    ],
)
def test_variants(modalities, names):
    found = variants(tuple(modalities))
    assert list(found) == names
    assert found[""] == tuple(modalities)
    assert found.get("without=b", ("a", "c")) == ("a", "c")


def test_everything_is_judged_on_the_same_rows(make_set):
    made = make_set(widths=(8, 8, 2), n=400)
    found = run(made)
    rows = made.rows("test", "m0", "m1", "m2", target="label")
    assert len(rows) < len(made.rows("test", "m0", target="label"))
    for output in found.values():
        assert output.missing is None
        assert np.array_equal(output.rows, rows)
    # two numbers tell four classes apart worse than sixteen
    assert accuracy(found["only=m2"]) < accuracy(found["without=m2"]) <= 1


def test_one_modality_says_why(make_set):
    made = make_set(widths=(8,))
    assert not PROTOCOL.applies(made)
    assert run(made)[""].missing == "needs two modalities or more"
