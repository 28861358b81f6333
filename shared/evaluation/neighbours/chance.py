"""What a random ranking reaches, in closed form."""

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.vectors import Floats

RECALL_AT = (1, 5, 10)
Counts = NDArray[np.int64]


def chance_recall(n_candidates: Counts, n_positives: Counts) -> Floats:
    """(N,) expected recall@k of random rankings, k = 1 … N, N the most candidates of any query.

    With p positives among n candidates, 1 - C(n - p, k) / C(n, k) (hypergeometric distribution);
    k/n for one positive. Mean over the queries.

    Args:
        n_candidates: (q,) of each query, q ≥ 1.
        n_positives: (q,) among them, at least 1.
    """
    miss = np.zeros(n_candidates.max())
    for n, p, share in _sizes(n_candidates, n_positives):
        drawn = np.arange(n)
        miss[:n] += share * np.cumprod(np.maximum(n - p - drawn, 0) / (n - drawn))
    recall: Floats = 1.0 - miss
    return recall


def chance_average_precision(n_candidates: Counts, n_positives: Counts) -> float:
    """Expected average precision of random rankings, mean over the queries.

    With p relevant ones among n candidates and H_n the n-th harmonic number,
    (H_n + (p - 1)/(n - 1) (n - H_n)) / n: rank k holds a relevant one with probability p/n, before
    it are (k - 1)(p - 1)/(n - 1) others. Bestgen 2015 (Exact expected average precision of the
    random baseline for system evaluation, Prague Bull. Math. Linguistics 103) has the same value.

    Args:
        n_candidates: (q,) of each query, q ≥ 1.
        n_positives: (q,) among them, at least 1.
    """
    harmonic = np.cumsum(1.0 / np.arange(1, n_candidates.max() + 1))[n_candidates - 1]
    others = (n_positives - 1) / np.maximum(n_candidates - 1, 1)
    expected = (harmonic + others * (n_candidates - harmonic)) / n_candidates
    return float(expected.mean())


def ranking_chance(n_candidates: Counts, n_positives: Counts) -> dict[str, float]:
    """Recall@1, 5, 10, median rank, mean reciprocal rank (MRR) and mean average precision (mAP) of
    random rankings, expected; the median is that of the distribution of the rank of the best
    positive.

    Args:
        n_candidates: (q,) of each query, q ≥ 1.
        n_positives: (q,) among them, at least 1.
    """
    recall = chance_recall(n_candidates, n_positives)
    n = len(recall)
    found = {f"recall@{k}": float(recall[min(k, n) - 1]) for k in RECALL_AT}
    found["median_rank"] = _median_rank(recall)
    found["mrr"] = float(np.sum(np.diff(recall, prepend=0.0) / np.arange(1, n + 1)))
    found["map"] = chance_average_precision(n_candidates, n_positives)
    return found


def _sizes(n_candidates: Counts, n_positives: Counts) -> list[tuple[int, int, float]]:
    """Candidates, positives and the share of the queries that have so many."""
    pairs = np.stack([n_candidates, n_positives], axis=1)
    sizes, counts = np.unique(pairs, axis=0, return_counts=True)
    shares = counts / counts.sum()
    return [(n, p, share) for (n, p), share in zip(sizes.tolist(), shares.tolist(), strict=True)]


def _median_rank(recall: Floats) -> float:
    slack = 1e-12  # the products behind `recall` are exact to some 1e-14 only
    lower, upper = (recall >= 0.5 - slack).argmax() + 1, (recall > 0.5 + slack).argmax() + 1
    return float(lower + upper) / 2
