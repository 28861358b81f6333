"""The same rows judged several times, by what differs in its seed."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes.base import Floats, Outcome, Rows
from shared.evaluation.outcomes.weighted import mean_of_defined


@dataclass(frozen=True, eq=False)
class SeededOutcome(Outcome):
    """Outcomes of the same rows with several seeds; a metric is the mean over the seeds.

    Attributes:
        outcomes: S, of one kind, with the same metrics and rows.
        seeds: S, in the same order.

    Raises:
        EvaluationError: No outcome, or outcomes that do not fit each other.
    """

    kind: ClassVar[str] = "seeded"
    outcomes: tuple[Outcome, ...]
    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.outcomes or len(self.outcomes) != len(self.seeds):
            raise EvaluationError(
                f"{len(self.outcomes)} outcomes of {len(self.seeds)} seeds: one each, at least one."
            )
        shapes = {(type(o), len(o), o.metrics) for o in self.outcomes}
        if len(shapes) > 1 or isinstance(self.outcomes[0], SeededOutcome):
            raise EvaluationError("outcomes of seeds have one kind, the same rows and metrics.")

    def __len__(self) -> int:
        return len(self.outcomes[0])

    @property
    def resampled(self) -> bool:  # type: ignore[override]
        return self.outcomes[0].resampled

    @property
    def metrics(self) -> tuple[str, ...]:
        return self.outcomes[0].metrics

    def of_each_seed(self, weights: Floats) -> Floats:
        """(S, b, m) metrics of each seed under (b, n) weights."""
        return np.stack([outcome.statistic(weights) for outcome in self.outcomes])

    def statistic(self, weights: Floats) -> Floats:
        return mean_of_defined(self.of_each_seed(weights), axis=0)

    def reasons(self) -> Mapping[str, str]:
        """What is missing with every seed; with some of them only, the mean is of the others."""
        first, *others = [outcome.reasons() for outcome in self.outcomes]
        return {m: why for m, why in first.items() if all(m in other for other in others)}

    def take(self, rows: Rows) -> Self:
        return replace(self, outcomes=tuple(outcome.take(rows) for outcome in self.outcomes))

    def columns(self) -> dict[str, NDArray[Any]]:
        """Seed after seed, n rows each, with a column `seed`."""
        tables = [outcome.columns() for outcome in self.outcomes]
        together = {name: np.concatenate([t[name] for t in tables]) for name in tables[0]}
        return {"seed": np.repeat(np.array(self.seeds, dtype=np.int64), len(self)), **together}

    def meta(self) -> dict[str, Any]:
        return {
            "seeds": list(self.seeds),
            "kind": self.outcomes[0].kind,
            "outcomes": [outcome.meta() for outcome in self.outcomes],
        }

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        from shared.evaluation.outcomes import KINDS

        n = len(columns["seed"]) // len(meta["seeds"])
        kind = KINDS[meta["kind"]]
        outcomes = [
            kind.from_columns({k: c[i * n : (i + 1) * n] for k, c in columns.items()}, of_seed)
            for i, of_seed in enumerate(meta["outcomes"])
        ]
        return cls(tuple(outcomes), tuple(meta["seeds"]))
