"""Cross-modal retrieval: rank the candidates of one modality for queries of another."""

from itertools import permutations

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError
from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.neighbours.chance import ranking_chance
from shared.evaluation.neighbours.ranking import best_ranks
from shared.evaluation.outcomes import RankOutcome
from shared.evaluation.protocol import (
    Output,
    Protocol,
    Settings,
    Task,
    missing,
    widths_differ,
)

METRICS = ("recall@1", "recall@5", "recall@10", "median_rank", "mrr")
POSITIVES = ("row", "group", "label")
RANDOM = "random ranking"
Codes = NDArray[np.int64]
Vectors = NDArray[np.float32]


def retrieval(
    queries: Vectors,
    candidates: Vectors,
    query_codes: Codes | None = None,
    candidate_codes: Codes | None = None,
) -> RankOutcome:
    """Rank of the best positive of each query by cosine, 1 = first.

    Of tied candidates the one with the smaller index stands first, as in a stable descending sort
    (open_clip's training metrics sort likewise); if all tie, pairs are at chance.

    Args:
        queries: (q, d) embeddings of one modality.
        candidates: (n, d) embeddings of another.
        query_codes: (q,) a candidate with the query's code is one of its positives, and the
            best-ranked counts; every query has one. None = row i of the candidates is the match of
            query i.
        candidate_codes: (n,), with `query_codes`.

    Raises:
        EvaluationError: No candidates, or widths or codes that do not fit.
    """
    if query_codes is None or candidate_codes is None:
        query_codes, candidate_codes = np.arange(len(queries)), np.arange(len(candidates))
    ranks = best_ranks(normalise(queries), normalise(candidates), (query_codes, candidate_codes))
    codes, counts = np.unique(candidate_codes, return_counts=True)
    n_positives = counts[np.searchsorted(codes, query_codes)]
    return RankOutcome(ranks, len(candidates), n_positives=n_positives)


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    """Ordered pairs of modalities."""
    if settings["positives"] not in POSITIVES:
        raise ConfigError(
            f"retrieval: positives={settings['positives']!r}; write one of {', '.join(POSITIVES)}."
        )
    target = LABEL if settings["positives"] == "label" else ""
    pairs: list[tuple[str, ...]] = [*permutations(embeddings.modalities, 2)]
    pairs = pairs or [embeddings.modalities]
    return [Task(pair, target, inputs="->".join(pair)) for pair in pairs]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    rows = embeddings.rows(SPLIT, *task.modalities, target=task.target or None)
    reason = widths_differ(task, embeddings)
    if len(task.modalities) < 2:
        reason = "one modality; retrieval ranks those of another"
    elif len(rows) < 2:
        reason = f"{len(rows)} test rows with both modalities"
    if reason is not None:
        return missing(task, embeddings, METRICS, reason)
    of_queries, of_candidates = (embeddings.vectors[m][rows] for m in task.modalities)
    codes = np.arange(len(rows))
    queries = candidates = codes
    if settings["positives"] == "label":
        codes = embeddings.labels[rows]
    elif settings["positives"] == "group":
        codes = np.unique(embeddings.groups[rows], return_inverse=True)[1]
        queries, candidates = (_distinct(codes, v) for v in (of_queries, of_candidates))
    outcome = retrieval(
        of_queries[queries], of_candidates[candidates], codes[queries], codes[candidates]
    )
    n_candidates = np.full(len(outcome), outcome.n_candidates)
    assert outcome.n_positives is not None
    chance = ranking_chance(n_candidates, outcome.n_positives)
    return Output(
        rows[queries],
        outcome,
        trivial_name=RANDOM,
        chance={metric: chance[metric] for metric in METRICS},
        settings={"n_candidates": outcome.n_candidates},
    )


def _distinct(codes: Codes, vectors: Vectors) -> Codes:
    """First of the rows with equal code and equal vector. So an image that stands in five rows, one
    a caption, is one query and one candidate, as in Karpathy & Fei-Fei 2015 (arXiv:1412.2306)."""
    first: dict[tuple[int, int], int] = {}
    for row, (code, vector) in enumerate(zip(codes.tolist(), vectors, strict=True)):
        first.setdefault((code, hash(vector.tobytes())), row)
    return np.fromiter(first.values(), dtype=np.int64, count=len(first))


PROTOCOL = Protocol(
    "retrieval",
    1,
    "rank of a sample's own embedding in another modality",
    _tasks,
    _run,
    {"positives": "row"},
    applies=lambda embeddings: len(embeddings.modalities) > 1,
)
