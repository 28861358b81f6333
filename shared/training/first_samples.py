"""Which samples are read before a training starts."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from shared.data.dataset import Dataset


def choose_first(
    dataset: Dataset, splits: Mapping[str, NDArray[np.int64]], most: int, console: Console
) -> dict[str, NDArray[np.int64]]:
    """Rows of each split that are read before training: all, so that bad data speak, and of a set
    that is streamed `most` at even distances, which is said."""
    if not dataset.streamed:
        return dict(splits)
    first = {
        split: rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int))]
        for split, rows in splits.items()
        if len(rows)
    }
    console.print(
        f"{dataset.name} is streamed: before training, {sum(map(len, first.values()))} samples are "
        "read (loader.first_samples of each split), from which preprocessing learns; none is kept "
        "in memory",
        highlight=False,
    )
    return first
