"""Folds that respect groups and classes, and predictions pooled over them."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.data.splits import assign_folds
from shared.errors import EvaluationError
from shared.evaluation.cross_validation import cross_validated, fold_sets, pool
from shared.evaluation.embeddings.embedding_set import LABEL, EmbeddingSet
from shared.evaluation.outcomes import (
    ClassOutcome,
    ClusterOutcome,
    RankOutcome,
    ScalarOutcome,
    SeededOutcome,
    ValueOutcome,
)
from shared.evaluation.protocol import Output, Protocol, Task, class_tasks, missing, rows_of
from shared.evaluation.protocols import knn, linear_probe, nearest_centroid

CLASSES = ("a", "b", "c")
TASK = Task(("x",), LABEL, inputs="x")


def embedding_set(n: int = 60, rows_a_group: int = 1, seed: int = 0) -> EmbeddingSet:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(n) % len(CLASSES)
    groups = np.array([f"g{row // rows_a_group}" for row in range(n)])
    return EmbeddingSet(
        ids=np.array([f"s{row}" for row in range(n)]),
        vectors={"x": (np.eye(3)[labels] + rng.normal(0, 0.3, (n, 3))).astype(np.float32)},
        present={"x": np.ones(n, bool)},
        labels=labels.astype(np.int64),
        classes=CLASSES,
        splits=np.full(n, "train"),
        groups=groups,
        dataset="made",
        model="made",
        synthetic=True,
        fingerprint="0",
        targets={"y": rng.normal(size=n)},
    )


def _nearest_centre(task, embeddings, settings):
    train, test = (rows_of(task, embeddings, split) for split in ("train", "test"))
    if len(np.unique(train.targets)) < len(CLASSES):
        return missing(task, embeddings, ("accuracy",), "a class has no train rows")
    centres = np.stack([train.vectors[train.targets == c].mean(0) for c in range(len(CLASSES))])
    predicted = (test.vectors @ centres.T).argmax(axis=1)
    majority = np.full(len(test), np.bincount(train.targets).argmax())
    return Output(
        test.index,
        ClassOutcome(test.targets, predicted, CLASSES),
        trivial=ClassOutcome(test.targets, majority, CLASSES),
        chance={"accuracy": len(test) / 100},
        settings={
            "n_train": len(train),
            "head": "centre",
            "strengths": [float(len(test)), float(test.index[0])],
        },
    )


NEAREST = Protocol("nearest", 1, "nearest centre", class_tasks, _nearest_centre)


def judge(protocol, embeddings):
    return protocol.run(TASK, embeddings, protocol.settings)


@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=30),
    folds=st.integers(2, 6),
    seed=st.integers(0, 5),
)
def test_folds_keep_groups_whole_and_are_even(sizes, folds, seed):
    groups = np.repeat([f"g{i}" for i in range(len(sizes))], sizes)
    labels = np.repeat(np.arange(len(sizes)) % 2, sizes)
    fold = assign_folds(groups, labels, folds, seed)
    assert all(len(set(fold[groups == g])) == 1 for g in set(groups))
    for label in (0, 1):
        rows = np.bincount(fold[labels == label], minlength=folds)
        assert np.ptp(rows) <= max(sizes)
    order = np.random.default_rng(seed).permutation(len(groups))
    assert (assign_folds(groups[order], labels[order], folds, seed) == fold[order]).all()


def test_singletons_are_dealt_out_evenly():
    fold = assign_folds([f"s{i}" for i in range(103)], np.arange(103) % 4, folds=5)
    assert np.ptp(np.bincount(fold)) <= 1
    assert assign_folds([], [], folds=5).shape == (0,)
    other = assign_folds([f"s{i}" for i in range(103)], np.arange(103) % 4, folds=5, seed=1)
    assert (other != fold).any()


def test_every_row_is_judged_once_and_no_group_straddles():
    embeddings = embedding_set(90, rows_a_group=3)
    sets = list(fold_sets(embeddings, 5))
    judged = np.concatenate([np.flatnonzero(s.splits == "test") for s in sets])
    assert sorted(judged) == list(range(90))
    for fold in sets:
        for group in np.unique(fold.groups):
            assert len(set(fold.splits[fold.groups == group])) == 1
        shares = [(fold.splits == split).mean() for split in ("train", "val", "test")]
        assert shares == pytest.approx([0.64, 0.16, 0.2], abs=0.07)


@pytest.mark.parametrize("folds", [0, 1, 61])
def test_refuses_impossible_folds(folds):
    with pytest.raises(EvaluationError, match="there are 60 groups"):
        list(fold_sets(embedding_set(), folds))


def test_pools_predictions_of_all_folds():
    embeddings = embedding_set()
    whole = judge(cross_validated(NEAREST, 5), embeddings)
    by_hand = [NEAREST.run(TASK, fold, {}) for fold in fold_sets(embeddings, 5)]
    assert (whole.rows == np.concatenate([o.rows for o in by_hand])).all()
    right = sum((o.outcome.truth == o.outcome.predicted).sum() for o in by_hand)
    assert whole.outcome.values()[0] == pytest.approx(right / 60)
    assert (whole.outcome.truth == embeddings.labels[whole.rows]).all()
    assert whole.chance["accuracy"] == pytest.approx(0.12)
    assert whole.settings["head"] == "centre"
    assert sum(np.atleast_1d(whole.settings["n_train"])) > 0
    assert whole.settings["strengths.fold_5"] == by_hand[4].settings["strengths"]


def test_its_settings_tell_it_from_the_test_split():
    judged = cross_validated(NEAREST, 4, seed=2)
    assert judged.settings == {"folds": 4, "fold_seed": 2}
    assert judged.name == NEAREST.name


def test_leaves_one_out():
    embeddings = embedding_set(15)
    output = judge(cross_validated(NEAREST, folds=15), embeddings)
    assert sorted(output.rows) == list(range(15))


def test_classes_are_counted_over_all_folds():
    """Of leaving one out every fold has one class."""
    embeddings = embedding_set(24)
    for protocol in (linear_probe.PROTOCOL, knn.PROTOCOL, nearest_centroid.PROTOCOL):
        judged = cross_validated(protocol, folds=24)
        output = judge(judged, embeddings)
        values = dict(zip(output.outcome.metrics, output.outcome.values(), strict=True))
        assert values["accuracy"] > 0.7
        assert values.get("auroc", 1) > 0.7
        assert output.chance["balanced_accuracy"] == pytest.approx(1 / 3)


def test_prepare_sees_the_splits_of_each_fold():
    tests = []

    def prepare(fold):
        tests.append(np.flatnonzero(fold.splits == "test"))
        return replace(fold, vectors={"x": -fold.vectors["x"]})

    output = judge(cross_validated(NEAREST, 4, prepare=prepare), embedding_set())
    assert (np.concatenate(tests) == output.rows).all()


def test_says_which_fold_is_missing_and_why():
    few = replace(embedding_set(9), labels=np.array([0] * 5 + [1] * 3 + [2]))
    output = judge(cross_validated(NEAREST, 3), few)
    assert output.outcome is None
    assert "of 3: a class has no train rows" in output.missing


@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (ClusterOutcome(np.zeros(2, int), np.zeros(2, int), CLASSES), "clusters of one fold"),
        (ScalarOutcome({"uniformity": -1.0}, 2), "whole set"),
    ],
)
def test_what_has_no_rows_of_its_own_is_missing(outcome, reason):
    protocol = replace(NEAREST, run=lambda *_: Output(np.arange(2), outcome))
    output = judge(cross_validated(protocol, 2), embedding_set())
    assert output.outcome is None
    assert reason in output.missing
    assert output.metrics == outcome.metrics


def test_mean_of_the_training_rows_stays_without_correlation():
    """Of each fold it is constant, and low where the fold is high."""

    def run(task, embeddings, settings):
        train, test = (embeddings.truth("y")[embeddings.rows(s)] for s in ("train", "test"))
        trivial = ValueOutcome(test, np.full(len(test), train.mean()))
        return Output(embeddings.rows("test"), trivial, trivial=trivial)

    output = judge(cross_validated(replace(NEAREST, run=run), 30), embedding_set(30))
    assert output.outcome.values()[4] < -0.5  # Pearson of the training means
    assert np.ptp(output.trivial.predicted) == 0
    assert "pearson" in output.trivial.reasons()


def test_pools_seeds_and_ranks():
    first = ClassOutcome(np.array([0, 1]), np.array([0, 1]), CLASSES)
    second = ClassOutcome(np.array([2]), np.array([0]), CLASSES)
    seeded = pool([SeededOutcome((o, o), (0, 1)) for o in (first, second)])
    assert seeded.seeds == (0, 1)
    assert seeded.outcomes[1].truth.tolist() == [0, 1, 2]
    ranks = pool([RankOutcome(np.array([1, 3]), 3), RankOutcome(np.array([4]), 4)])
    assert ranks.ranks.tolist() == [1, 3, 4]
    assert ranks.n_candidates == 4


def test_a_column_that_one_fold_lacks_is_left_out():
    probabilities = np.full((1, 3), 1 / 3)
    zero = np.zeros(1, np.int64)
    with_it = ClassOutcome(zero, zero, CLASSES, probabilities, probabilities)
    without = ClassOutcome(zero, zero, CLASSES, probabilities)
    pooled = pool([with_it, without])
    assert pooled.calibrated is None
    assert pooled.probabilities.shape == (2, 3)
