"""Metrics against scikit-learn, scipy and torchmetrics, on data with ties."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from scipy.stats import pearsonr, spearmanr
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.functional.classification import multilabel_auroc as tm_multilabel_auroc

from shared.errors import EvaluationError
from shared.evaluation.outcomes import (
    ClassOutcome,
    ClusterOutcome,
    MeanOutcome,
    RankOutcome,
    TagOutcome,
    ValueOutcome,
)

CLASSES = ("a", "b", "c", "d")
PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)
SEEDS = st.integers(0, 10**6)


def by_name(outcome):
    return dict(zip(outcome.metrics, outcome.values().tolist(), strict=True))


def probabilities(rng, truth, n_classes):
    logits = np.round(2 * (rng.normal(size=(len(truth), n_classes)) + np.eye(n_classes)[truth])) / 2
    return softmax(logits, axis=1)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.filterwarnings("ignore:A single label")
@given(PAIRS)
def test_labels_are_scored_as_scikit_learn_does(pairs):
    truth, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    assert by_name(ClassOutcome(truth, predicted, CLASSES)) == pytest.approx(
        {
            "accuracy": sk.accuracy_score(truth, predicted),
            "balanced_accuracy": sk.balanced_accuracy_score(truth, predicted),
            "macro_f1": sk.f1_score(truth, predicted, average="macro", zero_division=0),
        }
    )


@settings(max_examples=30)
@given(PAIRS, st.permutations(range(4)))
def test_the_order_of_the_classes_does_not_matter(pairs, permutation):
    truth, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    p = np.array(permutation)
    renamed = ClassOutcome(p[truth], p[predicted], CLASSES)
    np.testing.assert_allclose(renamed.values(), ClassOutcome(truth, predicted, CLASSES).values())


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 4))
def test_probabilities_are_scored_as_the_libraries_do(seed, n_classes):
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(n_classes), rng.integers(n_classes, size=40)])
    p = probabilities(rng, truth, n_classes)
    found = by_name(ClassOutcome(truth, p.argmax(1), CLASSES[:n_classes], p))
    score = p[:, 1] if n_classes == 2 else p
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, score, multi_class="ovr"))
    assert found["log_loss"] == pytest.approx(sk.log_loss(truth, p))
    assert found["brier"] == pytest.approx(
        sk.brier_score_loss(truth, p, labels=range(n_classes), scale_by_half=False)
    )


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.integers(2, 4))
def test_calibration_error_is_that_of_torchmetrics(seed, n_classes):
    rng = np.random.default_rng(seed)
    truth = rng.integers(n_classes, size=60)
    p = softmax(rng.normal(size=(60, n_classes)), axis=1)
    found = by_name(ClassOutcome(truth, p.argmax(1), CLASSES[:n_classes], p))
    tensors = torch.tensor(p), torch.tensor(truth)
    expected = multiclass_calibration_error(*tensors, n_classes, n_bins=15)
    assert found["ece"] == pytest.approx(float(expected), abs=1e-6)


def test_probabilities_by_hand():
    p = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8]])
    found = by_name(ClassOutcome(np.array([0, 1, 1]), p.argmax(1), ("no", "yes"), p))
    assert found["auroc"] == 1.0
    assert found["brier"] == pytest.approx(2 * (0.01 + 0.36 + 0.04) / 3)
    assert found["ece"] == pytest.approx((0.1 + 0.6 + 0.2) / 3)
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.4, 0.8]).mean())


def test_a_class_that_is_absent_has_no_auroc_and_does_not_spoil_the_mean():
    rng = np.random.default_rng(0)
    truth = rng.integers(3, size=60)
    p = probabilities(rng, truth, 4)
    of_class = [sk.roc_auc_score(truth == c, p[:, c]) for c in range(3)]
    found = by_name(ClassOutcome(truth, p.argmax(1), CLASSES, p))
    assert found["auroc"] == pytest.approx(np.mean(of_class))


def test_a_sure_mistake_costs_a_finite_log_loss():
    p = np.array([[1.0, 0.0], [1.0, 0.0]])
    found = by_name(ClassOutcome(np.array([0, 1]), np.array([0, 0]), ("a", "b"), p))
    assert found["log_loss"] == pytest.approx(sk.log_loss([0, 1], p))
    assert found["auroc"] == 0.5


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_auroc_and_average_precision_do_not_change_with_a_rising_function(seed):
    rng = np.random.default_rng(seed)
    truth = (rng.random((30, 2)) < 0.4).astype(float)
    scores = np.round(rng.random((30, 2)), 1)
    before, after = (TagOutcome(truth, s, ("x", "y")).values() for s in (scores, scores**3 / 2))
    np.testing.assert_allclose(before[:2], after[:2], atol=1e-12)


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_tags_are_scored_as_the_libraries_do(seed):
    rng = np.random.default_rng(seed)
    truth = (rng.random((40, 3)) < 0.4).astype(float)
    truth[:2] = [[0, 0, 0], [1, 1, 1]]
    scores = np.round(0.7 * rng.random((40, 3)) + 0.3 * truth, 1)
    found = by_name(TagOutcome(truth, scores, ("x", "y", "z")))
    auroc = tm_multilabel_auroc(torch.tensor(scores), torch.tensor(truth).long(), num_labels=3)
    assert found["auroc"] == pytest.approx(float(auroc), abs=1e-6)
    assert found["auroc"] == pytest.approx(sk.roc_auc_score(truth, scores))
    expected = sk.average_precision_score(truth, scores, average="macro")
    assert found["mean_average_precision"] == pytest.approx(expected)
    expected = sk.f1_score(truth, scores >= 0.5, average="macro", zero_division=0)
    assert found["macro_f1"] == pytest.approx(expected)
    assert found["brier"] == pytest.approx(np.mean((scores - truth) ** 2))


def test_unknown_tags_are_left_out_tag_by_tag():
    rng = np.random.default_rng(1)
    truth = (rng.random((50, 2)) < 0.5).astype(float)
    scores = np.round(rng.random((50, 2)), 1)
    truth[rng.random((50, 2)) < 0.3] = np.nan
    found = by_name(TagOutcome(truth, scores, ("x", "y")))
    known = [~np.isnan(column) for column in truth.T]
    parts = [(truth[k, i], scores[k, i]) for i, k in enumerate(known)]
    assert found["auroc"] == pytest.approx(np.mean([sk.roc_auc_score(*p) for p in parts]))
    expected = np.mean([sk.average_precision_score(*p) for p in parts])
    assert found["mean_average_precision"] == pytest.approx(expected)
    expected = np.mean([sk.f1_score(t, s >= 0.5) for t, s in parts])
    assert found["macro_f1"] == pytest.approx(expected)


def test_tags_that_nobody_has_say_so():
    outcome = TagOutcome(np.zeros((5, 2)), np.full((5, 2), 0.2), ("x", "y"))
    assert set(outcome.reasons()) == {"auroc", "mean_average_precision", "macro_f1"}
    assert by_name(outcome)["brier"] == pytest.approx(0.04)


@settings(max_examples=25, deadline=None)
@given(SEEDS, st.sampled_from([0.0, 1e6]))
def test_numbers_are_scored_as_the_libraries_do(seed, shift):
    rng = np.random.default_rng(seed)
    truth = np.round(rng.normal(size=30), 1) + shift
    predicted = np.round(truth + rng.normal(size=30), 1)
    assert by_name(ValueOutcome(truth, predicted)) == pytest.approx(
        {
            "r2": sk.r2_score(truth, predicted),
            "rmse": sk.root_mean_squared_error(truth, predicted),
            "mae": sk.mean_absolute_error(truth, predicted),
            "spearman": spearmanr(truth, predicted).statistic,
            "pearson": pearsonr(truth, predicted).statistic,
        },
        rel=1e-6,
    )


@settings(max_examples=25, deadline=None)
@given(SEEDS)
def test_ranks_of_numbers_do_not_change_with_a_rising_function(seed):
    rng = np.random.default_rng(seed)
    truth, predicted = np.round(rng.normal(size=(2, 20)), 1)
    before = by_name(ValueOutcome(truth, predicted))
    after = by_name(ValueOutcome(np.exp(truth), 3 * predicted - 7))
    assert after["spearman"] == pytest.approx(before["spearman"])


@pytest.mark.parametrize(
    ("truth", "predicted", "missing"),
    [
        ([1.0, 1, 1], [1.0, 2, 3], {"r2", "spearman", "pearson"}),
        ([1.0, 2, 3], [0.1, 0.1, 0.1], {"spearman", "pearson"}),
        ([5.0], [4.0], {"r2", "spearman", "pearson"}),
        ([], [], {"r2", "rmse", "mae", "spearman", "pearson"}),
    ],
)
def test_numbers_without_spread(truth, predicted, missing):
    outcome = ValueOutcome(np.array(truth), np.array(predicted))
    assert set(outcome.reasons()) == missing
    assert {m for m, v in by_name(outcome).items() if np.isnan(v)} == missing


def test_ranks_by_hand():
    outcome = RankOutcome(np.array([1, 2, 8, 30]), 30, np.array([1.0, 0.5, 0.25, 0.0]))
    assert by_name(outcome) == pytest.approx(
        {
            "recall@1": 0.25,
            "recall@5": 0.5,
            "recall@10": 0.75,
            "median_rank": 5.0,
            "mrr": (1 + 1 / 2 + 1 / 8 + 1 / 30) / 4,
            "map": 0.4375,
        }
    )


def test_recall_at_k_of_k_candidates_would_be_1_of_anything():
    outcome = RankOutcome(np.array([1, 5, 3]), 5)
    assert set(outcome.reasons()) == {"recall@5", "recall@10"}
    assert by_name(outcome)["recall@1"] == pytest.approx(1 / 3)


@settings(max_examples=40, deadline=None)
@given(PAIRS)
def test_clusters_are_scored_as_scikit_learn_does(pairs):
    truth, clusters = (np.array(column) for column in zip(*pairs, strict=True))
    found = by_name(ClusterOutcome(truth, clusters * 5 - 3, CLASSES))
    nmi = sk.normalized_mutual_info_score(truth, clusters)
    assert found["nmi"] == pytest.approx(nmi, abs=1e-9)
    assert found["ari"] == pytest.approx(sk.adjusted_rand_score(truth, clusters), abs=1e-9)


P = np.array([[0.5, 0.5]])
BAD = {
    "length": lambda: ClassOutcome(np.array([0, 1]), np.array([0]), ("a", "b")),
    "from -1 to 1": lambda: ClassOutcome(np.array([-1, 1]), np.array([0, 1]), ("a", "b")),
    "each name once": lambda: ClassOutcome(np.array([0]), np.array([0]), ("a", "a")),
    "integers": lambda: ClassOutcome(np.array([0.0]), np.array([0]), ("a", "b")),
    "no probabilities": lambda: ClassOutcome(np.array([0]), np.array([0]), ("a", "b"), P * 3),
    "expected (1, 3)": lambda: ClassOutcome(np.array([0]), np.array([0]), ("a", "b", "c"), P),
    "NaN or infinity": lambda: ValueOutcome(np.array([1.0]), np.array([np.nan])),
    "0, 1 or NaN": lambda: TagOutcome(np.array([[0.5]]), np.array([[0.5]]), ("x",)),
    "sigmoid": lambda: TagOutcome(np.array([[1.0]]), np.array([[1.5]]), ("x",)),
    "the first is 1": lambda: RankOutcome(np.array([0]), 5),
    "5 candidates": lambda: RankOutcome(np.array([6]), 5),
    "between 0 and 1": lambda: RankOutcome(np.array([1]), 5, np.array([2.0])),
}


@pytest.mark.parametrize("message", BAD)
def test_arrays_that_do_not_fit_are_refused(message):
    expected = "predicted has 1 rows" if message == "length" else message
    with pytest.raises(EvaluationError) as error:
        BAD[message]()
    assert expected in str(error.value)


def test_means_by_hand():
    made = MeanOutcome({"rsu": np.array([0.0, 0.5, 1.0]), "ras": np.array([1.0, 1.0, 0.4])})
    assert made.values() == pytest.approx([0.5, 0.8])
    assert made.statistic(np.array([[2.0, 0, 2], [0, 0, 0]]))[0] == pytest.approx([0.5, 0.7])
    assert np.isnan(made.statistic(np.zeros((1, 3)))).all()
    assert MeanOutcome({"rsu": np.array([])}).reasons() == {"rsu": "no test rows"}


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({}, "no metric"),
        ({"rsu": np.zeros(2), "ras": np.zeros(3)}, "ras has 3 rows"),
        ({"rsu": np.array([np.nan])}, "rsu holds NaN"),
    ],
)
def test_means_that_cannot_be_taken_are_refused(numbers, message):
    with pytest.raises(EvaluationError, match=message):
        MeanOutcome(numbers)
