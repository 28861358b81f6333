"""Several tags a row, or none."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes.base import Floats, Outcome, Rows
from shared.evaluation.outcomes.checks import check_finite
from shared.evaluation.outcomes.weighted import Ranked, mean_of_defined, ratio

THRESHOLD = 0.5
"""A tag is predicted from this probability on."""


@dataclass(frozen=True, eq=False)
class TagOutcome(Outcome):
    """Probabilities of L tags for n rows.

    Metrics are means over the tags (macro), each over the rows where the tag is known: AUROC over
    the tags that some rows have and some lack; average precision (mAP) over the tags that some rows
    have; F1 at a threshold of 0.5 over the tags that are there or predicted; Brier score, the mean
    squared error of the probability. Definitions of scikit-learn.

    Attributes:
        truth: (n, L) 0, 1, or NaN where unknown.
        scores: (n, L) probabilities.
        tags: L names.

    Raises:
        EvaluationError: Arrays that do not fit each other, or values out of range.
    """

    kind: ClassVar[str] = "tags"
    truth: Floats
    scores: Floats
    tags: tuple[str, ...]

    def __post_init__(self) -> None:
        shape = (len(self.truth), len(self.tags))
        for name, table in (("truth", self.truth), ("scores", self.scores)):
            if table.shape != shape:
                raise EvaluationError(f"{name} has shape {table.shape}, expected {shape}.")
        if not np.isin(self.truth[~np.isnan(self.truth)], (0, 1)).all():
            raise EvaluationError("truth of tags is 0, 1 or NaN where unknown.")
        check_finite("scores", self.scores)
        if self.scores.size and (self.scores.min() < 0 or self.scores.max() > 1):
            raise EvaluationError(
                f"scores run from {self.scores.min():.3g} to {self.scores.max():.3g}: give "
                "probabilities, such as the sigmoid of the logits."
            )

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("auroc", "mean_average_precision", "macro_f1", "brier")

    def statistic(self, weights: Floats) -> Floats:
        drawn = np.ascontiguousarray(weights.T)
        ranking = [(r.auroc(drawn), r.average_precision(drawn)) for r in self._ranked]
        auroc, precision = (np.stack(column) for column in zip(*ranking, strict=True))
        hits, true, predicted, known, squared = (weights @ table for table in self._tables)
        f1 = ratio(2 * hits, true + predicted)
        by_tag = (auroc.T, precision.T, f1, ratio(squared, known))
        return np.stack([mean_of_defined(values, axis=1) for values in by_tag], axis=1)

    def reasons(self) -> Mapping[str, str]:
        if len(self) == 0 or not self.tags:
            return dict.fromkeys(self.metrics, "no test rows" if self.tags else "no tags")
        missing = {
            "auroc": "no tag that some test rows have and some lack",
            "mean_average_precision": "no test row has a tag",
            "macro_f1": "no tag is there or predicted in the test rows",
            "brier": "no tag is known of the test rows",
        }
        values = dict(zip(self.metrics, self.values().tolist(), strict=True))
        return {metric: why for metric, why in missing.items() if np.isnan(values[metric])}

    def take(self, rows: Rows) -> Self:
        return replace(self, truth=self.truth[rows], scores=self.scores[rows])

    def of_tag(self, tag: str) -> tuple[Self, Rows]:
        """The outcome of one tag on the rows where it is known, and these rows."""
        at = self.tags.index(tag)
        rows = np.flatnonzero(~np.isnan(self.truth[:, at])).astype(np.int64)
        truth, scores = (table[rows, at : at + 1] for table in (self.truth, self.scores))
        alone = replace(self, truth=truth, scores=scores, tags=(tag,))
        return alone, rows

    def columns(self) -> dict[str, NDArray[Any]]:
        return {
            f"{prefix}.{tag}": table[:, i]
            for prefix, table in (("truth", self.truth), ("probability", self.scores))
            for i, tag in enumerate(self.tags)
        }

    def meta(self) -> dict[str, Any]:
        return {"tags": list(self.tags)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        tags = tuple(meta["tags"])
        truth, scores = (
            np.stack([columns[f"{prefix}.{tag}"] for tag in tags], axis=1)
            for prefix in ("truth", "probability")
        )
        return cls(truth, scores, tags)

    @cached_property
    def _ranked(self) -> list[Ranked]:
        known = ~np.isnan(self.truth)
        return [
            Ranked.of(self.scores[:, i], self.truth[:, i] == 1, known[:, i])
            for i in range(len(self.tags))
        ]

    @cached_property
    def _tables(self) -> tuple[Floats, ...]:
        """(n, L) hits, truth, predictions, known, squared errors; 0 where unknown."""
        known = ~np.isnan(self.truth)
        truth = np.where(known, self.truth, 0.0)
        predicted = known & (self.scores >= THRESHOLD)
        squared = np.where(known, (self.scores - truth) ** 2, 0.0)
        tables = (truth * predicted, truth, predicted, known, squared)
        return tuple(table.astype(np.float64) for table in tables)
