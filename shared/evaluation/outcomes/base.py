"""What a protocol says of every test row, whatever it is."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]


class Outcome(ABC):
    """Predictions, ranks or other values of the n test rows of one task, and their metrics.

    Metrics are functions of how often each row counts, so that point estimates (weights of one),
    bootstrap resamples and paired comparisons run through the same lines.

    Attributes:
        kind: Name in `shared.evaluation.outcomes.KINDS`, by which a file finds its class.
        resampled: Whether rows can be drawn again; else there is no interval.
    """

    kind: ClassVar[str]
    resampled: ClassVar[bool] = True

    @abstractmethod
    def __len__(self) -> int:
        """Test rows, n."""

    @property
    @abstractmethod
    def metrics(self) -> tuple[str, ...]:
        """Names of the m metrics, each one in `shared.evaluation.metrics.METRICS`."""

    @abstractmethod
    def statistic(self, weights: Floats) -> Floats:
        """The metrics under weights.

        Args:
            weights: (b, n) whole numbers >= 0, how often each row is drawn.

        Returns:
            (b, m); NaN where a metric has no value (AUROC of a draw with one class).
        """

    def values(self) -> Floats:
        """(m,) the metrics of all rows; NaN where `reasons` says why."""
        values: Floats = self.statistic(np.ones((1, len(self))))[0]
        return values

    def reasons(self) -> Mapping[str, str]:
        """Metric → why it cannot be computed of these rows, of those that cannot."""
        return {}

    @abstractmethod
    def take(self, rows: Rows) -> Self:
        """The outcome of some of the rows, in their order: for subgroups and shared ids."""

    @abstractmethod
    def columns(self) -> dict[str, NDArray[Any]]:
        """One entry a row, by column name, for the table of predictions; names of classes and not
        their indices."""

    def meta(self) -> dict[str, Any]:
        """What JSON holds beside the columns (names of the classes, number of candidates)."""
        return {}

    @classmethod
    @abstractmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        """What `columns` and `meta` came from."""
