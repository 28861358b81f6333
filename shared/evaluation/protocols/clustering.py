"""Clusters found without labels, held against the classes."""

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.outcomes import ClusterOutcome, SeededOutcome
from shared.evaluation.protocol import (
    Output,
    Protocol,
    Rows,
    Settings,
    Task,
    class_tasks,
    labelled,
    missing,
    rows_of,
    widths_differ,
)

METRICS = ("nmi", "ari")
ONE_CLUSTER = "one cluster"
N_INIT = 10
"""Starts of k-means, of which the best is kept; scikit-learn's long-time default."""


def clustering(
    vectors: Floats | NDArray[np.float32], n_clusters: int, seed: int = 0
) -> NDArray[np.int64]:
    """k-means of unit vectors: (n,) clusters of (n, d) rows.

    k-means++ starts (Arthur & Vassilvitskii 2007), `N_INIT` of them, Lloyd's iteration.

    Args:
        vectors: (n, d); normalised here.
        n_clusters: At most n.
        seed: Of the starts.
    """
    import warnings

    from sklearn.cluster import KMeans
    from sklearn.exceptions import ConvergenceWarning

    with warnings.catch_warnings():
        # fewer distinct rows than clusters: the rest stay empty, and the scores say what that means
        warnings.simplefilter("ignore", ConvergenceWarning)
        means = KMeans(n_clusters, n_init=N_INIT, random_state=seed).fit(normalise(vectors))
    clusters: NDArray[np.int64] = means.labels_.astype(np.int64)
    return clusters


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    reason = widths_differ(task, embeddings)
    test = None if reason else rows_of(task, embeddings, SPLIT)
    if test is not None:
        reason = _reason(test)
    if test is None or reason is not None:
        return missing(task, embeddings, METRICS, reason or "")
    # starts are drawn by place: in the order of the ids, that of the rows does not matter
    test = test.take(np.argsort(embeddings.ids[test.index]))
    classes, seeds = embeddings.classes, tuple(settings["seeds"])
    n_clusters = len(np.unique(test.targets))
    outcomes = [
        ClusterOutcome(test.targets, clustering(test.vectors, n_clusters, seed), classes)
        for seed in seeds
    ]
    return Output(
        test.index,
        SeededOutcome(tuple(outcomes), seeds),
        trivial=ClusterOutcome(test.targets, np.zeros(len(test), dtype=np.int64), classes),
        trivial_name=ONE_CLUSTER,
        chance={"ari": 0.0},
        settings={"n_clusters": n_clusters},
        seeds=seeds,
    )


def _reason(test: Rows) -> str | None:
    n_classes = len(np.unique(test.targets))
    if n_classes < 2:
        return f"{len(test)} labelled test rows of {n_classes} classes; clusters need two classes"
    return None


PROTOCOL = Protocol(
    "clustering",
    1,
    "k-means clusters against the classes",
    class_tasks,
    _run,
    {"seeds": [0, 1, 2, 3, 4]},
    applies=labelled,
)
