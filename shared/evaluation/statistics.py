"""Bootstrap intervals that resample the units which are independent (stars, patients)."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Statistic = Callable[[Floats], Floats]
"""Weights (b, n), how often each sample is drawn → (b, m) values of m metrics."""

_BLOCK_ELEMENTS = 8_000_000
"""Weights held at a time; bounds memory at 64 MB whatever the number of samples."""


@dataclass(frozen=True)
class Intervals:
    """Intervals of m metrics.

    Attributes:
        low: (m,) lower ends; None with fewer than two groups, where nothing can be resampled.
        high: (m,) upper ends.
        level: Nominal coverage.
        method: In words.
    """

    low: Floats | None
    high: Floats | None
    level: float
    method: str


def bootstrap_interval(
    statistic: Statistic,
    groups: NDArray[np.str_],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Intervals:
    """Percentile intervals of metrics under resampling of whole groups with replacement.

    Source: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 13 (percentile interval);
    the unit that is drawn is the group, since rows of one group are not independent. The same seed
    and groups give the same draws, so metrics and models are comparable draw by draw. Where every
    row scores the same (all right, say) the interval has no width, which is not certainty.

    Args:
        statistic: The metrics as a function of how often each sample is drawn; with weights of 1
            it gives the point estimates.
        groups: (n,) unit of resampling.
        n_resamples: Number of resamples; 0 gives no interval.
        seed: Of the draws.
        level: Coverage of the intervals.
    """
    names, group_of_row = np.unique(groups, return_inverse=True)
    if n_resamples == 0 or len(names) < 2:
        reason = "no resamples" if n_resamples == 0 else "one group cannot be resampled"
        return Intervals(None, None, level, f"none: {reason}")
    rng = np.random.default_rng(seed)
    block = max(1, _BLOCK_ELEMENTS // len(groups))
    values = np.concatenate(
        [
            statistic(_draw(rng, min(block, n_resamples - done), len(names))[:, group_of_row])
            for done in range(0, n_resamples, block)
        ]
    )
    low, high = np.quantile(values, [(1 - level) / 2, (1 + level) / 2], axis=0)
    method = f"percentile bootstrap, {n_resamples} resamples of {len(names)} groups"
    return Intervals(low, high, level, method)


def _draw(rng: np.random.Generator, n_resamples: int, n_groups: int) -> Floats:
    """(n_resamples, n_groups) how often each group is drawn."""
    draws = rng.integers(n_groups, size=(n_resamples, n_groups))
    cells = draws + n_groups * np.arange(n_resamples)[:, None]
    counts = np.bincount(cells.ravel(), minlength=n_resamples * n_groups)
    return counts.reshape(n_resamples, n_groups).astype(np.float64)
