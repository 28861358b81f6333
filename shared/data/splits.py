"""Train, validation and test splits made from names, labels and a seed alone."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

VAL_FRACTION = 0.15
TEST_FRACTION = 0.15
MIN_GROUPS = 3
"""A class with fewer groups cannot be in every split."""


def assign_splits(
    groups: Sequence[str] | NDArray[np.str_],
    labels: Sequence[int] | NDArray[np.int64],
    seed: int = 0,
) -> NDArray[np.str_]:
    """Stratified 70/15/15 split, the same whatever the order of the rows.

    In every class the groups are ordered by the SHA-256 of `seed:group`; the first 15 % are
    `test`, the next 15 % `val`, the others `train`, with at least one group in each. A group is
    never divided: its class is the label most of its rows have (on a tie, the smallest). A class of
    one or two groups is wholly in `train`.

    Args:
        groups: (n,) unit that must not straddle splits (star, patient, scene).
        labels: (n,) class index; -1 (unknown) is stratified as a class of its own.
        seed: Another seed, another split.

    Returns:
        (n,) `train`, `val` or `test`.
    """
    names, group_of_row = np.unique(np.asarray(groups, np.str_), return_inverse=True)
    if len(names) == 0:
        return np.empty(0, dtype="<U5")
    class_of_group = _majority(group_of_row, np.asarray(labels, np.int64))
    order = np.array([hashlib.sha256(f"{seed}:{name}".encode()).hexdigest() for name in names])
    split_of_group = np.full(len(names), "train")
    for label in np.unique(class_of_group):
        members = np.flatnonzero(class_of_group == label)
        if len(members) < MIN_GROUPS:
            continue
        members = members[np.argsort(order[members])]
        n_test = max(1, round(TEST_FRACTION * len(members)))
        n_val = max(1, round(VAL_FRACTION * len(members)))
        split_of_group[members[:n_test]] = "test"
        split_of_group[members[n_test : n_test + n_val]] = "val"
    return split_of_group[group_of_row]


def _majority(group_of_row: NDArray[np.int64], labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n_groups,) the label most rows of each group have; on a tie, the smallest."""
    pairs, counts = np.unique(np.stack([group_of_row, labels], axis=1), axis=0, return_counts=True)
    order = np.lexsort((pairs[:, 1], -counts, pairs[:, 0]))
    pairs = pairs[order]
    first = np.unique(pairs[:, 0], return_index=True)[1]
    majority: NDArray[np.int64] = pairs[first, 1]
    return majority
