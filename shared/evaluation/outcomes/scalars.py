"""Metrics of all rows together, which are not means over rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes.base import Floats, Outcome, Rows


@dataclass(frozen=True, eq=False)
class ScalarOutcome(Outcome):
    """Numbers that describe a set of embeddings as a whole (uniformity, effective rank).

    No rows are drawn again: copies of a row would change the number itself (a pair of copies has
    distance 0, and adds no rank), so there is no interval.

    Attributes:
        scalars: By metric; NaN where `why` says why there is none.
        n: Rows that they describe.
        why: By metric, why it is missing.

    Raises:
        EvaluationError: A number that is not finite, without a reason.
    """

    kind: ClassVar[str] = "scalars"
    resampled: ClassVar[bool] = False
    scalars: Mapping[str, float]
    n: int
    why: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for metric, value in self.scalars.items():
            if not np.isfinite(value) and metric not in self.why:
                raise EvaluationError(f"{metric} is {value}: say why it is missing.")

    def __len__(self) -> int:
        return self.n

    @property
    def metrics(self) -> tuple[str, ...]:
        return (*self.scalars, *(metric for metric in self.why if metric not in self.scalars))

    def statistic(self, weights: Floats) -> Floats:
        values = [np.nan if m in self.why else float(self.scalars[m]) for m in self.metrics]
        return np.tile(values, (len(weights), 1))

    def reasons(self) -> Mapping[str, str]:
        return self.why

    def take(self, rows: Rows) -> Self:
        why = "a number of the whole set, not of its rows"
        return type(self)({}, len(rows), dict.fromkeys(self.metrics, why))

    def columns(self) -> dict[str, NDArray[Any]]:
        return {}

    def meta(self) -> dict[str, Any]:
        there = {m: float(v) for m, v in self.scalars.items() if m not in self.why}
        return {"scalars": there, "n": self.n, "why": dict(self.why)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        return cls(meta["scalars"], meta["n"], meta["why"])
