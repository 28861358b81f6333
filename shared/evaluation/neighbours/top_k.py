"""Exact nearest neighbours by inner product, in bounded memory.

Found in float32 and decided in float64 (see `products`), so the outcome is that of
float64 throughout and depends neither on blocks nor on threads.

Ties: scores closer than 1e-12 tie, where each query and the longest candidate have norm 1 (to the
next power of two), and the candidate with the smaller index comes first. A row of zeros has score 0
with everything.

Beyond its arguments and its result a call holds less than 256 MiB for widths up to 1024, whatever
the numbers of rows (`benchmarks/neighbours.py` measures it). Only where a query needs all its n
scores at once, because many tie at the k-th place or k is large, it holds these, some 40 n bytes.
"""

import numpy as np

from shared.errors import EvaluationError
from shared.evaluation.neighbours.products import (
    COLUMNS,
    SPLIT,
    TIE,
    Block,
    Codes,
    Floats,
    Indices,
    Matches,
    Pool,
    Singles,
    Vectors,
    check_fit,
    dense_rows,
    in_threads,
    split_rows,
)

_NO_ROWS = np.empty(0, dtype=np.int64)


def top_k(
    queries: Vectors, candidates: Vectors, k: int, *, exclude: Codes | None = None
) -> tuple[Indices, Floats]:
    """The k candidates with the largest inner product with each query.

    Args:
        queries: (q, d), finite.
        candidates: (n, d), finite.
        k: At least 1; more than n counts as n.
        exclude: Codes of the queries (q,) and of the candidates (n,); a candidate with a query's
            code is not among its neighbours (itself, its group).

    Returns:
        (q, k) indices, the largest score first, and (q, k) float64 scores. Where fewer than k
        candidates are left for a query, the rest is index -1 with score -inf.

    Raises:
        EvaluationError: k < 1, no candidates, or widths or codes that do not fit.
    """
    check_fit(queries, candidates, exclude)
    if k < 1:
        raise EvaluationError(f"k = {k} neighbours; ask for at least 1.")
    k = min(k, len(candidates))
    pool = Pool.of(candidates)
    left_out = None if exclude is None else Matches(exclude)
    indices = np.full((len(queries), k), -1, dtype=np.int64)
    scores = np.full((len(queries), k), -np.inf)

    def search(part: Indices) -> None:
        block = Block.of(queries, part)
        rows, columns = _top_of_block(block, pool, k, left_out)
        products = block.pairs(pool, rows, columns)
        rows, place, chosen = _in_order(rows, columns, products, k)
        indices[part[rows], place] = columns[chosen]
        scores[part[rows], place] = products[chosen] / (block.scale[rows] * pool.scale)

    in_threads(search, queries)
    return indices, scores


def _top_of_block(
    block: Block, pool: Pool, k: int, left_out: Matches | None
) -> tuple[Indices, Indices]:
    """Pairs (place in the block, candidate) that hold the top k of each query, and few more."""
    rows, columns, undecided = _found_in_float32(block, pool, k, left_out)
    found = [(rows, columns)]
    for part in split_rows(undecided, dense_rows(pool)):
        rows, columns = _found_in_float64(block.take(part), pool, k, left_out)
        found.append((part[rows], columns))
    rows, columns = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
    return rows, columns


def _found_in_float32(
    block: Block, pool: Pool, k: int, left_out: Matches | None
) -> tuple[Indices, Indices, Indices]:
    """Pairs that float32 scores cannot rule out; and the places that have too many of them.

    The k-th largest of the maxima of groups of scores is a lower bound of the k-th largest score:
    most groups are passed over by their maximum.
    """
    if 8 * k > COLUMNS:
        return _NO_ROWS, _NO_ROWS, np.arange(len(block))
    margin = (2 * block.bound(pool)).astype(np.float32)
    best = np.full((len(block), k), -np.inf, dtype=np.float32)
    rows, columns, values = _NO_ROWS, _NO_ROWS, np.empty(0, dtype=np.float32)
    many = np.zeros(len(block), dtype=np.bool_)
    for start, scores in block.scores(pool, left_out):
        groups = _groups(scores, k)
        maxima = groups.max(axis=1)
        best = np.partition(np.concatenate([best, maxima], axis=1), -k, axis=1)[:, -k:]
        threshold = np.where(many, np.inf, best.min(axis=1) - margin)
        of_row, group = np.nonzero(maxima >= threshold[:, None])
        many |= np.bincount(of_row, minlength=len(block)) > 4 * k + SPLIT
        of_row, group = of_row[~many[of_row]], group[~many[of_row]]
        inside = groups[of_row, :, group]
        hit, member = np.nonzero((inside >= threshold[of_row, None]) & (inside > -np.inf))
        rows = np.append(rows, of_row[hit])
        columns = np.append(columns, start + member * groups.shape[2] + group[hit])
        values = np.append(values, inside[hit, member])
        stay = values >= np.where(many, np.inf, threshold)[rows]
        rows, columns, values = rows[stay], columns[stay], values[stay]
        many |= np.bincount(rows, minlength=len(block)) > 4 * k + 8 * SPLIT
    stay = ~many[rows]
    return rows[stay], columns[stay], np.flatnonzero(many)


def _groups(scores: Singles, k: int) -> Singles:
    """(b, members, groups) view of (b, w) scores, with some times k groups."""
    members = SPLIT
    while members > 1 and scores.shape[1] < 4 * k * members:
        members //= 2
    return scores.reshape(len(scores), members, -1)


def _found_in_float64(
    block: Block, pool: Pool, k: int, left_out: Matches | None
) -> tuple[Indices, Indices]:
    """Pairs with a score above the k-th largest, and the first k that tie with that."""
    scores = block.all_scores(pool, left_out)
    last = np.partition(scores, -k, axis=1)[:, -k, None]
    above = scores > last + TIE
    tied = (scores >= last - TIE) & ~above & (scores > -np.inf)
    rows, columns = np.nonzero(above | (tied & (tied.cumsum(axis=1) <= k)))
    return rows, columns


def _in_order(
    rows: Indices, columns: Indices, scores: Floats, k: int
) -> tuple[Indices, Indices, Indices]:
    """Row, place 0 … k - 1 and pair of the first k pairs of each row, by score and by column where
    scores tie."""
    order = np.lexsort((-scores, rows))
    new_row = np.diff(rows[order], prepend=-1) != 0
    new_score = new_row | (-np.diff(scores[order], prepend=np.inf) > TIE)
    order = order[np.lexsort((columns[order], new_score.cumsum()))]
    rows = rows[order]
    place = np.arange(len(rows)) - np.flatnonzero(new_row)[new_row.cumsum() - 1]
    first = place < k
    return rows[first], place[first], order[first]
