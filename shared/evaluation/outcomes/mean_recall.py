"""Retrieval in both directions, summed up in one number."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes.base import Floats, Outcome, Rows
from shared.evaluation.outcomes.ranks import RECALL_AT, RankOutcome
from shared.evaluation.outcomes.weighted import ratio

_DIRECTIONS = ("forward", "backward")


@dataclass(frozen=True, eq=False)
class MeanRecallOutcome(Outcome):
    """Queries and hits of n units in both directions; a unit is drawn with all its queries.

    Metric: mean recall, the mean of recall@1, 5 and 10 of a modality to another and back, as for
    retrieval of captions (Yuan et al. 2022, arXiv:2204.09868, mR). It is missing where the
    candidates of a direction are no more than 10, since any ranking would reach recall@10 = 1.

    Attributes:
        queries: (n, 2) of each unit, by direction.
        hits: (n, 2, 3) of them with a positive among the first 1, 5 and 10.
        n_candidates: Of the direction that has fewer.

    Raises:
        EvaluationError: Shapes that do not fit, or more hits than queries.
    """

    kind: ClassVar[str] = "mean_recall"
    METRICS: ClassVar[tuple[str, ...]] = ("mean_recall",)
    queries: NDArray[np.int64]
    hits: NDArray[np.int64]
    n_candidates: int

    def __post_init__(self) -> None:
        shape = (len(self.queries), len(_DIRECTIONS))
        if self.queries.shape != shape or self.hits.shape != (*shape, len(RECALL_AT)):
            raise EvaluationError(
                f"queries of shape {self.queries.shape} and hits of {self.hits.shape}; expected "
                f"(n, {len(_DIRECTIONS)}) and (n, {len(_DIRECTIONS)}, {len(RECALL_AT)})."
            )
        if ((self.hits < 0) | (self.hits > self.queries[:, :, None])).any():
            raise EvaluationError("hits are at least 0 and at most the queries.")

    @classmethod
    def of(cls, directions: Sequence[tuple[NDArray[np.int64], RankOutcome]], n: int) -> Self:
        """From the two directions, each with the (q,) unit, 0 … n - 1, of its queries."""
        queries = np.zeros((n, len(_DIRECTIONS)), dtype=np.int64)
        hits = np.zeros((*queries.shape, len(RECALL_AT)), dtype=np.int64)
        for i, (unit, outcome) in enumerate(directions):
            queries[:, i] = np.bincount(unit, minlength=n)
            for j, k in enumerate(RECALL_AT):
                hits[:, i, j] = np.bincount(unit[outcome.ranks <= k], minlength=n)
        return cls(queries, hits, min(outcome.n_candidates for _, outcome in directions))

    def __len__(self) -> int:
        return len(self.queries)

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.METRICS

    def statistic(self, weights: Floats) -> Floats:
        if self.n_candidates <= max(RECALL_AT):
            return np.full((len(weights), 1), np.nan)
        hits = np.tensordot(weights, self.hits, axes=1)  # (b, 2, 3)
        recalls: Floats = ratio(hits, (weights @ self.queries)[:, :, None])
        mean: Floats = recalls.mean(axis=(1, 2))
        return mean[:, None]

    def reasons(self) -> Mapping[str, str]:
        if len(self) == 0:
            return {"mean_recall": "no queries"}
        if self.n_candidates <= max(RECALL_AT):
            why = f"with {self.n_candidates} candidates any ranking reaches recall@10 = 1"
            return {"mean_recall": why}
        return {}

    def take(self, rows: Rows) -> Self:
        return replace(self, queries=self.queries[rows], hits=self.hits[rows])

    def columns(self) -> dict[str, NDArray[Any]]:
        columns = {}
        for i, name in enumerate(_DIRECTIONS):
            columns[f"queries.{name}"] = self.queries[:, i]
            for j, k in enumerate(RECALL_AT):
                columns[f"hits@{k}.{name}"] = self.hits[:, i, j]
        return columns

    def meta(self) -> dict[str, Any]:
        return {"n_candidates": self.n_candidates}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        queries = np.stack([columns[f"queries.{name}"] for name in _DIRECTIONS], axis=1)
        hits = [[columns[f"hits@{k}.{name}"] for k in RECALL_AT] for name in _DIRECTIONS]
        return cls(queries, np.moveaxis(np.array(hits), 2, 0), meta["n_candidates"])
