"""One number a row: regression."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.outcomes.base import Floats, Outcome, Rows
from shared.evaluation.outcomes.checks import check_finite, check_length
from shared.evaluation.outcomes.weighted import centred, correlation, mean, midranks, ratio


@dataclass(frozen=True, eq=False)
class ValueOutcome(Outcome):
    """Predicted numbers of n rows.

    Metrics: R² = 1 - SSE/SST about the mean of the drawn rows, root mean squared and mean absolute
    error in the unit of the target, Spearman's correlation of midranks, Pearson's correlation.
    Definitions of scikit-learn and scipy.stats.

    Attributes:
        truth: (n,) finite.
        predicted: (n,) finite.

    Raises:
        EvaluationError: Different lengths, or a number that is not finite.
    """

    kind: ClassVar[str] = "values"
    truth: Floats
    predicted: Floats

    def __post_init__(self) -> None:
        check_length("predicted", self.predicted, len(self.truth))
        check_finite("truth", self.truth)
        check_finite("predicted", self.predicted)

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("r2", "rmse", "mae", "spearman", "pearson")

    def statistic(self, weights: Floats) -> Floats:
        drawn = np.ascontiguousarray(weights.T)
        truth, predicted = (c.astype(np.float64) for c in (self.truth, self.predicted))
        error = predicted - truth
        mse, mae = mean(np.column_stack([error**2, np.abs(error)]), drawn).T
        # correlations do not change with a shift; a common one keeps digits
        truth, predicted = (c - c.mean() if len(c) else c for c in (truth, predicted))
        variance = ratio(centred(truth, drawn)[1], drawn.sum(axis=0))
        rank_truth, rank_predicted = (midranks(column, drawn) for column in (truth, predicted))
        return np.stack(
            [
                1 - ratio(mse, variance),
                np.sqrt(mse),
                mae,
                correlation(rank_truth, rank_predicted, drawn),
                correlation(truth, predicted, drawn),
            ],
            axis=1,
        )

    def reasons(self) -> Mapping[str, str]:
        if len(self) == 0:
            return dict.fromkeys(self.metrics, "no test rows")
        if len(np.unique(self.truth)) == 1:
            return dict.fromkeys(("r2", "spearman", "pearson"), "all true values are equal")
        values = self.values()[3:].tolist()
        pairs = zip(("spearman", "pearson"), values, strict=True)
        return {metric: "constant predictions" for metric, value in pairs if np.isnan(value)}

    def take(self, rows: Rows) -> Self:
        return replace(self, truth=self.truth[rows], predicted=self.predicted[rows])

    def columns(self) -> dict[str, NDArray[Any]]:
        return {"truth": self.truth, "predicted": self.predicted}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        return cls(columns["truth"], columns["predicted"])
