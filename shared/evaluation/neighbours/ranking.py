"""Exact ranks and average precision by inner product; ties, exactness and memory as in
`shared.evaluation.neighbours.top_k`."""

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.neighbours.products import (
    ELEMENTS,
    TIE,
    Block,
    Codes,
    Floats,
    Indices,
    Matches,
    Pool,
    Vectors,
    check_fit,
    dense_rows,
    in_threads,
    split_rows,
)

_DENSE = 64
"""A float64 product of a matrix is faster than single ones for more than 1/64 of its elements
(measured at d = 512)."""


def best_ranks(
    queries: Vectors, candidates: Vectors, positives: Codes, *, exclude: Codes | None = None
) -> Indices:
    """Rank of each query's best positive by inner product, 1 = first.

    Rank = 1 + candidates with a larger score + candidates that tie with it and have a smaller
    index: its place in a stable descending sort. If all scores tie, the ranks of n pairs are
    1 … n, and recall@k is at chance.

    Args:
        queries: (q, d), finite.
        candidates: (n, d), finite.
        positives: Codes of the queries (q,) and of the candidates (n,); candidates with a query's
            code are its positives.
        exclude: Likewise; candidates with a query's code are neither positives nor counted.

    Returns:
        (q,) ranks; 0 where a query has no positive.

    Raises:
        EvaluationError: No candidates, or widths or codes that do not fit.
    """
    check_fit(queries, candidates, positives, exclude)
    pool = Pool.of(candidates)
    wanted = Matches(positives)
    left_out = None if exclude is None else Matches(exclude)
    ranks = np.zeros(len(queries), dtype=np.int64)

    def rank(part: Indices) -> None:
        block = Block.of(queries, part)
        best, index = _best_positives(block, pool, wanted, left_out)
        own = np.flatnonzero(best > -np.inf)
        before = _number_before(block.take(own), pool, best[own], index[own], left_out)
        ranks[part[own]] = 1 + before

    in_threads(rank, queries)
    return ranks


def average_precision(
    queries: Vectors, candidates: Vectors, relevant: Codes, *, exclude: Codes | None = None
) -> tuple[Floats, Indices, Indices]:
    """Average precision of each query's whole ranking by inner product.

    AP = mean over the relevant candidates of (relevant ones up to its rank) / (its rank). Source:
    Manning, Raghavan & Schütze, Introduction to Information Retrieval (2008), section 8.4.

    Args:
        queries: (q, d), finite.
        candidates: (n, d), finite.
        relevant: Codes of the queries (q,) and of the candidates (n,); candidates with a query's
            code are relevant.
        exclude: Likewise; candidates with a query's code are neither relevant nor ranked.

    Returns:
        (q,) AP, (q,) rank of the first relevant candidate, (q,) number of relevant candidates;
        NaN, 0 and 0 for a query without any.

    Raises:
        EvaluationError: No candidates, or widths or codes that do not fit.
    """
    check_fit(queries, candidates, relevant, exclude)
    pool = Pool.of(candidates)
    left_out = None if exclude is None else Matches(exclude)
    precision = np.full(len(queries), np.nan)
    first, number = np.zeros((2, len(queries)), dtype=np.int64)
    ranks = np.arange(1, len(pool) + 1)

    def judge(part: Indices) -> None:
        for few in split_rows(part, dense_rows(pool)):
            scores = Block.of(queries, few).all_scores(pool, left_out)
            hit = (relevant[0][few, None] == relevant[1]) & (scores > -np.inf)
            hit = np.take_along_axis(hit, _descending(scores), axis=1)
            number[few] = hit.sum(axis=1)
            first[few] = np.where(number[few] > 0, 1 + hit.argmax(axis=1), 0)
            total = np.where(hit, hit.cumsum(axis=1) / ranks, 0.0).sum(axis=1)
            some = number[few] > 0
            precision[few[some]] = total[some] / number[few[some]]

    in_threads(judge, queries)
    return precision, first, number


def _best_positives(
    block: Block, pool: Pool, wanted: Matches, left_out: Matches | None
) -> tuple[Floats, Indices]:
    """(b,) float64 score of the best positive, -inf without any, and (b,) its index, the smallest
    where several tie."""
    best = np.full(len(block), -np.inf)
    index = np.zeros(len(block), dtype=np.int64)
    number = wanted.number[block.rows]
    several = number > len(pool) // _DENSE
    for part in split_rows(np.flatnonzero(several), dense_rows(pool)):
        of_part = block.take(part)
        scores = of_part.all_scores(pool, left_out)
        positive = np.zeros(scores.shape, dtype=np.bool_)
        positive[wanted.pairs(of_part.rows)] = True
        scores[~positive] = -np.inf
        best[part] = scores.max(axis=1)
        index[part] = (scores >= best[part, None] - TIE).argmax(axis=1)
    few = np.flatnonzero(~several & (number > 0))
    for part in split_rows(few, max(1, ELEMENTS // max(1, len(pool) // _DENSE))):
        places, columns = wanted.pairs(block.rows[part])
        scores = block.pairs(pool, part[places], columns)
        if left_out is not None:
            scores[left_out.match(block.rows[part[places]], columns)] = -np.inf
        start = np.flatnonzero(np.diff(places, prepend=-1))
        best[part] = np.maximum.reduceat(scores, start)
        tied = scores >= best[part[places]] - TIE
        index[part] = np.minimum.reduceat(np.where(tied, columns, len(pool)), start)
    return best, index


def _number_before(
    block: Block, pool: Pool, best: Floats, index: Indices, left_out: Matches | None
) -> Indices:
    """(b,) candidates before the one with that score and index."""
    number = np.zeros(len(block), dtype=np.int64)
    margin = block.bound(pool)
    centred = best - block.vectors @ pool.centre
    low, high = (centred - margin).astype(np.float32), (centred + margin).astype(np.float32)
    for start, scores in block.scores(pool, left_out):
        above = scores > high[:, None]
        near = (scores >= low[:, None]) ^ above
        number += _count(above)
        many = _count(near) > scores.shape[1] // _DENSE
        for part in split_rows(np.flatnonzero(many), max(1, ELEMENTS // scores.shape[1])):
            columns = np.arange(start, min(start + scores.shape[1], len(pool)))
            exact = block.vectors[part] @ pool.rows(columns).T
            before = _before(exact, columns, best[part, None], index[part, None])
            number[part] += _count(before & near[part, : len(columns)])
        near[many] = False
        rows, columns = np.divmod(np.flatnonzero(near), scores.shape[1])
        columns += start
        exact = block.pairs(pool, rows, columns)
        before = _before(exact, columns, best[rows], index[rows])
        number += np.bincount(rows[before], minlength=len(block))
    return number


def _before(scores: Floats, columns: Indices, best: Floats, index: Indices) -> NDArray[np.bool_]:
    return (scores > best + TIE) | ((scores >= best - TIE) & (columns < index))


def _count(mask: NDArray[np.bool_]) -> Indices:
    """(b,) of true in each row; for rows one by one numpy has a fast path."""
    return np.fromiter((np.count_nonzero(row) for row in mask), dtype=np.int64, count=len(mask))


def _descending(scores: Floats) -> Indices:
    """(b, n) columns by score, the largest first, and by column where scores tie."""
    order = np.argsort(-scores, axis=1)
    sorted_scores = np.take_along_axis(scores, order, axis=1)
    with np.errstate(invalid="ignore"):  # -inf less -inf, of what is left out
        new = -np.diff(sorted_scores, axis=1, prepend=np.inf) > TIE
    for row in np.flatnonzero(~new.all(axis=1)):
        order[row] = order[row, np.lexsort((order[row], new[row].cumsum()))]
    return order
