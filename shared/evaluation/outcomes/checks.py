"""Checks that arrays of an outcome fit each other."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError

_SUM_TOLERANCE = 1e-3
"""Of probabilities of a row, from 1: a softmax in bfloat16 is off by some 1e-3 at most."""


def check_length(name: str, column: NDArray[Any], n: int) -> None:
    """Raises EvaluationError if a column has another number of rows."""
    if len(column) != n:
        raise EvaluationError(f"{name} has {len(column)} rows, the truth has {n}: one a row.")


def check_finite(name: str, column: NDArray[Any]) -> None:
    """Raises EvaluationError if there is NaN or infinity."""
    if not np.isfinite(column).all():
        raise EvaluationError(f"{name} holds NaN or infinity: every test row needs a number.")


def check_codes(name: str, codes: NDArray[np.int64], n_codes: int) -> None:
    """Raises EvaluationError if an index is outside of [0, n_codes)."""
    if not np.issubdtype(codes.dtype, np.integer):
        raise EvaluationError(f"{name} has dtype {codes.dtype}: class indices are integers.")
    if len(codes) and (codes.min() < 0 or codes.max() >= n_codes):
        raise EvaluationError(
            f"{name} has indices from {codes.min()} to {codes.max()}, but there are {n_codes} "
            "classes: leave out rows of unknown class."
        )


def check_probabilities(
    name: str, probabilities: NDArray[np.float64], shape: tuple[int, int]
) -> None:
    """Raises EvaluationError unless rows are distributions over the classes."""
    if probabilities.shape != shape:
        raise EvaluationError(f"{name} has shape {probabilities.shape}, expected {shape}.")
    check_finite(name, probabilities)
    off = np.abs(probabilities.sum(axis=1) - 1)
    if probabilities.size and (probabilities.min() < 0 or off.max() > _SUM_TOLERANCE):
        raise EvaluationError(
            f"{name} are no probabilities: the smallest is {probabilities.min():.3g}, the sum of a "
            f"row is off 1 by up to {off.max():.3g}. Give the softmax of the scores."
        )


def names_of(codes: NDArray[np.int64], names: Sequence[str]) -> NDArray[np.str_]:
    """The names that indices stand for."""
    return np.array(names, dtype=np.str_)[codes]


def codes_of(column: NDArray[Any], names: Sequence[str]) -> NDArray[np.int64]:
    """The indices of names.

    Raises:
        EvaluationError: A name is not among them.
    """
    index = {name: i for i, name in enumerate(names)}
    unknown = sorted({str(name) for name in column} - set(index))
    if unknown:
        raise EvaluationError(f"class {unknown[0]!r} is not one of the file's classes.")
    return np.array([index[str(name)] for name in column], dtype=np.int64)
