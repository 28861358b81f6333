"""Inner products of many queries with many candidates, block by block.

The bulk is a float32 matrix product of queries and centred candidates c - m (m their mean): q·m is
the same for all candidates of a query, so their order stays, and candidates that lie close together
keep their differences. Such a score is off by at most

    (d + 4) 2⁻²⁴ |q| max|c - m|

(d products summed in any order: Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed.,
eq. 3.5, with Cauchy-Schwarz; the rest is for rounding q, c - m and a threshold). What lies within
that of a decision is computed again in float64.
"""

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from shared.errors import EvaluationError

Floats = NDArray[np.float64]
Singles = NDArray[np.float32]
Indices = NDArray[np.int64]
Vectors = Singles | Floats
Codes = tuple[Indices, Indices]
"""Codes of the queries and of the candidates; a query and a candidate of equal codes match."""

TIE = 1e-12
"""Scores closer than this tie. Sums of the same float64 products in another order differ less."""
COLUMNS = 2048
"""Of a block of float32 scores."""
ROWS = 4096
"""Of the blocks of all threads together, for vectors of width `WIDTH` or less: 32 MiB of scores."""
WIDTH = 512
FEWEST_ROWS = 256
"""Of a block: with fewer, converting the candidates costs more than the product."""
SPLIT = 64
"""Its columns are a multiple of this."""
ELEMENTS = 2**20
"""Float64 numbers held at a time: 8 MiB."""
CACHED = 2**17
"""Float64 numbers that stay in a core's cache."""
THREADS = 8
"""At most, for each holds a block of `FEWEST_ROWS` at least."""
_NONE = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Pool:
    """The candidates, scaled so that the longest has norm 1 to the next power of two.

    Attributes:
        vectors: (n, d) as given.
        scale: The power of two.
        centre: (d,) mean of the scaled candidates.
        radius: Largest norm of a scaled candidate less the centre.
    """

    vectors: Vectors
    scale: float
    centre: Floats
    radius: float

    @staticmethod
    def of(vectors: Vectors) -> "Pool":
        """Scale and centre of (n, d) candidates."""
        n, width = vectors.shape
        parts = list(_parts(n, width))
        norms = [_norms(vectors[part].astype(np.float64)).max() for part in parts]
        scale = float(_power_of_two(np.array([max(norms)]))[0])
        centre = np.zeros(width)
        for part in parts:
            centre += (vectors[part].astype(np.float64) * scale).sum(axis=0) / n
        radius = max(_norms(vectors[p].astype(np.float64) * scale - centre).max() for p in parts)
        return Pool(vectors, scale, centre, float(radius))

    def __len__(self) -> int:
        return len(self.vectors)

    def rows(self, which: Indices | slice) -> Floats:
        """Scaled float64 candidates."""
        return self.vectors[which].astype(np.float64) * self.scale

    def centred(self, start: int, found: Singles) -> None:
        """Write scaled and centred candidates from `start` on into (w, d)."""
        for part in _parts(len(found), found.shape[1], CACHED):
            found[part] = self.rows(slice(start + part.start, start + part.stop)) - self.centre


@dataclass(frozen=True)
class Block:
    """Some queries, each scaled to norm 1 to the next power of two.

    Attributes:
        rows: (b,) indices of the queries.
        vectors: (b, d) float64, scaled.
        scale: (b,) the powers of two.
    """

    rows: Indices
    vectors: Floats
    scale: Floats

    @staticmethod
    def of(queries: Vectors, rows: Indices) -> "Block":
        vectors = queries[rows].astype(np.float64)
        scale = _power_of_two(_norms(vectors))
        return Block(rows, vectors * scale[:, None], scale)

    def __len__(self) -> int:
        return len(self.rows)

    def take(self, rows: Indices) -> "Block":
        """Some of its queries."""
        return Block(self.rows[rows], self.vectors[rows], self.scale[rows])

    def bound(self, pool: Pool) -> Floats:
        """(b,) how far a float32 score of `scores` may be off."""
        width = self.vectors.shape[1]
        relative = 1.01 * (width + 4) * 2.0**-24
        bound: Floats = relative * pool.radius * _norms(self.vectors) + 2 * TIE
        return bound

    def scores(self, pool: Pool, left_out: "Matches | None") -> Iterator[tuple[int, Singles]]:
        """First column and (b, w) float32 scores q·(c - m) from there on, -inf for what is left
        out. The width w is a multiple of `SPLIT`, filled up with -inf; the array is used again for
        the next columns."""
        rows, others = (_NONE, _NONE) if left_out is None else left_out.pairs(self.rows)
        queries = self.vectors.astype(np.float32)
        columns = min(COLUMNS, -(-len(pool) // SPLIT) * SPLIT)
        found = np.empty((len(self), columns), dtype=np.float32)
        tile = np.zeros((columns, queries.shape[1]), dtype=np.float32)
        for start in range(0, len(pool), columns):
            part = slice(start, min(start + columns, len(pool)))
            pool.centred(start, tile[: part.stop - start])
            np.matmul(queries, tile.T, out=found)
            found[:, part.stop - start :] = -np.inf
            here = (others >= start) & (others < part.stop)
            found[rows[here], others[here] - start] = -np.inf
            yield start, found

    def all_scores(self, pool: Pool, left_out: "Matches | None") -> Floats:
        """(b, n) float64 scores q·c, -inf for what is left out."""
        found = np.empty((len(self), len(pool)))
        for part in _parts(len(pool), self.vectors.shape[1]):
            found[:, part] = self.vectors @ pool.rows(part).T
        if left_out is not None:
            found[left_out.pairs(self.rows)] = -np.inf
        return found

    def pairs(self, pool: Pool, rows: Indices, columns: Indices) -> Floats:
        """(p,) float64 scores of places in the block with candidates."""
        found = np.empty(len(rows))
        for part in _parts(len(rows), self.vectors.shape[1], CACHED):
            left, right = self.vectors[rows[part]], pool.rows(columns[part])
            found[part] = np.einsum("ij,ij->i", left, right)
        return found


def dense_rows(pool: Pool) -> int:
    """Queries whose scores with all candidates are held at a time."""
    return max(1, ELEMENTS // len(pool))


class Matches:
    """The candidates whose code equals that of a query."""

    def __init__(self, codes: Codes) -> None:
        own, others = self._codes = codes
        self._order = np.argsort(others, kind="stable")
        self._first = np.searchsorted(others, own, "left", sorter=self._order)
        last = np.searchsorted(others, own, "right", sorter=self._order)
        self.number: Indices = last - self._first
        """(q,) candidates of each query."""

    def pairs(self, rows: Indices) -> tuple[Indices, Indices]:
        """Places in `rows` of queries, ascending, and their candidates, ascending for each."""
        number = self.number[rows]
        places = np.repeat(np.arange(len(rows)), number)
        within = np.arange(number.sum()) - np.repeat(np.cumsum(number) - number, number)
        return places, self._order[np.repeat(self._first[rows], number) + within]

    def match(self, rows: Indices, columns: Indices) -> NDArray[np.bool_]:
        """(p,) whether the queries match the candidates."""
        equal: NDArray[np.bool_] = self._codes[0][rows] == self._codes[1][columns]
        return equal


def in_threads(work: Callable[[Indices], None], queries: Vectors) -> None:
    """Call `work` with the indices of blocks of queries, on as many threads as BLAS has.

    A thread a block with single-threaded products is faster than one block after the other on
    several threads, for the steps between the products run in parallel, too.
    """
    n, width = queries.shape
    if n <= FEWEST_ROWS:
        if n:
            work(np.arange(n))
        return
    blas = ThreadpoolController().select(user_api="blas")
    threads = min(THREADS, max((library["num_threads"] for library in blas.info()), default=1))
    at_once = ROWS * WIDTH // max(width, WIDTH)
    size = max(FEWEST_ROWS, min(at_once, n) // threads)
    with blas.limit(limits=1), ThreadPoolExecutor(threads) as pool:
        deque(pool.map(work, split_rows(np.arange(n), size)), maxlen=0)


def split_rows(rows: Indices, size: int) -> list[Indices]:
    """The rows, `size` at a time."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]


def check_fit(queries: Vectors, candidates: Vectors, *codes: Codes | None) -> None:
    """
    Raises:
        EvaluationError: No candidates, or widths or codes that do not fit.
    """
    if len(candidates) == 0:
        raise EvaluationError("There are no candidates to compare with; give at least one row.")
    if queries.ndim != 2 or queries.shape[1:] != candidates.shape[1:]:
        raise EvaluationError(
            f"Queries have shape {queries.shape}, candidates {candidates.shape}; both are (rows, "
            "width), of one width."
        )
    for of_queries, of_candidates in filter(None, codes):
        if len(of_queries) != len(queries) or len(of_candidates) != len(candidates):
            raise EvaluationError(
                f"{len(of_queries)} and {len(of_candidates)} codes for {len(queries)} queries and "
                f"{len(candidates)} candidates; every row has one."
            )


def _parts(n: int, width: int, elements: int = ELEMENTS) -> Iterator[slice]:
    """Slices of n rows of some width with so many elements at most."""
    step = max(1, elements // max(1, width))
    return (slice(start, min(start + step, n)) for start in range(0, n, step))


def _norms(rows: Floats) -> Floats:
    found: Floats = np.sqrt(np.einsum("ij,ij->i", rows, rows))
    return found


def _power_of_two(norms: Floats) -> Floats:
    """(b,) the power of two that brings each norm to √½ … √2; 1 for zeros."""
    logarithm = np.log2(norms, out=np.zeros_like(norms), where=norms > 0)
    return np.exp2(-np.round(logarithm))
