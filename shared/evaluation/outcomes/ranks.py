"""The place of the best match of each query."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes.base import Floats, Outcome, Rows
from shared.evaluation.outcomes.checks import check_length
from shared.evaluation.outcomes.weighted import mean, weighted_median

RECALL_AT = (1, 5, 10)


@dataclass(frozen=True, eq=False)
class RankOutcome(Outcome):
    """Ranks of n queries among their candidates; the queries are drawn, the candidates stay.

    Metrics: recall@k, the share of queries with a positive among the first k; median rank; mean
    reciprocal rank (MRR); with average precisions their mean (mAP). Recall@k is missing where there
    are no more than k candidates, since any ranking would reach 1.

    Attributes:
        ranks: (n,) of the best positive, 1 = first.
        n_candidates: Candidates a query is ranked against; the most, where they differ.
        average_precision: (n,) over all positives of a query; None: not asked for.
        n_positives: (n,) candidates that match each query; None: one each.

    Raises:
        EvaluationError: Ranks out of 1 … n_candidates, or columns that do not fit.
    """

    kind: ClassVar[str] = "ranks"
    ranks: NDArray[np.int64]
    n_candidates: int
    average_precision: Floats | None = None
    n_positives: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for name in ("average_precision", "n_positives"):
            if getattr(self, name) is not None:
                check_length(name, getattr(self, name), len(self.ranks))
        if len(self.ranks) and self.ranks.min() < 1:
            raise EvaluationError(f"a rank is {self.ranks.min()}; the first is 1.")
        if len(self.ranks) and self.ranks.max() > self.n_candidates:
            raise EvaluationError(
                f"a rank is {self.ranks.max()}, but there are {self.n_candidates} candidates."
            )
        precision = self.average_precision
        if precision is not None and not ((precision >= 0) & (precision <= 1)).all():
            raise EvaluationError("average precisions lie between 0 and 1.")

    def __len__(self) -> int:
        return len(self.ranks)

    @property
    def metrics(self) -> tuple[str, ...]:
        recalls = (f"recall@{k}" for k in RECALL_AT)
        return (
            *recalls,
            "median_rank",
            "mrr",
            *(() if self.average_precision is None else ("map",)),
        )

    def statistic(self, weights: Floats) -> Floats:
        drawn = np.ascontiguousarray(weights.T)
        parts = [*(self._recall(k) for k in RECALL_AT), 1.0 / self.ranks]
        if self.average_precision is not None:
            parts.append(self.average_precision)
        means = mean(np.stack(parts, axis=1), drawn)
        median = weighted_median(self.ranks, drawn)
        return np.insert(means, len(RECALL_AT), median, axis=1)

    def _recall(self, k: int) -> Floats:
        """(n,) whether a query finds a positive; NaN where no query can miss."""
        if self.n_candidates <= k:
            return np.full(len(self), np.nan)
        return (self.ranks <= k).astype(np.float64)

    def reasons(self) -> Mapping[str, str]:
        if len(self) == 0:
            return dict.fromkeys(self.metrics, "no queries")
        why = f"with {self.n_candidates} candidates any ranking reaches recall@"
        return {f"recall@{k}": f"{why}{k} = 1" for k in RECALL_AT if self.n_candidates <= k}

    def take(self, rows: Rows) -> Self:
        precision, positives = self.average_precision, self.n_positives
        return replace(
            self,
            ranks=self.ranks[rows],
            average_precision=None if precision is None else precision[rows],
            n_positives=None if positives is None else positives[rows],
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        columns = {
            "rank": self.ranks,
            "average_precision": self.average_precision,
            "n_positives": self.n_positives,
        }
        return {name: column for name, column in columns.items() if column is not None}

    def meta(self) -> dict[str, Any]:
        return {"n_candidates": self.n_candidates}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        optional = (columns.get(name) for name in ("average_precision", "n_positives"))
        return cls(columns["rank"], meta["n_candidates"], *optional)
