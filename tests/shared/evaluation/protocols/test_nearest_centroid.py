import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.evaluation.embeddings.vectors import unit_mean
from shared.evaluation.protocols.nearest_centroid import PROTOCOL, class_centres, nearest_centroid


def run(embeddings):
    return {t.inputs: PROTOCOL.run(t, embeddings, {}) for t in PROTOCOL.tasks(embeddings, {})}


def test_by_hand():
    # the centre of 0 is at 45°; that of 2 lies where its longer row points, as lengths count
    train, labels = np.array([[1, 0], [0, 1], [-0.9, 0], [0, -0.3]]), np.array([0, 0, 2, 2])
    known, centres = class_centres(train, labels)
    assert known.tolist() == [0, 2]
    expected = [np.array([1, 1]) / np.sqrt(2), np.array([-3, -1]) / np.sqrt(10)]
    np.testing.assert_allclose(centres, expected)
    test = np.array([[0, 5], [1, 0], [-1, 0.9]])
    assert nearest_centroid(train, labels, test).tolist() == [0, 0, 2]


@settings(max_examples=20, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 999), st.floats(0.01, 100))
def test_invariances(permutation, seed, scale):
    """Names of the classes, order of the rows, a rotation and a common scale change nothing."""
    rng, p = np.random.default_rng(seed), np.array(permutation)
    train, test = rng.normal(size=(2, 40, 5))
    labels, order = np.arange(40) % 4, rng.permutation(40)
    rotation = scale * np.linalg.qr(rng.normal(size=(5, 5)))[0]
    before = nearest_centroid(train, labels, test)
    after = nearest_centroid((train @ rotation)[order], p[labels][order], test @ rotation)
    assert after.tolist() == p[before].tolist()


def test_protocol_on_a_set(make_set):
    made = make_set()
    outputs = run(made)
    assert [*outputs] == ["m0", "m1", "all"]
    train, test = (made.rows(split, "m0", "m1") for split in ("train", "test"))
    parts = [unit_mean([made.vectors[m][rows] for m in made.modalities]) for rows in (train, test)]
    expected = nearest_centroid(parts[0], made.labels[train], parts[1])
    assert outputs["all"].outcome.predicted.tolist() == expected.tolist()
    assert outputs["all"].rows.tolist() == test.tolist()
    assert (outputs["all"].outcome.predicted == made.labels[test]).mean() > 0.9


def test_constant_embeddings_predict_one_class(make_set):
    made = make_set(vectors={m: np.ones((240, 3), np.float32) for m in ("m0", "m1")})
    assert len(np.unique(run(made)["m0"].outcome.predicted)) == 1


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"splits": np.full(240, "train")}, "no labelled rows in the test split"),
        ({"labels": np.full(240, -1)}, "no labelled rows in the train split"),
        ({"widths": (3, 4)}, "differ in width (m0 3, m1 4)"),
    ],
)
def test_what_cannot_be_judged_is_missing_with_a_reason(make_set, changes, reason):
    assert reason in run(make_set(**changes))["all"].missing
