"""Intra-modal retrieval: do rows of the same class come first?"""

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.neighbours.chance import ranking_chance
from shared.evaluation.neighbours.ranking import average_precision
from shared.evaluation.outcomes import RankOutcome
from shared.evaluation.protocol import (
    Output,
    Protocol,
    Settings,
    Task,
    class_tasks,
    labelled,
    missing,
    rows_of,
    widths_differ,
)
from shared.evaluation.protocols.retrieval import RANDOM

METRICS = ("recall@1", "recall@5", "recall@10", "median_rank", "mrr", "map")


def similarity_search(
    vectors: Floats | NDArray[np.float32],
    labels: NDArray[np.int64],
    groups: NDArray[np.int64] | None = None,
) -> tuple[NDArray[np.int64], RankOutcome, NDArray[np.int64]]:
    """Each row searches all others by cosine; those of its class are relevant.

    The protocol of metric learning: recall@k is the share of queries with a relevant row among the
    first k (Song et al. 2016, arXiv:1511.06452), mAP the mean over the queries of the
    average precision of the whole ranking (Manning, Raghavan & Schütze 2008, section 8.4), which
    Musgrave et al. 2020 (arXiv:2003.08505) cut off at R. Rows of the query's own group
    (the same patient, star, scene) are no candidates: they would be found by what is not the class.

    Args:
        vectors: (n, d).
        labels: (n,) class indices.
        groups: (n,) codes of groups; None = each row its own.

    Returns:
        (q,) rows that have a relevant candidate, their outcome, and (q,) number of candidates.
    """
    n = len(vectors)
    groups = np.arange(n) if groups is None else groups
    unit = normalise(vectors)
    precision, first, relevant = average_precision(
        unit, unit, (labels, labels), exclude=(groups, groups)
    )
    queries = np.flatnonzero(relevant)
    of_group = np.unique(groups, return_inverse=True, return_counts=True)
    n_candidates = n - of_group[2][of_group[1]][queries]
    outcome = RankOutcome(
        first[queries],
        int(n_candidates.max(initial=0)),
        np.minimum(precision[queries], 1.0),
        relevant[queries],
    )
    return queries, outcome, n_candidates


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    if (reason := widths_differ(task, embeddings)) is not None:
        return missing(task, embeddings, METRICS, reason)
    test = rows_of(task, embeddings, SPLIT)
    if len(test) < 2:
        return missing(task, embeddings, METRICS, f"{len(test)} labelled rows in the test split")
    groups = np.unique(test.groups, return_inverse=True)[1]
    queries, outcome, n_candidates = similarity_search(test.vectors, test.targets, groups)
    if len(queries) == 0:
        reason = "no test row has another of its class outside its group"
        return missing(task, embeddings, METRICS, reason)
    assert outcome.n_positives is not None
    return Output(
        test.index[queries],
        outcome,
        trivial_name=RANDOM,
        chance=ranking_chance(n_candidates, outcome.n_positives),
        settings={"without_relevant": len(test) - len(queries)},
    )


PROTOCOL = Protocol(
    "similarity_search",
    1,
    "rows of the same class among the nearest",
    class_tasks,
    _run,
    applies=labelled,
)
