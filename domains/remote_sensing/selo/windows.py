"""The windows into which a scene is cut, at three scales."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError

STEPS = (256, 512, 768)
"""Sides of the windows, pixels. Source: Yuan et al. 2022, arXiv:2209.06515, and RS5M's code."""

Windows = NDArray[np.int64]


def windows(height: int, width: int, steps: Sequence[int] = STEPS) -> Windows:
    """All windows of a scene: of each side s a grid from 0 and one shifted by s/2.

    A window that would reach over an edge is moved back inside, so that the scene is covered;
    windows with equal coordinates are one. Source: RS5M's `selo` code, whose window files are named
    by their coordinates.

    Args:
        height: Of the scene, pixels.
        width: Of the scene, pixels.
        steps: Sides of the windows, pixels.

    Returns:
        (n, 4) rows [row start, row end, column start, column end], ends exclusive, sorted.

    Raises:
        DataError: The scene is smaller than the largest window.
    """
    largest = max(steps)
    if min(height, width) < largest:
        raise DataError(
            f"a scene of {width} × {height} pixels is smaller than the largest window, {largest} × "
            f"{largest}. Semantic localisation takes larger scenes; do not scale this one up."
        )
    found = [
        (row, row + step, column, column + step)
        for step in steps
        for offset in (0, step // 2)
        for row in _starts(height, step, offset)
        for column in _starts(width, step, offset)
    ]
    return np.unique(np.asarray(found, dtype=np.int64), axis=0)


def _starts(length: int, step: int, offset: int) -> list[int]:
    return [min(start, length - step) for start in range(offset, length, step)]
