"""Several numbers a row, whose means are the metrics."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes.base import Floats, Outcome, Rows
from shared.evaluation.outcomes.checks import check_finite, check_length
from shared.evaluation.outcomes.weighted import mean


@dataclass(frozen=True, eq=False)
class MeanOutcome(Outcome):
    """What a protocol measures of each of n rows by itself.

    Attributes:
        numbers: By metric, (n,) finite; its mean over the rows is the metric.

    Raises:
        EvaluationError: No metric, different lengths, or a number that is not finite.
    """

    kind: ClassVar[str] = "means"
    numbers: Mapping[str, Floats]

    def __post_init__(self) -> None:
        if not self.numbers:
            raise EvaluationError("means of no metric.")
        for metric, column in self.numbers.items():
            check_length(metric, column, len(self))
            check_finite(metric, column)

    def __len__(self) -> int:
        return len(next(iter(self.numbers.values())))

    @property
    def metrics(self) -> tuple[str, ...]:
        return tuple(self.numbers)

    def statistic(self, weights: Floats) -> Floats:
        return mean(np.stack([*self.numbers.values()], axis=1), np.ascontiguousarray(weights.T))

    def reasons(self) -> Mapping[str, str]:
        return {} if len(self) else dict.fromkeys(self.metrics, "no test rows")

    def take(self, rows: Rows) -> Self:
        return type(self)({metric: column[rows] for metric, column in self.numbers.items()})

    def columns(self) -> dict[str, NDArray[Any]]:
        return dict(self.numbers)

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        return cls(columns)
