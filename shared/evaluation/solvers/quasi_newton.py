"""L-BFGS on many convex problems at once, each with its own preconditioner."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
"""float32 or float64, whatever the problem is in."""
MEMORY = 10
"""Pairs kept of each problem; 3 to 20 do (Nocedal & Wright, Numerical Optimization, 2006, 7.2)."""
DECREASE = 1e-4
"""Part of the decrease promised by the slope that a step has to bring (ibid., 3.1)."""
NOISE = 10.0
"""Roundings by which a loss may rise and still count as equal."""
IDLE = 6
"""Rounds without a lower loss after which rounding is taken to allow none."""


@dataclass(frozen=True)
class Minimum:
    """What `minimise` found of each of p problems.

    Attributes:
        at: (p, …) parameters.
        loss: (p,) objective there.
        gap: (p,) estimate of loss minus lowest loss: gᵀH⁻¹g / 2 with the approximate Hessian H; as
            a part of the loss or of its gain over the reference, whichever is smaller.
        gradient_norm: (p,) L2 norm.
        converged: (p,) whether the gap is within the tolerance, or as small as rounding allows.
        evaluations: (p,) of loss and gradient.
    """

    at: Array
    loss: NDArray[np.float64]
    gap: NDArray[np.float64]
    gradient_norm: NDArray[np.float64]
    converged: NDArray[np.bool_]
    evaluations: NDArray[np.int64]

    def take(self, problems: slice) -> "Minimum":
        """Of some of the problems."""
        return Minimum(*(column[problems] for column in vars(self).values()))

    @staticmethod
    def join(parts: "Sequence[Minimum]") -> "Minimum":
        """One after the other."""
        columns = zip(*(vars(part).values() for part in parts), strict=True)
        return Minimum(*(np.concatenate(column) for column in columns))


Evaluate = Callable[[Array, Array], tuple[NDArray[np.float64], Array]]
"""(problems (a,), parameters (a, …)) → loss (a,), gradient (a, …)."""
Precondition = Callable[[Array, Array], Array]
"""(problems (a,), gradient (a, …)) → the gradient times an approximate inverse Hessian."""


def minimise(
    evaluate: Evaluate,
    precondition: Precondition,
    start: Array,
    at_start: tuple[NDArray[np.float64], Array],
    *,
    reference: NDArray[np.float64],
    tol: float,
    max_evaluations: int,
) -> Minimum:
    """Minimise p smooth convex functions; those that have converged take no further part.

    Limited-memory BFGS (Nocedal & Wright, algorithm 7.4) whose first matrix is the preconditioner
    scaled by sᵀy / yᵀMy, with backtracking on the condition of sufficient decrease. All problems
    are evaluated together; one that has to shorten its step does so in the next round.

    Args:
        evaluate: Loss and gradient of some of the problems.
        precondition: Of some of the problems.
        start: (p, …) first parameters.
        at_start: Loss and gradient of all problems there.
        reference: (p,) loss of a trivial solution.
        tol: A problem has converged where the estimated gap is at most this part of the loss, and
            of what the loss has gained over the reference.
        max_evaluations: Of each problem.
    """
    count = len(start)
    state = _State(start.copy(), np.arange(count))
    result = Minimum(
        at=start.copy(),
        loss=np.zeros(count),
        gap=np.zeros(count),
        gradient_norm=np.zeros(count),
        converged=np.zeros(count, bool),
        evaluations=np.zeros(count, np.int64),
    )
    state.loss, state.gradient = at_start
    state.aim(precondition)
    rounding, tiny = np.finfo(np.float64).eps, np.finfo(np.float64).tiny
    for evaluations in range(1, max_evaluations + 1):
        gain = np.clip(reference[state.problems] - state.loss, rounding * state.loss, state.loss)
        gap = -state.slope / 2 / np.maximum(gain, tiny)
        done = (gap <= tol) | (state.idle >= IDLE)
        leaving = done | (evaluations == max_evaluations)
        if leaving.any():
            state.write(result, leaving, gap, done, evaluations)
            state.keep(~leaving)
        if len(state.problems) == 0:
            break
        state.move(evaluate, precondition)
    return result


def _dot(a: Array, b: Array) -> NDArray[np.float64]:
    """(p,) inner products of (p, …) with (p, …)."""
    flat_a, flat_b = a.reshape(len(a), -1), b.reshape(len(b), -1)
    product: NDArray[np.float64] = np.einsum("pd,pd->p", flat_a, flat_b).astype(np.float64)
    return product


def _times(factor: NDArray[np.float64], a: Array) -> Array:
    """(p, …) each problem's array times its factor (p,)."""
    product: Array = a * factor.astype(a.dtype).reshape(-1, *[1] * (a.ndim - 1))
    return product


class _State:
    """The problems still being solved."""

    def __init__(self, at: Array, problems: NDArray[np.int64]) -> None:
        self.at, self.problems = at, problems
        self.loss, self.gradient = np.zeros(len(at)), at
        self.direction, self.slope = at, np.zeros(len(at))
        self.step = np.ones(len(at))
        self.idle = np.zeros(len(at), np.int64)
        self.pairs: list[tuple[Array, Array, NDArray[np.float64]]] = []

    def aim(self, precondition: Precondition) -> None:
        """Direction of descent from the gradient and the pairs (the two loops of 7.4)."""
        rest, shares = self.gradient.copy(), []
        for moved, change, inverse in reversed(self.pairs):
            share = inverse * _dot(moved, rest)
            rest -= _times(share, change)
            shares.append(share)
        found = precondition(self.problems, rest)
        if self.pairs:
            found = _times(self._scale(precondition), found)
        for (moved, change, inverse), share in zip(self.pairs, reversed(shares), strict=True):
            found += _times(share - inverse * _dot(change, found), moved)
        self.direction = -found
        self.slope = _dot(self.gradient, self.direction)

    def _scale(self, precondition: Precondition) -> NDArray[np.float64]:
        """sᵀy / yᵀMy of the last pair; one where the last step was refused."""
        _, change, inverse = self.pairs[-1]
        bent = _dot(change, precondition(self.problems, change)) * inverse
        return np.divide(1.0, bent, out=np.ones_like(bent), where=bent > 0)

    def move(self, evaluate: Evaluate, precondition: Precondition) -> None:
        """A step of every problem, or a shorter one next time."""
        moved = _times(self.step, self.direction)
        loss, gradient = evaluate(self.problems, self.at + moved)
        noise = NOISE * np.finfo(self.at.dtype).eps * np.abs(self.loss)
        good = loss <= self.loss + DECREASE * self.step * self.slope + noise
        # Of the parabola through the losses and the slope; at least a tenth, at most a half.
        excess = loss - self.loss - self.step * self.slope
        lowest = np.divide(-self.step * self.slope, 2 * excess, out=np.ones(len(loss)), where=~good)
        shorter = self.step * np.clip(lowest, 0.1, 0.5)
        gradient = np.where(_column(good, gradient), gradient, self.gradient)
        moved = np.where(_column(good, moved), moved, 0)
        change = gradient - self.gradient
        bend = _dot(moved, change)
        self.idle = np.where(good & (loss < self.loss - noise), 0, self.idle + 1)
        inverse = np.divide(1.0, bend, out=np.zeros_like(bend), where=bend > 0)
        self.at = self.at + moved
        self.gradient = gradient
        self.loss = np.where(good, loss, self.loss)
        self.pairs = [*self.pairs, (moved, change, inverse)][-MEMORY:]
        direction, slope = self.direction, self.slope
        self.aim(precondition)
        self.direction = np.where(_column(good, direction), self.direction, direction)
        self.slope = np.where(good, self.slope, slope)
        self.step = np.where(good, 1.0, shorter)

    def write(
        self,
        result: Minimum,
        leaving: NDArray[np.bool_],
        gap: NDArray[np.float64],
        done: NDArray[np.bool_],
        evaluations: int,
    ) -> None:
        to = self.problems[leaving]
        result.at[to] = self.at[leaving]
        result.loss[to], result.gap[to] = self.loss[leaving], gap[leaving]
        result.gradient_norm[to] = np.sqrt(_dot(self.gradient, self.gradient))[leaving]
        result.converged[to], result.evaluations[to] = done[leaving], evaluations

    def keep(self, rows: NDArray[np.bool_]) -> None:
        for name in ("at", "problems", "loss", "gradient", "direction", "slope", "step", "idle"):
            setattr(self, name, getattr(self, name)[rows])
        self.pairs = [(moved[rows], change[rows], inv[rows]) for moved, change, inv in self.pairs]


def _column(mask: NDArray[np.bool_], like: Array) -> NDArray[np.bool_]:
    return mask.reshape(-1, *[1] * (like.ndim - 1))
