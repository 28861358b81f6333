"""Splits and folds made from names, labels and a seed alone."""

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


def assign_folds(
    groups: Sequence[str] | NDArray[np.str_],
    labels: Sequence[int] | NDArray[np.int64],
    folds: int,
    seed: int = 0,
) -> NDArray[np.int64]:
    """Folds of about equal size, each with about its share of every class.

    Groups are dealt out class by class, the largest first and those of equal size in the order of
    `_number`: each to the fold that has the fewest rows of its class (on a tie, the fewest rows).
    The order of the rows does not matter.

    Args:
        groups: (n,) unit that must not straddle folds.
        labels: (n,) class index; -1 (unknown) counts as a class of its own.
        folds: At most as many as there are groups, else some stay empty.
        seed: Another seed, other folds.

    Returns:
        (n,) fold, 0 to `folds` - 1.
    """
    names, group_of_row = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    if len(names) == 0:
        return np.empty(0, dtype=np.int64)
    classes, class_of_group = np.unique(
        _majority(group_of_row, np.asarray(labels, np.int64)), return_inverse=True
    )
    size = np.bincount(group_of_row)
    number = np.array([_number(f"{seed}:{name}") for name in names])
    rows = np.zeros((len(classes), folds), dtype=np.int64)
    fold_of_group = np.empty(len(names), dtype=np.int64)
    for group in np.lexsort((number, -size, class_of_group)):
        of_class = rows[class_of_group[group]]
        fold = np.lexsort((rows.sum(axis=0), of_class))[0]
        of_class[fold] += size[group]
        fold_of_group[group] = fold
    return fold_of_group[group_of_row]


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
