"""Ridge regression for a whole grid of L2 strengths at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.errors import EvaluationError
from shared.evaluation.embeddings.vectors import Floats
from shared.evaluation.solvers.quasi_newton import Array


@dataclass(frozen=True)
class RidgePath:
    """Linear models of k strengths.

    Attributes:
        l2: (k,) strengths, in the order asked for.
        coef: (k, d, t) coefficients.
        intercept: (k, t).
    """

    l2: Floats
    coef: Floats
    intercept: Floats

    def predict(self, x: Array) -> Floats:
        """(k, n, t) of (n, d) rows."""
        found: Floats = np.matmul(x.astype(np.float64, copy=False), self.coef)
        found += self.intercept[:, None, :]
        return found


def fit_ridge(x: Array, targets: Floats, l2: Sequence[float] | Floats) -> RidgePath:
    """Least squares with an L2 penalty, for several strengths and targets, in float64.

    The objective is the mean squared error plus l2 ‖w‖², the intercept free: scikit-learn's `Ridge`
    with alpha = l2 n. One eigendecomposition of XᵀX, or of XXᵀ where that is smaller, serves all
    strengths, and all targets that are known of the same rows: (Λ + l2 n)⁻¹ is diagonal there
    (Hastie, Tibshirani & Friedman, The Elements of Statistical Learning, 2009, Eq. 3.47).

    Args:
        x: (n, d) finite numbers.
        targets: (n, t) numbers; NaN where unknown, such rows do not count for that target.
        l2: (k,) strengths > 0.

    Raises:
        EvaluationError: A strength is not > 0, or a target is known of no row.
    """
    strengths = np.asarray(l2, dtype=np.float64)
    if len(strengths) == 0 or not np.all(strengths > 0):
        raise EvaluationError(f"L2 strengths must be > 0; got {strengths.tolist()}.")
    known = np.isfinite(targets)
    if not known.any(axis=0).all():
        raise EvaluationError(f"Target {int(known.any(axis=0).argmin())} is known of no row.")
    coef = np.empty((len(strengths), x.shape[1], targets.shape[1]))
    intercept = np.empty((len(strengths), targets.shape[1]))
    masks, alike = np.unique(known, axis=1, return_inverse=True)
    for index, mask in enumerate(masks.T):
        columns = np.flatnonzero(alike == index)
        found = _solve(x[mask].astype(np.float64), targets[np.ix_(mask, columns)], strengths)
        coef[:, :, columns], intercept[:, columns] = found
    return RidgePath(strengths, coef, intercept)


def _solve(x: Floats, y: Floats, l2: Floats) -> tuple[Floats, Floats]:
    """(k, d, t) coefficients and (k, t) intercepts; x is overwritten."""
    x_mean, y_mean = x.mean(axis=0), y.mean(axis=0)
    x -= x_mean
    n, d = x.shape
    wide = n < d
    values, axes = np.linalg.eigh(x @ x.T if wide else x.T @ x)
    onto = axes.T @ ((y - y_mean) if wide else x.T @ (y - y_mean))
    damping = np.maximum(values, 0) + n * l2[:, None]
    coef = axes @ (onto / damping[:, :, None])
    if wide:
        coef = x.T @ coef
    return coef, y_mean - x_mean @ coef
