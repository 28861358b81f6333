"""What a protocol takes and gives, as arrays."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Setting = str | int | float | bool | None | list[str]


@dataclass(frozen=True)
class Rows:
    """Labelled embeddings of one split.

    Attributes:
        vectors: (n, d) floats, finite.
        labels: (n,) class indices, none unknown.
        groups: (n,) unit of resampling.
    """

    vectors: NDArray[np.float32] | NDArray[np.float64]
    labels: NDArray[np.int64]
    groups: NDArray[np.str_]

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class Score:
    """One metric: value, interval, and the values without a model.

    Attributes:
        metric: Its name.
        value: Point estimate; None where the protocol could not run.
        low: Lower end of the interval.
        high: Upper end of the interval.
        chance: Expected value of a uniform guess.
        trivial: Value of the trivial baseline.
    """

    metric: str
    value: float | None = None
    low: float | None = None
    high: float | None = None
    chance: float | None = None
    trivial: float | None = None


@dataclass(frozen=True)
class ProtocolOutput:
    """Result of one protocol on one input.

    Attributes:
        protocol: Its name.
        version: Of the protocol.
        scores: One a metric; without values when `missing` says why.
        n: Test rows.
        missing: Why it could not run; None when it ran.
        n_per_class: Test rows of each class.
        ci_level: Coverage of the intervals.
        ci_method: How the intervals were made.
        trivial_name: What the trivial baseline is.
        settings: What was chosen on the way.
        truth: (n,) class of each test row; None for retrieval.
        predicted: (n,) predicted class of each test row; None for retrieval.
        ranks: (n,) rank of each query's match, 1 = first; None but for retrieval.
        chance_recall: (n_candidates,) expected recall@k of a random ranking, k = 1, 2, …; None but
            for retrieval.
    """

    protocol: str
    version: int
    scores: tuple[Score, ...]
    n: int
    missing: str | None = None
    n_per_class: Mapping[str, int] = field(default_factory=dict)
    ci_level: float = 0.95
    ci_method: str = "none"
    trivial_name: str = ""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    truth: NDArray[np.int64] | None = None
    predicted: NDArray[np.int64] | None = None
    ranks: NDArray[np.int64] | None = None
    chance_recall: NDArray[np.float64] | None = None


def missing_output(
    protocol: str, version: int, metrics: tuple[str, ...], n: int, reason: str
) -> ProtocolOutput:
    """A protocol that the data do not allow to run, and why."""
    return ProtocolOutput(
        protocol, version, tuple(Score(metric) for metric in metrics), n, missing=reason
    )
