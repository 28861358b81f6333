from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.outcomes import SeededOutcome
from shared.evaluation.protocols.few_shot import PROTOCOL, C, draw_shots, few_shot


def run(embeddings, **settings):
    merged = {**PROTOCOL.settings, "seeds": [0, 1], **settings}
    return {
        (task.inputs, task.variant): PROTOCOL.run(task, embeddings, merged)
        for task in PROTOCOL.tasks(embeddings, merged)
    }


def accuracy(output):
    return output.outcome.statistic(np.ones((1, len(output.outcome))))[0, 0]


def names(n, prefix="row"):
    return np.array([f"{prefix}{i}" for i in range(n)])


@given(seed=st.integers(0, 200), n=st.integers(4, 60))
def test_draws_are_balanced_nested_and_blind_to_order(seed, n):
    rng = np.random.default_rng(seed)
    targets, groups = rng.integers(0, 3, n), names(n, "g")[rng.integers(0, n, n)]
    previous: set[int] = set()
    for shots in (1, 2, 4, 100):
        drawn = draw_shots(names(n), groups, targets, shots, seed)
        assert np.array_equal(drawn, np.unique(drawn))
        counts, there = (np.bincount(t, minlength=3) for t in (targets[drawn], targets))
        assert np.array_equal(counts, np.minimum(there, shots))
        assert previous <= set(drawn.tolist())
        previous = set(drawn.tolist())
        turned = rng.permutation(n)
        again = draw_shots(names(n)[turned], groups[turned], targets[turned], shots, seed)
        assert set(turned[again].tolist()) == previous


@given(seed=st.integers(0, 200))
def test_every_group_gives_a_row_before_any_gives_two(seed):
    rng = np.random.default_rng(seed)
    groups, targets = names(40, "g")[rng.integers(0, 12, 40)], rng.integers(0, 2, 40)
    for shots in (2, 5, 9):
        drawn = draw_shots(names(40), groups, targets, shots, seed)
        for label in (0, 1):
            mine = groups[drawn][targets[drawn] == label]
            there = np.unique(groups[targets == label])
            assert len(np.unique(mine)) == min(len(mine), len(there))


def test_other_rows_of_other_classes_do_not_matter():
    targets = np.repeat([0, 1], 20)
    ids, drawn = names(40), draw_shots(names(40), names(40), targets, 3, 7)
    alone = draw_shots(ids[:20], ids[:20], targets[:20], 3, 7)
    assert np.array_equal(drawn[targets[drawn] == 0], alone)
    assert not np.array_equal(drawn, draw_shots(ids, ids, targets, 3, 8))


def test_draws_are_uniform():
    n, hits = 20, np.zeros(20)
    for seed in range(2000):
        hits[draw_shots(names(n), names(n), np.zeros(n, int), 5, seed)] += 1
    # binomial (2000, 1/4): standard deviation 19.4
    assert np.abs(hits - 500).max() < 5 * 19.4


def test_the_logistic_head_is_scikit_learns():
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 2, 3], 4)
    train = normalise(rng.normal(size=(12, 6)) + 2 * np.eye(6)[targets])
    test = normalise(rng.normal(size=(30, 6)))
    predicted, probabilities = few_shot(train, targets, test, 5)
    theirs = LogisticRegression(C=C, tol=1e-10, max_iter=10_000).fit(train, targets)
    assert np.allclose(probabilities[:, [0, 2, 3]], theirs.predict_proba(test), atol=1e-3)
    assert (probabilities[:, [1, 4]] == 0).all()
    assert np.array_equal(predicted, theirs.predict(test))


def test_more_shots_are_better(make_set):
    made = make_set(n=800, noise=2.0)
    outputs = run(made, shots=[1, 4, 16], seeds=[0, 1, 2, 3, 4])
    curve = [accuracy(outputs["m0", f"shots={s}"]) for s in (1, 4, 16)]
    assert curve[0] < curve[1] < curve[2]
    assert curve[0] > outputs["m0", "shots=1"].chance["accuracy"] == pytest.approx(0.25)
    first = outputs["m0", "shots=1"]
    assert isinstance(first.outcome, SeededOutcome)
    assert first.seeds == (0, 1, 2, 3, 4)
    assert len(first.rows) == len(made.rows("test", "m0", target="label"))
    assert first.settings["n_train"] == 4


def test_modalities_together_count_alike(make_set):
    made = make_set(widths=(8, 5))
    larger = replace(made, vectors={**made.vectors, "m1": 1000 * made.vectors["m1"]})
    first, second = (run(m, shots=[4])["all", "shots=4"] for m in (made, larger))
    for a, b in zip(first.outcome.outcomes, second.outcome.outcomes, strict=True):
        assert np.allclose(a.probabilities, b.probabilities, atol=1e-6)


def test_a_direction_that_all_share_does_not_count(make_set):
    made = make_set(widths=(8,))
    moved = replace(made, vectors={"m0": made.vectors["m0"] + np.float32(100)})
    first, second = (run(m, shots=[4])["m0", "shots=4"] for m in (made, moved))
    for a, b in zip(first.outcome.outcomes, second.outcome.outcomes, strict=True):
        assert np.allclose(a.probabilities, b.probabilities, atol=1e-3)


def test_centroids_have_no_probabilities(make_set):
    output = run(make_set(), shots=[2], head="nearest_centroid")["m0", "shots=2"]
    assert output.outcome.metrics == ("accuracy", "balanced_accuracy", "macro_f1")


def test_too_few_rows_say_so(make_set):
    made = make_set()
    small = np.flatnonzero((made.labels == 1) & (made.splits == "train"))[3:]
    labels = made.labels.copy()
    labels[small] = -1
    outputs = run(replace(made, labels=labels), shots=[2, 4])
    assert outputs["m0", "shots=2"].missing is None
    reason = "class class1 has only 3 train rows of the 4 needed"
    assert outputs["m0", "shots=4"].missing == reason
    unlabelled = run(make_set(labels=np.full(240, -1)), shots=[1])
    assert unlabelled["m0", "shots=1"].missing == "no labelled rows in the train split"


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"head": "logstic"}, "Did you mean 'logistic'"),
        ({"c": 0}, "a number above 0"),
        ({"shots": [0]}, "whole numbers above 0"),
        ({"shots": []}, "one at least"),
        ({"seeds": []}, "one at least"),
        ({"seeds": [1, 1]}, "each once"),
    ],
)
def test_settings_that_cannot_be(make_set, settings, words):
    from shared.errors import ConfigError

    with pytest.raises(ConfigError, match=words):
        run(make_set(), **settings)
