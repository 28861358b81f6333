"""What is reached without a model: a uniform guess, and the best answer that ignores the input."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.outcomes import ClassOutcome, TagOutcome, ValueOutcome
from shared.evaluation.outcomes.classes import classification_metrics
from shared.evaluation.protocol import Rows

Floats = NDArray[np.float64]
MAJORITY = "most frequent class of the train split"
PREVALENCE = "share of each tag in the train split"
MEAN = "mean of the train split"
MIN_CLASSES = 2


def classification_baseline(
    train_targets: NDArray[np.int64], truth: NDArray[np.int64], classes: Sequence[str]
) -> tuple[ClassOutcome, dict[str, float]]:
    """The most frequent class of the train split, and what a uniform guess reaches.

    The trivial outcome has the shares of the train split as probabilities. The guess is uniform
    among the classes of the train split: its accuracies are expected values (macro F1 in the limit
    of many rows), its log loss and Brier score those of uniform probabilities.

    Args:
        train_targets: (n_train,) class indices, at least one.
        truth: (n,) class indices of the test rows.
        classes: C names.

    Returns:
        The trivial outcome, and by metric the value of the guess.
    """
    n, n_classes = len(truth), len(classes)
    n_train = np.bincount(train_targets, minlength=n_classes)
    majority = np.full(n, n_train.argmax(), dtype=np.int64)
    shares = np.tile(n_train / n_train.sum(), (n, 1))
    guess = (n_train > 0) / (n_train > 0).sum()
    n_true = np.bincount(truth, minlength=n_classes).astype(np.float64)
    counts = classification_metrics(n_true * guess, n_true, n * guess)
    uniform = ClassOutcome(truth, majority, tuple(classes), np.tile(guess, (n, 1)))
    of_uniform = dict(zip(uniform.metrics, uniform.values().tolist(), strict=True))
    chance = dict(zip(uniform.metrics, counts.tolist(), strict=False))
    chance |= {metric: of_uniform[metric] for metric in ("auroc", "log_loss", "brier")}
    return ClassOutcome(truth, majority, tuple(classes), shares), _defined(chance)


def tag_baseline(
    train_targets: Floats, truth: Floats, tags: Sequence[str]
) -> tuple[TagOutcome, dict[str, float]]:
    """The share of each tag in the train split, and what a fair coin a tag reaches.

    A random order of the rows has an AUROC of 1/2 and, in the limit of many rows, the prevalence as
    average precision. The coin has a recall of 1/2 and the prevalence as precision (F1 in the limit
    of many rows), and a Brier score of 1/4 as the probability 1/2.

    Args:
        train_targets: (n_train, L) 0, 1 or NaN.
        truth: (n, L) 0, 1 or NaN of the test rows.
        tags: L names.
    """
    n = len(truth)
    prevalence = _share(truth)
    of_train = np.nan_to_num(_share(train_targets), nan=0.5)
    trivial = TagOutcome(truth, np.tile(of_train, (n, 1)), tuple(tags))
    there = prevalence[prevalence > 0]
    f1 = prevalence / (prevalence + 0.5)
    chance = {
        "auroc": 0.5 if ((prevalence > 0) & (prevalence < 1)).any() else np.nan,
        "mean_average_precision": float(there.mean()) if len(there) else np.nan,
        "macro_f1": float(np.nanmean(f1)) if np.isfinite(f1).any() else np.nan,
        "brier": 0.25 if np.isfinite(prevalence).any() else np.nan,
    }
    return trivial, _defined(chance)


def value_baseline(train_targets: Floats, truth: Floats) -> tuple[ValueOutcome, dict[str, float]]:
    """The mean of the train split; a random order has no correlation.

    Args:
        train_targets: (n_train,) numbers, at least one.
        truth: (n,) numbers of the test rows.
    """
    mean = np.full(len(truth), np.mean(train_targets), dtype=np.float64)
    return ValueOutcome(truth, mean), {"spearman": 0.0, "pearson": 0.0}


def reason_not_to_classify(train: Rows, test: Rows) -> str | None:
    """Why a classifier cannot be learned or judged on these rows, or None. One class among the test
    rows will do: in a fold there may be no other, and only the AUROC needs two."""
    if len(train) == 0:
        return "no labelled rows in the train split"
    if len(np.unique(train.targets)) < MIN_CLASSES:
        return f"fewer than {MIN_CLASSES} classes in the train split"
    return None if len(test) else "no labelled rows in the test split"


def _share(tags: Floats) -> Floats:
    """(L,) share of the known rows that have a tag; NaN where none is known."""
    known = (~np.isnan(tags)).sum(axis=0)
    share: Floats = np.divide(
        np.nansum(tags, axis=0), known, out=np.full(tags.shape[1], np.nan), where=known > 0
    )
    return share


def _defined(values: dict[str, float]) -> dict[str, float]:
    return {name: float(value) for name, value in values.items() if np.isfinite(value)}
