"""Statistics of rows under many draws at once.

Weights come as (n, b): how often each of n rows counts in each of b draws, whole numbers. A row of
them is contiguous, so that sorting rows and adding them up run at the speed of memory.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_ROUNDING = 1e-14
"""Relative to the largest value, deviations from a mean that are rounding and not spread."""


def ratio(numerator: Floats, denominator: Floats) -> Floats:
    """Elementwise quotient; NaN where the denominator is 0."""
    numerator, denominator = np.broadcast_arrays(numerator, denominator)
    nothing = np.full(numerator.shape, np.nan)
    quotient: Floats = np.divide(numerator, denominator, out=nothing, where=denominator != 0)
    return quotient


def mean_of_defined(values: Floats, axis: int) -> Floats:
    """Mean over an axis of what is not NaN; NaN where all is."""
    defined = ~np.isnan(values)
    return ratio(np.where(defined, values, 0.0).sum(axis), defined.sum(axis).astype(np.float64))


def indicator(rows: Integers, codes: Integers, n_codes: int, n: int) -> Any:
    """(n_codes, n) sparse zeros and ones: of each code, which of n rows have it.

    Args:
        rows: (k,) indices of rows, each at most once.
        codes: (k,) code of each.
        n_codes: Number of codes.
        n: Number of rows.
    """
    order = np.argsort(codes, kind="stable")
    starts = np.searchsorted(codes[order], np.arange(n_codes + 1))
    return csr_array(
        (_ones(n)[: len(rows)], rows[order].astype(np.int32), starts.astype(np.int32)),
        shape=(n_codes, n),
    )


@lru_cache(maxsize=1)
def _ones(n: int) -> Floats:
    """Shared by all matrices of an outcome, of which a thousand classes have thousands."""
    return np.ones(n)


def weighted_median(values: Integers, weights: Floats) -> Floats:
    """(b,) medians of (n,) values under (n, b) weights; NaN in a draw without rows."""
    if len(values) == 0:
        return np.full(weights.shape[1], np.nan)
    order = values.argsort(kind="stable")
    below = weights[order].cumsum(axis=0)
    half = below[-1] / 2
    lower, upper = (below >= half).argmax(axis=0), (below > half).argmax(axis=0)
    median: Floats = (values[order[lower]] + values[order[upper]]) / 2
    return np.where(half > 0, median, np.nan)


def midranks(values: Floats, weights: Floats) -> Floats:
    """(n, b) rank of each row among the drawn rows, the mean rank where values tie: what
    scipy.stats.rankdata gives when each row is repeated as often as it counts."""
    distinct, code = np.unique(values, return_inverse=True)
    drawn = indicator(np.arange(len(code)), code, len(distinct), len(code)) @ weights
    ranks: Floats = (drawn.cumsum(axis=0) - (drawn - 1) / 2)[code]
    return ranks


def mean(values: Floats, weights: Floats) -> Floats:
    """(b,) or (b, k) means of (n,) or (n, k) values under (n, b) weights."""
    total = weights.sum(axis=0)
    return ratio(weights.T @ values, total if values.ndim == 1 else total[:, None])


def centred(values: Floats, weights: Floats) -> tuple[Floats, Floats]:
    """(n, b) deviations of (n,) or (n, b) values from the mean of each draw, and their (b,) sums of
    squares: exactly 0 where only rounding is left, in a draw of rows that are all alike."""
    values = values[:, None] if values.ndim == 1 else values
    total = weights.sum(axis=0)
    deviations = values - ratio((weights * values).sum(axis=0), total)
    squares = (weights * deviations**2).sum(axis=0)
    rounding = total * (_ROUNDING * np.abs(values).max(axis=0, initial=0.0)) ** 2
    return deviations, np.where(squares > rounding, squares, 0.0)


def correlation(x: Floats, y: Floats, weights: Floats) -> Floats:
    """(b,) Pearson correlation under (n, b) weights of (n,) or (n, b) values; NaN where one of the
    two is constant among the drawn rows."""
    (x, xx), (y, yy) = centred(x, weights), centred(y, weights)
    return np.clip(ratio((weights * x * y).sum(axis=0), np.sqrt(xx) * np.sqrt(yy)), -1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Ranked:
    """Rows of one class ranked by score among those of the others, highest first.

    The j-th step is the j-th largest score that a positive row has. Sums over the rows of a step
    are products with sparse 0/1 matrices, made once for all draws.

    Attributes:
        positives: (J, n) rows that are positive with the score of the step.
        negatives: (J, n) other rows with this score or between it and the step before.
        tied: (J, n) other rows with this very score.
        others: (n,) 1 for rows that are known not to be positive.
    """

    positives: Any
    negatives: Any
    tied: Any
    others: Floats

    @classmethod
    def of(cls, scores: Floats, positive: NDArray[np.bool_], known: NDArray[np.bool_]) -> "Ranked":
        """Of (n,) scores, whether a row is positive, and whether that is known."""
        positive, other = positive & known, ~positive & known
        steps = np.unique(scores[positive])
        n, n_steps = len(scores), len(steps)
        # ascending place of each score among the steps, turned to count from the top
        last_below = np.searchsorted(steps, scores, side="right") - 1
        step = n_steps - 1 - last_below
        above_a_step = other & (last_below >= 0)
        tied = above_a_step.copy()
        tied[above_a_step] = steps[last_below[above_a_step]] == scores[above_a_step]

        def matrix(chosen: NDArray[np.bool_]) -> Any:
            rows = np.flatnonzero(chosen)
            return indicator(rows, step[rows], n_steps, n)

        return cls(matrix(positive), matrix(above_a_step), matrix(tied), other.astype(np.float64))

    def auroc(self, weights: Floats) -> Floats:
        """(b,) share of pairs of a positive and another row in which the positive has the larger
        score, ties counting half (Hanley & McNeil 1982, Radiology 143:29); NaN without a pair."""
        positives, others = self.positives @ weights, self.others @ weights
        at_or_above = (self.negatives @ weights).cumsum(axis=0)
        below = others - at_or_above + (self.tied @ weights) / 2
        return ratio((positives * below).sum(axis=0), positives.sum(axis=0) * others)

    def average_precision(self, weights: Floats) -> Floats:
        """(b,) precision at each step, weighted by the recall that the step adds; rows that tie
        come together (sklearn.metrics.average_precision_score); NaN without a positive."""
        positives = self.positives @ weights
        found = positives.cumsum(axis=0)
        retrieved = found + (self.negatives @ weights).cumsum(axis=0)
        precision = np.divide(found, retrieved, out=np.zeros_like(found), where=retrieved > 0)
        return ratio((positives * precision).sum(axis=0), positives.sum(axis=0))
