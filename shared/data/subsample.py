"""Fewer labels: class-balanced subsets in which the smaller is part of the larger."""

import math
from collections.abc import Sequence
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError

SHORTFALL = Fraction(5, 100)
"""Of the goal, that the published cap may miss where it is below every class."""


def class_cap(counts: Sequence[int], goal: int) -> int:
    """The number of samples to which every larger class is cut, so that about `goal` remain.

    AstroM3's (Rizhko & Bloom 2025, arXiv:2411.08842, code): with the counts ascending n_1 … n_C
    and acc = C · n_1, i = 1, add (C - i)(n_{i+1} - n_i) to acc and go on to the next i while acc
    stays below the goal; the cap is (goal - acc) // (C - i) + n_i.

    Where the goal is below C · n_1 that is less than the equal share goal / C, for few classes
    much less, down to nothing: it is not followed below 95 % of the share, nor below 1.

    Args:
        counts: Samples of each class; empty classes do not matter.
        goal: Samples wanted in all.

    Raises:
        ConfigError: A negative count or a goal below 1.
    """
    if goal < 1 or min(counts, default=0) < 0:
        raise ConfigError(f"A subset of {goal} samples out of {list(counts)} cannot be.")
    n = sorted(count for count in counts if count)
    if goal >= sum(n):
        return n[-1] if n else 0
    share = math.floor(Fraction(goal, len(n)) * (1 - SHORTFALL))
    if len(n) == 1:
        return goal
    reached, i = len(n) * n[0], 1
    while (step := (len(n) - i) * (n[i] - n[i - 1])) + reached < goal:
        reached, i = reached + step, i + 1
    return max((goal - reached) // (len(n) - i) + n[i - 1], share, 1)


def subsample(
    labels: Sequence[int] | NDArray[np.int64], fraction: float, seed: int
) -> NDArray[np.int64]:
    """Rows that remain when a share of the labels is used.

    Classes larger than the cap of `class_cap` for int(n · fraction) labelled rows are cut to it at
    random, the others stay whole. A smaller fraction keeps rows of a larger one only. Rows without
    a label all stay.

    Args:
        labels: (n,) class index, -1 where unknown.
        fraction: In (0, 1].
        seed: Another seed, other rows.

    Returns:
        Rows in ascending order.

    Raises:
        ConfigError: A fraction out of range.
    """
    if not 0 < fraction <= 1:
        raise ConfigError(f"A fraction of labels has to be above 0 and at most 1, not {fraction}.")
    labels = np.asarray(labels, dtype=np.int64)
    classes, counts = np.unique(labels[labels >= 0], return_counts=True)
    # in decimals: 0.29 of 100 is 29, and not 28
    goal = math.floor(int(counts.sum()) * Fraction(str(fraction)))
    cap = class_cap(counts.tolist(), max(goal, 1))
    kept = [np.flatnonzero(labels < 0)]
    for label in classes.tolist():
        order = np.random.default_rng([seed, label])
        kept.append(order.permutation(np.flatnonzero(labels == label))[:cap])
    return np.sort(np.concatenate(kept))
