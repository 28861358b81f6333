import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.protocols.similarity_search import PROTOCOL, similarity_search


def run(embeddings):
    return {t.inputs: PROTOCOL.run(t, embeddings, {}) for t in PROTOCOL.tasks(embeddings, {})}


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 40), st.integers(0, 10**6), st.booleans())
def test_average_precision_is_scikit_learns(n, seed, grouped):
    rng = np.random.default_rng(seed)
    vectors, labels = rng.normal(size=(n, 4)), rng.integers(3, size=n)
    groups = rng.integers(8, size=n) if grouped else np.arange(n)
    queries, outcome, n_candidates = similarity_search(vectors, labels, groups)
    cosine = normalise(vectors) @ normalise(vectors).T
    at = 0
    for i in range(n):
        others = groups != groups[i]
        relevant = labels[others] == labels[i]
        if not relevant.any():
            assert i not in queries
            continue
        assert queries[at] == i
        assert n_candidates[at] == others.sum()
        assert outcome.n_positives[at] == relevant.sum()
        precision = average_precision_score(relevant, cosine[i, others])
        assert outcome.average_precision[at] == pytest.approx(precision)
        first = relevant[np.argsort(-cosine[i, others])].argmax() + 1
        assert outcome.ranks[at] == first
        at += 1
    assert at == len(queries)


def test_separable_classes_are_all_found():
    labels = np.arange(12) % 3
    _, outcome, _ = similarity_search(np.eye(3)[labels], labels)
    assert (outcome.average_precision == 1).all()
    assert (outcome.ranks == 1).all()


def test_the_last_of_unequal_numbers_of_candidates_is_a_rank():
    """Row 0 finds its class behind all of the others; of the group of three each has fewer."""
    vectors = np.array([[1.0, 0], [1, 0.1], [1, 0.2], [1, 0.3], [-1, 0]])
    queries, outcome, n_candidates = similarity_search(
        vectors, np.array([0, 1, 1, 1, 0]), np.array([0, 1, 1, 1, 2])
    )
    assert queries.tolist() == [0, 4]
    assert outcome.ranks.tolist() == [4, 4]
    _, outcome, n_candidates = similarity_search(
        vectors, np.array([0, 0, 1, 1, 0]), np.array([0, 1, 1, 1, 2])
    )
    assert n_candidates.tolist() == [4, 2, 4]
    assert outcome.n_candidates == 4


def test_noise_is_at_chance(make_set):
    made = make_set(n=600, widths=(4,))
    noise = np.random.default_rng(0).normal(size=(600, 4)).astype(np.float32)
    made = make_set(n=600, vectors={"m0": noise}, present=made.present, splits=np.full(600, "test"))
    output = run(made)["m0"]
    values = output.outcome.statistic(np.ones((1, 600)))[0]
    for metric, value in zip(output.outcome.metrics, values, strict=True):
        assert value == pytest.approx(output.chance[metric], rel=0.15)


def test_the_own_group_is_no_candidate(make_set):
    # every row has a copy in its group, and none of its class elsewhere
    rng = np.random.default_rng(0)
    vectors = np.repeat(rng.normal(size=(4, 3)), 2, axis=0).astype(np.float32)
    made = make_set(
        n=8,
        vectors={"m0": vectors},
        present={"m0": np.ones(8, np.bool_)},
        splits=np.full(8, "test"),
        labels=np.array([0, 0, 1, 1, 2, 2, 2, 2]),
        groups=np.array(["a", "a", "b", "b", "c", "c", "d", "d"]),
        classes=("x", "y", "z"),
    )
    output = run(made)["m0"]
    assert output.rows.tolist() == [4, 5, 6, 7]
    assert output.settings == {"without_relevant": 4}
    alone = make_set(
        n=8,
        vectors={"m0": vectors},
        present={"m0": np.ones(8, np.bool_)},
        splits=np.full(8, "test"),
        groups=np.full(8, "a"),
    )
    assert "outside its group" in run(alone)["m0"].missing


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"splits": np.full(240, "train")}, "0 labelled rows in the test split"),
        ({"labels": np.full(240, -1)}, "0 labelled rows in the test split"),
        ({"widths": (3, 4)}, "differ in width (m0 3, m1 4)"),
    ],
)
def test_what_cannot_be_judged_is_missing_with_a_reason(make_set, changes, reason):
    assert reason in run(make_set(**changes))["all"].missing
