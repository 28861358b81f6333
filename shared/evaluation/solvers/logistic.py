"""Logistic regression for a whole grid of L2 strengths at once."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, softmax

from shared.errors import EvaluationError
from shared.evaluation.embeddings.vectors import Floats
from shared.evaluation.solvers.links import Link, Sigmoid, Softmax
from shared.evaluation.solvers.path import solve
from shared.evaluation.solvers.quasi_newton import Array, Minimum
from shared.evaluation.solvers.spectrum import Spectrum, spectrum

TOL = 1e-7
"""Gap to the lowest loss at which a fit has converged, see `LinearPath.gap`. Measured on
20,000 x 768 values, 10 classes: losses within 4e-7, accuracies within 0.02 points of those of 1e-9;
at 1e-6 within 5e-6 and 0.1 points, in three quarters of the evaluations."""
MAX_EVALUATIONS = 1000
FLOAT64_SIZE = 4_000_000
"""Up to this number of values all is float64; above it the products are float32, which takes half
the time, and the sums over rows of the loss stay float64."""


@dataclass(frozen=True)
class LinearPath:
    """Linear models of k strengths.

    Attributes:
        l2: (k,) strengths, in the order asked for.
        coef: (k, d, q) coefficients.
        intercept: (k, q).
        converged: (k,), or (k, q) where outputs are independent: whether the gap is within the
            tolerance, or as small as rounding allows.
        evaluations: Like `converged`: of loss and gradient.
        gap: Like `converged`: estimate of how far the loss is above its lowest, as a part of it or
            of its gain over the model without inputs, whichever is smaller. It knows curvature only
            as L-BFGS does and is too small where columns are nearly collinear: of 996 x 1024 bits
            it was some 3 to 30 times below the true gap at strengths down to 1e-4, 1000 times at
            1e-6.
        gradient_norm: Like `converged`: L2 norm of the gradient.
    """

    l2: Floats
    coef: Floats
    intercept: Floats
    converged: NDArray[np.bool_]
    evaluations: NDArray[np.int64]
    gap: Floats
    gradient_norm: Floats

    def __len__(self) -> int:
        return len(self.l2)

    def at(self, index: int) -> Self:
        """The path of one strength only."""
        names = ("l2", "coef", "intercept", "converged", "evaluations", "gap", "gradient_norm")
        return replace(self, **{name: getattr(self, name)[index : index + 1] for name in names})

    def decision(self, x: Array) -> Floats:
        """(k, n, q) logits of (n, d) rows."""
        logits: Floats = np.matmul(x.astype(np.float64, copy=False), self.coef)
        logits += self.intercept[:, None, :]
        return logits


class LogisticPath(LinearPath):
    """Multinomial models: outputs are classes."""

    def probabilities(self, x: Array) -> Floats:
        """(k, n, C) of the classes of (n, d) rows."""
        found: Floats = softmax(self.decision(x), axis=2)
        return found

    def predict(self, x: Array) -> NDArray[np.int64]:
        """(k, n) most probable class of (n, d) rows; on a tie the smaller index."""
        return np.stack([self.at(i).decision(x)[0].argmax(axis=1) for i in range(len(self))])


class BinaryPath(LinearPath):
    """Independent binary models: outputs are tags."""

    def probabilities(self, x: Array) -> Floats:
        """(k, n, L) that a row has the tag."""
        found: Floats = expit(self.decision(x))
        return found


def fit_logistic(
    x: Array,
    y: NDArray[np.int64],
    n_classes: int,
    l2: Sequence[float] | Floats,
    *,
    weights: Floats | None = None,
    start: LogisticPath | None = None,
    dtype: type[np.floating[Any]] | None = None,
    tol: float = TOL,
    max_evaluations: int = MAX_EVALUATIONS,
) -> LogisticPath:
    """Multinomial logistic regression with an L2 penalty, for several strengths.

    The objective is the mean cross-entropy plus l2/2 ‖W‖², the intercept free: scikit-learn's with
    C = 1 / (l2 n). As there, two classes share one vector of coefficients (W holds its half with
    either sign). The more the strengths, the cheaper each: see `solvers.path`.

    Args:
        x: (n, d) finite numbers; columns of like variance converge fastest.
        y: (n,) classes, 0 ≤ y < n_classes. A class without rows gets intercept -inf.
        n_classes: C.
        l2: (k,) strengths > 0, in any order.
        weights: (n,) ≥ 0, how much a row counts; None: all the same.
        start: Solution of one strength of a like problem to start the first from.
        dtype: float32 or float64; None: by size.
        tol: Gap to stop at, see `LinearPath.gap`.
        max_evaluations: Of loss and gradient, of each strength.

    Raises:
        EvaluationError: A strength is not > 0, there are no rows, or a label is no class.
    """
    _check(x, l2)
    if y.min() < 0 or y.max() >= n_classes:
        raise EvaluationError(f"Labels are {y.min()}…{y.max()}; there are {n_classes} classes.")
    turned = _turn(x, dtype, weights)
    share = _share(np.ones(len(y)) if weights is None else weights, turned)
    present = np.unique(y[share > 0])
    where = np.searchsorted(present, y).clip(max=len(present) - 1)
    link: Link
    if len(present) == 2:
        link = Sigmoid((where == 1)[None, :], share[None, :])
    else:
        link = Softmax(where, share, len(present))
    first = None
    if start is not None:
        coef, intercept = start.coef[0][:, present], start.intercept[0][present]
        if len(present) == 2:
            coef, intercept = np.diff(coef, axis=1), np.diff(intercept)
        if np.isfinite(intercept).all():
            first = turned.parameters(coef, intercept)[None]
    found = solve(turned, link, l2, first, tol, max_evaluations)
    coef, intercept = turned.coefficients(found.at)
    if len(present) == 2:
        coef, intercept = (np.concatenate([-a, a], axis=-1) / 2 for a in (coef, intercept))
    all_coef = np.zeros((len(l2), x.shape[1], n_classes))
    all_intercept = np.full((len(l2), n_classes), -np.inf)
    all_coef[:, :, present], all_intercept[:, present] = coef, intercept
    return LogisticPath(np.asarray(l2, float), all_coef, all_intercept, *_told(found))


def fit_binary(
    x: Array,
    tags: Floats,
    l2: Sequence[float] | Floats,
    *,
    start: BinaryPath | None = None,
    dtype: type[np.floating[Any]] | None = None,
    tol: float = TOL,
    max_evaluations: int = MAX_EVALUATIONS,
) -> BinaryPath:
    """Independent binary logistic regressions, one a tag, for several strengths.

    Of each tag the objective of `fit_logistic`, the mean taken over the rows where it is known. A
    tag that all these rows have gets intercept inf, one that none has -inf.

    Args:
        x: (n, d) finite numbers.
        tags: (n, L) of 0, 1 and NaN (unknown).
        l2: (k,) strengths > 0, in any order.
        start: Solution of one strength of a like problem to start the first from.
        dtype: float32 or float64; None: by size.
        tol: Gap to stop at, see `LinearPath.gap`.
        max_evaluations: Of loss and gradient, of each strength.

    Raises:
        EvaluationError: A strength is not > 0, there are no rows, or a tag is known of none.
    """
    _check(x, l2)
    known = np.isfinite(tags)
    if not known.any(axis=0).all():
        raise EvaluationError(f"Tag {int(known.any(axis=0).argmin())} is known of no row.")
    frequency = np.nansum(tags, axis=0) / known.sum(axis=0)
    both = np.flatnonzero((frequency > 0) & (frequency < 1))
    coef = np.zeros((len(l2), x.shape[1], tags.shape[1]))
    intercept = np.tile(np.where(frequency > 0, np.inf, -np.inf), (len(l2), 1))
    told = [np.zeros(intercept.shape, dtype) for dtype in (bool, np.int64, float, float)]
    told[0][:] = True
    if len(both):
        turned = _turn(x, dtype, None)
        share = np.stack([_share(known[:, tag], turned) for tag in both])
        first = None
        if start is not None:
            parts = turned.parameters(start.coef[0][:, both], start.intercept[0][both])
            first = parts[:, None, :] if np.isfinite(parts).all() else None
        link = Sigmoid(tags[:, both].T > 0.5, share)
        found = solve(turned, link, l2, first, tol, max_evaluations)
        shape = (len(l2), len(both))
        coef[:, :, both], intercept[:, both] = turned.coefficients(found.at.reshape(*shape, -1))
        for all_tags, value in zip(told, _told(found), strict=True):
            all_tags[:, both] = value.reshape(shape)
    return BinaryPath(np.asarray(l2, float), coef, intercept, *told)


def _check(x: Array, l2: Sequence[float] | Floats) -> None:
    if len(x) == 0:
        raise EvaluationError("There are no rows to fit a logistic regression on.")
    if len(l2) == 0 or not np.all(np.asarray(l2) > 0):
        raise EvaluationError(f"L2 strengths must be > 0; got {np.asarray(l2).tolist()}.")


def _turn(x: Array, dtype: type[np.floating[Any]] | None, weights: Floats | None) -> Spectrum:
    if dtype is None:
        dtype = np.float64 if x.size <= FLOAT64_SIZE else np.float32
    return spectrum(x, dtype, weights)


def _share(weights: Array, turned: Spectrum) -> Array:
    share: Array = (weights / weights.sum()).astype(turned.rows.dtype)
    return share


def _told(found: Minimum) -> tuple[Any, ...]:
    return found.converged, found.evaluations, found.gap, found.gradient_norm
