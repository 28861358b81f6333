"""Cross-modal retrieval: rank the candidates of one modality for queries of another."""

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.nearest_centroid import normalise
from shared.evaluation.output import ProtocolOutput, Score, missing_output
from shared.evaluation.statistics import Floats, bootstrap_interval

NAME = "retrieval"
VERSION = 1
RECALL_AT = (1, 5, 10)
METRICS = (*(f"recall@{k}" for k in RECALL_AT), "median_rank", "mrr")
_BLOCK_ELEMENTS = 4_000_000
"""Scores held at a time; bounds memory whatever the number of candidates."""


def retrieval(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    *,
    groups: NDArray[np.str_],
    positives: NDArray[np.str_] | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
) -> ProtocolOutput:
    """Recall@1, 5, 10, median rank and mean reciprocal rank (MRR) by cosine.

    Row i of the candidates is the match of query i; with `positives`, every candidate with the
    query's name is one, and the best-ranked counts. Rank 1 is the first. Intervals resample the
    queries' groups while the candidates stay fixed.

    Args:
        queries: (n, d) embeddings of one modality.
        candidates: (n, d) embeddings of another, of the same samples in the same order.
        groups: (n,) unit of resampling.
        positives: (n,) names; equal names match each other. None = the row alone.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap.

    Returns:
        The metrics, or the reason why there are none. Chance and trivial baseline are a random
        ranking.
    """
    n = len(queries)
    if n < 2:
        return missing_output(NAME, VERSION, METRICS, n, f"{n} test rows with both modalities")
    if queries.shape[1] != candidates.shape[1]:
        reason = f"embeddings differ in width ({queries.shape[1]} and {candidates.shape[1]})"
        return missing_output(NAME, VERSION, METRICS, n, reason)
    codes = np.arange(n) if positives is None else np.unique(positives, return_inverse=True)[1]
    ranks = match_ranks(normalise(queries), normalise(candidates), codes)
    recall = chance_recall(codes)
    chance = [
        *(float(recall[min(k, n) - 1]) for k in RECALL_AT),
        _chance_median_rank(recall),
        float(np.sum(np.diff(recall, prepend=0.0) / np.arange(1, n + 1))),
    ]

    hits = np.stack([*(ranks <= k for k in RECALL_AT), 1.0 / ranks], axis=1)

    def statistic(weights: Floats) -> Floats:
        means = weights @ hits / weights.sum(axis=1, keepdims=True)
        median = weighted_median(ranks, weights)[:, None]
        return np.concatenate([means[:, :-1], median, means[:, -1:]], axis=1)

    values = statistic(np.ones((1, n)))[0]
    interval = bootstrap_interval(statistic, groups, n_resamples=n_resamples, seed=seed)
    scores = [
        Score(
            metric,
            float(values[i]),
            None if interval.low is None else float(interval.low[i]),
            None if interval.high is None else float(interval.high[i]),
            chance=chance[i],
            trivial=chance[i],
        )
        for i, metric in enumerate(METRICS)
    ]
    return ProtocolOutput(
        NAME,
        VERSION,
        scores=tuple(scores),
        n=n,
        ci_level=interval.level,
        ci_method=f"{interval.method} of queries, candidates fixed",
        trivial_name="random ranking",
        settings={"n_candidates": n, "positives": "row" if positives is None else "name"},
        ranks=ranks,
        chance_recall=recall,
    )


def match_ranks(queries: Floats, candidates: Floats, codes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Rank of each query's best positive, 1 = first.

    Ties: rank = 1 + candidates with a larger score + candidates with the same score and a smaller
    index, the position in a stable descending sort (open_clip's training metrics sort likewise). If
    all scores tie, the ranks are 1 … n, and recall@k is at chance.

    Args:
        queries: (n, d) unit rows.
        candidates: (n, d) unit rows.
        codes: (n,) candidates with the query's code are its positives.
    """
    n = len(queries)
    index = np.arange(n)
    ranks = np.empty(n, dtype=np.int64)
    size = max(1, _BLOCK_ELEMENTS // n)
    for start in range(0, n, size):
        block = slice(start, start + size)
        # The same product may differ in its last bits with its place in a BLAS tile; rounded, equal
        # vectors tie.
        scores = np.round(queries[block] @ candidates.T, 12)
        of_positives = np.where(codes[block, None] == codes, scores, -np.inf)
        best = of_positives.argmax(axis=1)[:, None]
        own = np.take_along_axis(scores, best, axis=1)
        before = (scores > own) | ((scores == own) & (index < best))
        ranks[block] = 1 + before.sum(axis=1)
    return ranks


def chance_recall(codes: NDArray[np.int64]) -> Floats:
    """(n,) expected recall@k of a random ranking, k = 1 … n.

    With p positives among n candidates, 1 - C(n - p, k) / C(n, k) (hypergeometric); k/n for one.
    """
    n = len(codes)
    drawn = np.arange(n)
    miss = np.zeros(n)
    sizes, n_codes = np.unique(np.unique(codes, return_counts=True)[1], return_counts=True)
    for p, count in zip(sizes.tolist(), n_codes.tolist(), strict=True):
        miss += p * count / n * np.cumprod(np.maximum(n - p - drawn, 0) / (n - drawn))
    recall: Floats = 1.0 - miss
    return recall


def weighted_median(values: NDArray[np.int64], weights: Floats) -> Floats:
    """(b,) medians of (n,) values under (b, n) whole-number weights; numpy.median for ones."""
    order = values.argsort(kind="stable")
    below = weights[:, order].cumsum(axis=1)
    half = below[:, -1:] / 2
    lower, upper = (below >= half).argmax(axis=1), (below > half).argmax(axis=1)
    median: Floats = (values[order[lower]] + values[order[upper]]) / 2
    return median


def _chance_median_rank(recall: Floats) -> float:
    """Median of the rank of the match in a random ranking, from its distribution function."""
    slack = 1e-12  # the products behind `recall` are exact to some 1e-14 only
    lower, upper = (recall >= 0.5 - slack).argmax() + 1, (recall > 0.5 + slack).argmax() + 1
    return float(lower + upper) / 2
