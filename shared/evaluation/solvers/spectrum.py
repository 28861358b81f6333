"""Embeddings turned onto their principal axes, where a quadratic bound is diagonal."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.linalg
from numpy.typing import NDArray

Array = NDArray[Any]
MAX_SIDE = 4096
"""Largest min(n, d) whose axes are sought: the eigenvectors take 10 s there on two cores, and eight
times that at twice the side. Above it the axes stay as they are."""


@dataclass(frozen=True)
class Spectrum:
    """Centred rows x in the coordinates of their principal axes.

    Attributes:
        rows: (n, r + 1): the coordinates, then a column of ones for the intercept.
        variances: (r,) of each coordinate.
        axes: (d, r) orthonormal columns; None where the axes are those of x.
        mean: (d,) of x.
    """

    rows: Array
    variances: Array
    axes: Array | None
    mean: Array

    def coefficients(self, at: Array) -> tuple[Array, Array]:
        """(…, d, q) coefficients and (…, q) intercepts for x, of (…, q, r + 1) for `rows`."""
        turned = at[..., :-1].astype(np.float64)
        back = turned if self.axes is None else turned @ self.axes.astype(np.float64).T
        return np.swapaxes(back, -1, -2), at[..., -1] - back @ self.mean

    def parameters(self, coef: Array, intercept: Array) -> Array:
        """What `coefficients` came from, projected on the axes."""
        back = np.swapaxes(coef, -1, -2)
        turned = back if self.axes is None else back @ self.axes
        last = intercept + back @ self.mean
        return np.concatenate([turned, last[..., None]], axis=-1).astype(self.rows.dtype)


def spectrum(x: Array, dtype: type[np.floating[Any]], weights: Array | None = None) -> Spectrum:
    """Turn rows onto their principal axes; with fewer rows than columns, into n coordinates.

    Coefficients outside the span of the rows are zero at any optimum with an L2 penalty, so that
    nothing is lost.

    Args:
        x: (n, d) numbers.
        dtype: float32 or float64 of the products.
        weights: (n,) of the rows, mean 1; None: equal.
    """
    n, d = x.shape
    mean = np.average(x, axis=0, weights=weights).astype(np.float64)
    rows = np.empty((n, d + 1), dtype)
    np.subtract(x, mean, out=rows[:, :-1], casting="same_kind")
    rows[:, -1] = 1
    centred = rows[:, :-1]
    if min(n, d) > MAX_SIDE:
        return Spectrum(rows, np.mean(centred**2, axis=0), None, mean)
    axes = np.linalg.qr(centred.T)[0] if n < d else np.eye(d, dtype=dtype)
    short = centred @ axes if n < d else centred
    weighted = short if weights is None else short * weights[:, None].astype(dtype)
    variances, turn = np.linalg.eigh(weighted.T @ short / n)
    axes = axes @ turn
    turned = rows @ scipy.linalg.block_diag(axes, np.ones((1, 1), dtype))
    return Spectrum(turned, np.maximum(variances, 0), axes, mean)
