"""Whether probabilities mean what they say, and the one number that makes them say it better."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.special import log_softmax, stdtrit

from shared.errors import EvaluationError
from shared.evaluation.outcomes.checks import check_codes, check_finite, check_length
from shared.evaluation.outcomes.classes import confidence_bin

Floats = NDArray[np.float64]

TEMPERATURES = (0.01, 100.0)
"""Bounds of a fitted temperature. The upper is reached where the logits say nothing or worse."""


def fit_temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """The temperature T > 0 whose softmax(logits / T) has the least log loss.

    Source: Guo et al. 2017 (arXiv:1706.04599), Section 4.2. The loss is convex in 1 / T; the zero
    of its derivative, the mean of expected minus true logit, is found by Brent's method to 1e-10
    relative. Predictions stay the same, as no order changes.

    Args:
        logits: (n, C) of validation rows, finite; logarithms of probabilities are as good.
        truth: (n,) class indices.

    Returns:
        T in `TEMPERATURES`; the upper bound where the loss falls up to there; 1 where none is the
        best: every validation row is right, so that any smaller T has a smaller loss (a few rows
        would claim certainty), or every logit of a row is the same.

    Raises:
        EvaluationError: No rows, or arrays that do not fit each other.
    """
    if logits.ndim != 2 or len(logits) == 0:
        raise EvaluationError(f"logits of shape {logits.shape}: a temperature needs (n, C), n > 0.")
    check_length("logits", logits, len(truth))
    check_codes("truth", truth, logits.shape[1])
    check_finite("logits", logits)
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    if not shifted.any():
        return 1.0
    of_truth = shifted[np.arange(len(truth)), truth].mean()

    def slope(log_inverse: float) -> float:
        """Derivative of the mean loss by 1 / T."""
        p = np.exp(log_softmax(np.exp(log_inverse) * shifted, axis=1))
        return float((p * shifted).sum(axis=1).mean() - of_truth)

    coldest, hottest = (-np.log(t) for t in TEMPERATURES)
    if slope(coldest) <= 0:
        return 1.0
    if slope(hottest) >= 0:
        return TEMPERATURES[1]
    return float(np.exp(-brentq(slope, hottest, coldest, xtol=1e-10)))


@dataclass(frozen=True)
class Reliability:
    """Rows by their confidence, the largest probability.

    Attributes:
        edges: (M + 1,) of the bins, each open below and closed above.
        confidence: (M,) mean; NaN in an empty bin, as all that follows.
        accuracy: (M,) share of right predictions.
        low: (M,) lower ends of the intervals of the accuracy.
        high: (M,) upper ends.
        count: (M,) rows.
    """

    edges: Floats
    confidence: Floats
    accuracy: Floats
    low: Floats
    high: Floats
    count: NDArray[np.int64]


def reliability(
    probabilities: Floats, truth: NDArray[np.int64], n_bins: int = 10, level: float = 0.95
) -> Reliability:
    """Accuracy against confidence in equal bins (Guo et al. 2017, arXiv:1706.04599, Section 2).

    Intervals are Wilson's (1927, JASA 22:209), of independent rows.

    Args:
        probabilities: (n, C) rows that sum to 1.
        truth: (n,) class indices.
        n_bins: M.
        level: Coverage of the intervals.
    """
    confidence = probabilities.max(axis=1, initial=0.0)
    right = probabilities.argmax(axis=1) == truth
    place = confidence_bin(confidence, n_bins)
    count = np.bincount(place, minlength=n_bins)
    sums = [np.bincount(place, values, n_bins) for values in (confidence, right)]
    with np.errstate(invalid="ignore"):
        mean, accuracy = (total / count for total in sums)
    low, high = wilson_interval(accuracy, count, level)
    return Reliability(np.linspace(0, 1, n_bins + 1), mean, accuracy, low, high, count)


def wilson_interval(
    share: Floats | float, n: NDArray[Any] | float, level: float = 0.95, df: float = np.inf
) -> tuple[Floats, Floats]:
    """Score interval of shares of n independent rows (Wilson 1927, JASA 22:209); NaN for n = 0.

    Args:
        share: Of the rows, 0 to 1.
        n: Rows, or the effective number of them.
        level: Coverage.
        df: Degrees of freedom of the t quantile that stands for the normal one where the variance
            was estimated; inf: it was not.
    """
    z2 = stdtrit(df, (1 + level) / 2) ** 2
    with np.errstate(divide="ignore", invalid="ignore"):
        centre = (share + z2 / (2 * n)) / (1 + z2 / n)
        half = np.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n**2))) / (1 + z2 / n)
    return np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
