import numpy as np
import pytest
from sklearn.metrics import f1_score

from shared.evaluation.baselines import (
    classification_baseline,
    reason_not_to_classify,
    tag_baseline,
    value_baseline,
)
from shared.evaluation.outcomes import ClassOutcome, TagOutcome
from shared.evaluation.protocol import Rows

CLASSES = ("a", "b", "c", "d")


def by_name(outcome):
    return dict(zip(outcome.metrics, outcome.values().tolist(), strict=True))


def test_chance_is_what_uniform_guesses_reach():
    truth = np.repeat([0, 1, 2, 3], [1000, 600, 300, 100])
    rng = np.random.default_rng(0)
    guesses = [by_name(ClassOutcome(truth, rng.integers(4, size=2000), CLASSES)) for _ in range(30)]
    _, chance = classification_baseline(truth, truth, CLASSES)
    for metric in ("accuracy", "balanced_accuracy", "macro_f1"):
        assert np.mean([g[metric] for g in guesses]) == pytest.approx(chance[metric], abs=0.005)
    assert chance["balanced_accuracy"] == pytest.approx(0.25)
    assert chance["auroc"] == 0.5
    assert chance["log_loss"] == pytest.approx(np.log(4))
    assert chance["brier"] == pytest.approx(0.75)


def test_trivial_is_the_majority_of_train_not_of_test():
    truth = np.array([0, 0, 0, 1, 2, 3])
    trivial, _ = classification_baseline(np.array([1, 1, 0, 2]), truth, CLASSES)
    found = by_name(trivial)
    assert trivial.predicted.tolist() == [1] * 6
    assert found["accuracy"] == pytest.approx(1 / 6)
    assert found["macro_f1"] == pytest.approx(f1_score(truth, [1] * 6, average="macro"))
    assert found["auroc"] == 0.5
    assert trivial.probabilities[0].tolist() == [0.25, 0.5, 0.25, 0]


def test_classes_that_train_lacks_cannot_be_guessed():
    truth = np.array([0, 1, 3])
    _, chance = classification_baseline(np.array([0, 1, 2]), truth, CLASSES)
    assert chance["accuracy"] == pytest.approx(2 / 9)


def test_one_class_in_test_has_no_chance_of_auroc():
    _, chance = classification_baseline(np.array([0, 1]), np.array([0, 0]), ("a", "b"))
    assert "auroc" not in chance


def test_tags_by_chance_and_by_prevalence():
    rng = np.random.default_rng(0)
    truth = (rng.random((20_000, 2)) < [0.2, 0.6]).astype(float)
    train = np.array([[1, 0], [0, 0], [0, np.nan], [0, np.nan]])
    trivial, chance = tag_baseline(train, truth, ("x", "y"))
    assert trivial.scores[0].tolist() == [0.25, 0.0]
    assert by_name(trivial)["auroc"] == 0.5
    assert by_name(trivial)["mean_average_precision"] == pytest.approx(truth.mean())
    random = by_name(TagOutcome(truth, rng.random(truth.shape), ("x", "y")))
    for metric in ("auroc", "mean_average_precision", "macro_f1"):
        assert random[metric] == pytest.approx(chance[metric], abs=0.01)


def test_tags_nobody_has_have_no_chance():
    trivial, chance = tag_baseline(np.empty((0, 1)), np.zeros((3, 1)), ("x",))
    assert trivial.scores.tolist() == [[0.5]] * 3
    assert set(chance) == {"macro_f1", "brier"}


def test_numbers_by_the_mean_of_train():
    trivial, chance = value_baseline(np.array([1.0, 3.0]), np.array([2.0, 4.0]))
    assert trivial.predicted.tolist() == [2.0, 2.0]
    assert by_name(trivial)["r2"] == pytest.approx(-1.0)
    assert chance == {"spearman": 0.0, "pearson": 0.0}


@pytest.mark.parametrize(
    ("train", "test", "reason"),
    [
        ([], [0, 1], "no labelled rows in the train"),
        ([0, 1], [], "no labelled rows in the test"),
        ([0, 0], [0, 1], "fewer than 2 classes in the train"),
        ([0, 1], [1, 1], None),
        ([0, 1], [1, 0], None),
    ],
)
def test_reasons_not_to_classify(train, test, reason):
    def rows(targets):
        n = len(targets)
        return Rows(np.ones((n, 2)), np.array(targets, int), np.full(n, "g"), np.arange(n))

    found = reason_not_to_classify(rows(train), rows(test))
    assert (found is None) if reason is None else (reason in found)
