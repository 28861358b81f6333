"""Unit vectors and columns of unit variance."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def normalise(vectors: NDArray[np.float32] | Floats) -> Floats:
    """Rows of unit L2 norm, float64; a row of zeros stays zeros."""
    rows = vectors.astype(np.float64)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
    return unit


def unit_mean(parts: Sequence[NDArray[np.float32]]) -> Floats:
    """(n, d) mean of the L2-normalised embeddings of some modalities, not normalised again.

    What AstroM3 (arXiv:2411.08842) calls the embedding of an object: (p + s + m) / 3.
    """
    mean: Floats = np.mean([normalise(part) for part in parts], axis=0)
    return mean


def standardisation(
    train: NDArray[np.float32] | Floats, *, together: bool = False
) -> tuple[Floats, Floats]:
    """(d,) mean and standard deviation of the columns of (n, d) rows; a constant column gets
    deviation 1.

    Args:
        train: (n, d) rows, n >= 1.
        together: All columns get the same, the root of their mean variance: what hardly varies (a
            rare bit, a rare word) goes on counting little.
    """
    vectors = train.astype(np.float64)
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    if together:
        scale = np.full_like(scale, np.sqrt(np.mean(scale**2)))
    constant = scale <= 1e-9 * np.abs(vectors).max(axis=0, initial=0.0)
    return mean, np.where(constant, 1.0, scale)
