"""Scales: of one series from itself, of catalogue columns from the training split."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from shared.errors import DataError
from shared.schema import Array


def median_absolute_deviation(values: Array) -> float:
    """median |x - median(x)|, without the factor 1.4826 of a normal distribution."""
    return float(np.median(np.abs(values - np.median(values))))


class Standardiser:
    """(x - mean) / deviation of each column, learned from the training split.

    The deviation is that of the population, as in AstroM3 (arXiv:2411.08842), and 1 for a column
    that is constant. Values that are not finite do not count.

    Args:
        owner: Modality and preprocessor, for messages: `metadata: MetadataTable`.
        columns: Number of columns.
    """

    def __init__(self, owner: str, columns: int) -> None:
        self.owner, self.columns = owner, columns
        self._mean: Array | None = None
        self._std: Array | None = None

    def fit(self, rows: Array) -> None:
        """Learn from (n, columns).

        Raises:
            DataError: There is no row.
        """
        if rows.size == 0:
            modality = self.owner.partition(":")[0]
            raise DataError(
                f"{modality}: no training sample has {modality} to learn the scale from."
            )
        known = np.isfinite(rows)
        count = np.maximum(known.sum(0), 1)
        mean = np.where(known, rows, 0).sum(0) / count
        std = np.sqrt((np.where(known, rows - mean, 0) ** 2).sum(0) / count)
        # the mean of equal values can be off by rounding
        constant = std <= 1e-12 * np.abs(mean)
        self._mean, self._std = mean, np.where(constant, 1.0, std)

    def __call__(self, values: Array) -> Array:
        """(…, columns) → the same, standardised.

        Raises:
            DataError: Nothing was learned yet.
        """
        if self._mean is None or self._std is None:
            raise DataError(f"{self.owner} has no statistics yet; call fit first.")
        return np.asarray((values - self._mean) / self._std)

    def state(self) -> dict[str, Any]:
        """`mean` and `std`, a number a column; empty before `fit`."""
        if self._mean is None or self._std is None:
            return {}
        return {"mean": self._mean.tolist(), "std": self._std.tolist()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Inverse of `state`.

        Raises:
            DataError: Not one finite mean and one positive deviation a column.
        """
        if not state:
            return
        modality, _, name = self.owner.partition(": ")
        where = f"{modality}: the saved statistics of {name}"
        self._mean, self._std = read_statistics(state, self.columns, where)


def read_statistics(state: Mapping[str, Any], columns: int, where: str) -> tuple[Array, Array]:
    """`mean` and `std`, (columns,) float64 each.

    Args:
        state: What was read from JSON.
        columns: How many numbers there have to be.
        where: Whose statistics they are, for the message.

    Raises:
        DataError: Not one finite mean and one positive deviation a column.
    """
    try:
        mean, std = (np.array(state[name], dtype=np.float64) for name in ("mean", "std"))
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(f"{where} are damaged ({type(error).__name__}: {error}).") from error
    right = mean.shape == std.shape == (columns,)
    if not right or not np.isfinite([mean, std]).all() or (std <= 0).any():
        raise DataError(
            f"{where} are damaged: it takes a finite mean and a positive deviation for each of "
            f"the {columns} columns."
        )
    return mean, std
