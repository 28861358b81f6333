"""Train, validation and test splits made from names, labels and a seed alone."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

VAL_FRACTION = 0.15
TEST_FRACTION = 0.15
SPLITS = ("train", "val", "test")
MIN_GROUPS = 3
"""A class with fewer groups cannot be in every split."""


def assign_splits(
    groups: Sequence[str] | NDArray[np.str_],
    labels: Sequence[int] | NDArray[np.int64],
    seed: int = 0,
) -> NDArray[np.str_]:
    """70/15/15 split in which a group never moves when others come or go.

    The SHA-256 of `seed:group` is a number in [0, 1): below 0.15 the group is `test`, below 0.30
    `val`, else `train`. Shares are therefore met on average only. Where a class of three groups or
    more misses a split, the group with the smallest number among the others is moved there; a
    class of one or two groups is wholly in `train`. A group is never divided: its class is the
    label most of its rows have (on a tie, the smallest).

    Args:
        groups: (n,) unit that must not straddle splits (star, patient, scene).
        labels: (n,) class index; -1 (unknown) counts as a class of its own.
        seed: Another seed, another split.

    Returns:
        (n,) `train`, `val` or `test`.
    """
    names, group_of_row = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    if len(names) == 0:
        return np.empty(0, dtype="<U5")
    class_of_group = _majority(group_of_row, np.asarray(labels, np.int64))
    number = np.array([_number(f"{seed}:{name}") for name in names])
    held_out = TEST_FRACTION + VAL_FRACTION
    split_of_group = np.where(
        number < TEST_FRACTION, "test", np.where(number < held_out, "val", "train")
    )
    for label in np.unique(class_of_group):
        members = np.flatnonzero(class_of_group == label)
        if len(members) < MIN_GROUPS:
            split_of_group[members] = "train"
            continue
        ordered = members[np.argsort(number[members])]
        for split in ("test", "val", "train"):
            if not (split_of_group[members] == split).any():
                counts = {s: (split_of_group[members] == s).sum() for s in SPLITS}
                spare = [m for m in ordered if counts[split_of_group[m]] > 1]
                split_of_group[spare[0]] = split
    return split_of_group[group_of_row]


def _number(text: str) -> float:
    """In [0, 1), from the first 52 bits of the SHA-256."""
    return int(hashlib.sha256(text.encode()).hexdigest()[:13], 16) / 16**13


def _majority(group_of_row: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n_groups,) the label most rows of each group have; on a tie, the smallest."""
    pairs, counts = np.unique(np.stack([group_of_row, labels], axis=1), axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))
    pairs = pairs[order]
    first = np.unique(pairs[:, 0], return_index=True)[1]
    majority: NDArray[np.int64] = pairs[first, 1]
    return majority
