"""Clusters found without labels, held against the classes."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.outcomes.base import Floats, Outcome, Rows
from shared.evaluation.outcomes.checks import check_codes, check_length, codes_of, names_of
from shared.evaluation.outcomes.weighted import indicator, ratio


@dataclass(frozen=True, eq=False)
class ClusterOutcome(Outcome):
    """Clusters of n rows; rows are drawn again, the clustering stays.

    Metrics: normalised mutual information with the arithmetic mean of the entropies (Strehl & Ghosh
    2002, JMLR 3:583; the mean of scikit-learn's default) and adjusted Rand index (Hubert & Arabie
    1985, J. Classification 2:193, Eq. 5).

    Attributes:
        truth: (n,) index into `classes`.
        clusters: (n,) any integers; equal ones are one cluster.
        classes: Names.

    Raises:
        EvaluationError: Different lengths, or a class index out of range.
    """

    kind: ClassVar[str] = "clusters"
    truth: NDArray[np.int64]
    clusters: NDArray[np.int64]
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        check_codes("truth", self.truth, len(self.classes))
        check_length("clusters", self.clusters, len(self.truth))

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def metrics(self) -> tuple[str, ...]:
        return ("nmi", "ari")

    def statistic(self, weights: Floats) -> Floats:
        drawn = np.ascontiguousarray(weights.T)
        counts = [table @ drawn for table in self._tables]
        total = drawn.sum(axis=0)
        both, classes, clusters = (_entropy(table, total) for table in counts)
        information = np.clip(classes + clusters - both, 0.0, None)
        # one class in one cluster: the two agree, as in scikit-learn
        alike = (classes <= 0) & (clusters <= 0)
        nmi = np.where(alike, 1.0, ratio(information, (classes + clusters) / 2))
        pairs, of_class, of_cluster = ((t * (t - 1) / 2).sum(axis=0) for t in counts)
        expected = ratio(of_class * of_cluster, total * (total - 1) / 2)
        largest = (of_class + of_cluster) / 2
        ari = np.where(largest == pairs, 1.0, ratio(pairs - expected, largest - expected))
        return np.where(total[:, None] > 0, np.stack([nmi, ari], axis=1), np.nan)

    def reasons(self) -> Mapping[str, str]:
        return dict.fromkeys(self.metrics, "no test rows") if len(self) == 0 else {}

    def take(self, rows: Rows) -> Self:
        return replace(self, truth=self.truth[rows], clusters=self.clusters[rows])

    def columns(self) -> dict[str, NDArray[Any]]:
        return {"truth": names_of(self.truth, self.classes), "cluster": self.clusters}

    def meta(self) -> dict[str, Any]:
        return {"classes": list(self.classes)}

    @classmethod
    def from_columns(cls, columns: Mapping[str, NDArray[Any]], meta: Mapping[str, Any]) -> Self:
        classes = tuple(meta["classes"])
        return cls(codes_of(columns["truth"], classes), columns["cluster"], classes)

    @cached_property
    def _tables(self) -> list[Any]:
        """(k, n) rows of each pair of class and cluster that is there, of each class, of each
        cluster."""
        clusters = np.unique(self.clusters, return_inverse=True)[1]
        pairs = self.truth * (clusters.max(initial=0) + 1) + clusters
        found = (np.unique(codes, return_inverse=True) for codes in (pairs, self.truth, clusters))
        every, n = np.arange(len(self)), len(self)
        return [indicator(every, codes, len(distinct), n) for distinct, codes in found]


def _entropy(counts: Floats, total: Floats) -> Floats:
    """(b,) entropy in nats of (k, b) counts."""
    share = ratio(counts, total)
    logarithm = np.log(share, out=np.zeros_like(share), where=share > 0)
    entropy: Floats = -(share * logarithm).sum(axis=0)
    return entropy
