"""Cross-modal retrieval: rank the candidates of one modality for queries of another."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, permutations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import SAMPLE
from shared.errors import ConfigError
from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.neighbours.chance import RECALL_AT, ranking_chance
from shared.evaluation.neighbours.ranking import best_ranks
from shared.evaluation.outcomes import MeanRecallOutcome, RankOutcome
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


def _target(settings: Settings) -> str:
    """What the rows have to have beside both modalities."""
    if settings["positives"] not in POSITIVES:
        raise ConfigError(
            f"retrieval: positives={settings['positives']!r}; write one of {', '.join(POSITIVES)}."
        )
    return LABEL if settings["positives"] == "label" else ""


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    """Ordered pairs of modalities."""
    target = _target(settings)
    pairs: list[tuple[str, ...]] = [*permutations(embeddings.modalities, 2)]
    pairs = pairs or [embeddings.modalities]
    return [Task(pair, target, inputs="->".join(pair)) for pair in pairs]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    rows = embeddings.rows(SPLIT, *task.modalities, target=task.target or None)
    if reason := _reason(task, embeddings, rows):
        return missing(task, embeddings, METRICS, reason)
    queries, outcome = _direction(task, embeddings, rows, settings["positives"])
    return Output(
        rows[queries],
        outcome,
        trivial_name=RANDOM,
        chance={metric: _chance(outcome)[metric] for metric in METRICS},
        settings={"n_candidates": outcome.n_candidates},
    )


def _reason(task: Task, embeddings: EmbeddingSet, rows: Codes) -> str | None:
    """Why rows cannot be ranked, or None."""
    if len(task.modalities) < 2:
        return "one modality; retrieval ranks those of another"
    if len(rows) < 2:
        return f"{len(rows)} test rows with both modalities"
    return widths_differ(task, embeddings)


def _direction(
    task: Task, embeddings: EmbeddingSet, rows: Codes, positives: str
) -> tuple[Codes, RankOutcome]:
    """Places in `rows` of the queries, and their outcome."""
    codes = np.unique(names_of(embeddings, positives)[rows], return_inverse=True)[1]
    queries, candidates = counted(embeddings, rows, task.modalities, positives)
    of_queries, of_candidates = (embeddings.vectors[m][rows] for m in task.modalities)
    outcome = retrieval(
        of_queries[queries], of_candidates[candidates], codes[queries], codes[candidates]
    )
    return queries, outcome


def names_of(embeddings: EmbeddingSet, positives: str) -> NDArray[Any]:
    """(n,) equal for rows that are each other's positives. A `row` is its own alone, unless the
    data say that several are of one sample (`SAMPLE`), as an image and its captions are."""
    if positives == "label":
        return embeddings.labels
    own = embeddings.annotations.get(SAMPLE, embeddings.ids)
    return embeddings.groups if positives == "group" else own


def counted(
    embeddings: EmbeddingSet, rows: Codes, modalities: Sequence[str], positives: str
) -> list[Codes]:
    """By modality, places in `rows` that count. Rows that repeat an input of one modality are there
    for the other one, such as an image that stands in five rows, one a caption: it counts once, as
    in Karpathy & Fei-Fei 2015 (arXiv:1412.2306). Of the other modality every row counts, since
    captions that are equal are several, as in GeoRSCLIP's evaluation on RSICD."""
    if positives == "label" or (positives == "row" and SAMPLE not in embeddings.annotations):
        return [np.arange(len(rows)) for _ in modalities]
    first = [
        np.unique(embeddings.copies.get(m, np.arange(len(embeddings)))[rows], return_index=True)[1]
        for m in modalities
    ]
    fewest = min(map(len, first))
    return [np.sort(f) if len(f) == fewest else np.arange(len(rows)) for f in first]


def _chance(outcome: RankOutcome) -> dict[str, float]:
    assert outcome.n_positives is not None
    return ranking_chance(np.full(len(outcome), outcome.n_candidates), outcome.n_positives)


def _both_ways(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    """Pairs of modalities, whatever their order."""
    pairs: list[tuple[str, ...]] = [*combinations(embeddings.modalities, 2)]
    target = _target(settings)
    return [Task(p, target, inputs="+".join(p)) for p in pairs or [embeddings.modalities]]


def _run_both_ways(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    rows = embeddings.rows(SPLIT, *task.modalities, target=task.target or None)
    if reason := _reason(task, embeddings, rows):
        return missing(task, embeddings, MeanRecallOutcome.METRICS, reason)
    names = names_of(
        embeddings, "row" if settings["positives"] == "label" else settings["positives"]
    )
    _, first, unit = np.unique(names[rows], return_index=True, return_inverse=True)
    tasks = (task, replace(task, modalities=task.modalities[::-1]))
    both = [_direction(each, embeddings, rows, settings["positives"]) for each in tasks]
    outcome = MeanRecallOutcome.of([(unit[queries], o) for queries, o in both], len(first))
    recalls = [_chance(o)[f"recall@{k}"] for _, o in both for k in RECALL_AT]
    return Output(
        rows[first],
        outcome,
        trivial_name=RANDOM,
        chance={"mean_recall": float(np.mean(recalls))},
        settings={"n_candidates": outcome.n_candidates},
    )


PROTOCOL = Protocol(
    "retrieval",
    2,
    "rank of a sample's own embedding in another modality",
    _tasks,
    _run,
    {"positives": "row"},
    applies=lambda embeddings: len(embeddings.modalities) > 1,
)
MEAN_RECALL = Protocol(
    "mean_recall",
    1,
    "mean of recall@1, 5 and 10 in both directions of retrieval",
    _both_ways,
    _run_both_ways,
    {"positives": "row"},
    applies=lambda embeddings: len(embeddings.modalities) > 1,
)
