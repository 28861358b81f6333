"""Penalised problems of many strengths, each started from the solutions of its neighbours."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.vectors import Floats
from shared.evaluation.solvers.links import Link
from shared.evaluation.solvers.quasi_newton import Array, Minimum, minimise
from shared.evaluation.solvers.spectrum import Spectrum

SINGLE_THREAD_SIZE = 4_000_000
"""Below this number of values one thread is used: a sweep takes a second at most, and where other
work runs beside it, waking threads for each small product can take ten times that."""
ANCHOR = 50.0
"""Strengths this factor apart are solved one from the other, those between from interpolations."""
MAX_COLUMNS = 1024
"""Outputs of all strengths solved together; bounds memory at some 30 (d, 1024) arrays."""
BLOCK = 2**19
"""Values of a block of rows or of its logits, which stay in the caches of a core."""
MIN_CURVATURE = 1e-3
"""Smallest part of the largest curvature over classes that the preconditioner believes."""


def solve(
    turned: Spectrum,
    link: Link,
    l2: Sequence[float] | Floats,
    first: Array | None,
    tol: float,
    max_evaluations: int,
) -> Minimum:
    """Minima for all strengths; problems are ordered by strength, then by problem of the link.

    Some strengths, strongest first, start each from the one before. The others start from
    polynomials in log l2 through the nearest solutions, halfway between, then between those,
    which leaves one to three evaluations to most; they are solved side by side, so that one
    product of matrices serves all.
    """
    descending, position = np.unique(-np.asarray(l2, float), return_inverse=True)
    log_l2 = np.log(-descending)
    shape = (link.n_problems, link.n_outputs, turned.rows.shape[1])
    if first is None:
        first = np.zeros(shape, turned.rows.dtype)
        first[:, :, -1] = link.intercepts()
    solved: dict[int, Minimum] = {}
    with _threads(turned.rows.size):
        for group in _schedule(log_l2, max(MAX_COLUMNS // (shape[0] * shape[1]), 1)):
            start = np.concatenate([_guess(log_l2, i, solved, first) for i in group])
            problems = _Problems(turned, link, np.exp(log_l2[group]), start)
            found = problems.minimise(link.entropies(), tol, max_evaluations)
            for place, index in enumerate(group):
                solved[index] = found.take(slice(place * shape[0], (place + 1) * shape[0]))
    return Minimum.join([solved[index] for index in position])


def _schedule(log_l2: Floats, width: int) -> Iterator[list[int]]:
    """Indices of descending strengths in the order of solving, at most `width` together."""
    last = len(log_l2) - 1
    anchors = [0]
    yield anchors
    while anchors[-1] < last:
        within = np.flatnonzero(log_l2 >= log_l2[anchors[-1]] - np.log(ANCHOR))
        anchors.append(max(int(within[-1]), anchors[-1] + 1))
        yield anchors[-1:]
    while len(anchors) <= last:
        level = [(a + b) // 2 for a, b in pairwise(anchors) if b - a > 1]
        yield from (level[i : i + width] for i in range(0, len(level), width))
        anchors = sorted(anchors + level)


def _guess(log_l2: Floats, index: int, solved: Mapping[int, Minimum], first: Array) -> Array:
    """(L, q, r + 1) from the cubic through the four nearest solutions; where all are stronger, the
    nearest."""
    known = np.array(sorted(solved, key=lambda other: abs(log_l2[other] - log_l2[index])))
    if len(known) == 0:
        return first
    if index > known.max():
        return solved[int(known[0])].at
    guess = np.zeros_like(first)
    nearest = known[:4]
    for one in nearest:
        others = log_l2[nearest[nearest != one]]
        part = np.prod((log_l2[index] - others) / (log_l2[one] - others))
        guess += solved[int(one)].at * guess.dtype.type(part)
    return guess


class _Problems:
    """Regressions of several strengths that are solved side by side.

    The preconditioner is the inverse of a Kronecker product plus the penalty: the mean curvature
    by the logits times the covariance of the rows. That is the Hessian if the two are independent
    (as Martens & Grosse, arXiv:1503.05671, take them to be), and exact where all rows have the
    same probabilities, as under strong penalties. On principal axes it is diagonal.
    """

    def __init__(self, turned: Spectrum, link: Link, l2: Floats, start: Array) -> None:
        self.rows, self.link, self.start = turned.rows, link, start
        dtype = self.rows.dtype
        self.l2 = np.repeat(l2, link.n_problems)[:, None, None] * np.ones(self.rows.shape[1])
        self.l2[:, :, -1] = 0
        self.l2 = self.l2.astype(dtype)
        self.problem = np.tile(np.arange(link.n_problems), len(l2))
        loss, gradient, bend = self._over_rows(np.arange(len(start)), start, curved=True)
        self.at_start = self._penalised(np.arange(len(start)), start, loss, gradient)
        values, self.turn = np.linalg.eigh(bend.astype(dtype))
        floor = np.maximum(MIN_CURVATURE * values[:, -1:], np.finfo(dtype).tiny)
        values = np.maximum(values, floor)
        variances = np.append(turned.variances, 1).astype(dtype)
        self.inverse = 1 / (values[:, :, None] * variances + self.l2)

    def minimise(self, reference: Floats, tol: float, max_evaluations: int) -> Minimum:
        return minimise(
            self.evaluate,
            self.precondition,
            self.start,
            self.at_start,
            reference=reference[self.problem],
            tol=tol,
            max_evaluations=max_evaluations,
        )

    def evaluate(self, which: NDArray[np.int64], at: Array) -> tuple[Floats, Array]:
        loss, gradient, _ = self._over_rows(which, at)
        return self._penalised(which, at, loss, gradient)

    def precondition(self, which: NDArray[np.int64], gradient: Array) -> Array:
        turn = self.turn[which]
        back: Array = turn @ ((np.swapaxes(turn, 1, 2) @ gradient) * self.inverse[which])
        return back

    def _penalised(
        self, which: NDArray[np.int64], at: Array, loss: Floats, gradient: Array
    ) -> tuple[Floats, Array]:
        pull = self.l2[which] * at
        return loss + np.einsum("aqr,aqr->a", pull, at, dtype=np.float64) / 2, gradient + pull

    def _over_rows(
        self, which: NDArray[np.int64], at: Array, *, curved: bool = False
    ) -> tuple[Floats, Array, Array]:
        """Loss, gradient and, on demand, mean curvature by the logits, block by block."""
        count, outputs, width = at.shape
        flat, problem = at.reshape(-1, width), self.problem[which]
        loss, gradient = np.zeros(count), np.zeros_like(flat)
        bend = np.zeros((count, outputs, outputs))
        block = max(BLOCK // max(len(flat), width), 128)
        for begin in range(0, len(self.rows), block):
            rows = slice(begin, begin + block)
            logits = (flat @ self.rows[rows].T).reshape(count, outputs, -1)
            if curved:
                bend += self.link.curvature(logits, rows, problem)
            loss += self.link.residual(logits, rows, problem)
            gradient += logits.reshape(len(flat), -1) @ self.rows[rows]
        return loss, gradient.reshape(at.shape), bend


def _threads(size: int) -> AbstractContextManager[Any]:
    """One thread for small problems."""
    limit: AbstractContextManager[Any] = _controller().limit(
        limits=1 if size < SINGLE_THREAD_SIZE else None
    )
    return limit


@cache
def _controller() -> Any:
    from threadpoolctl import ThreadpoolController

    return ThreadpoolController()
