"""From the scores of windows to a map of grey levels over the scene. Source of all: RS5M's `selo`
code."""

import numpy as np
from numpy.typing import NDArray

from domains.remote_sensing.selo.opencv import Image, jpeg_round_trip, opencv
from domains.remote_sensing.selo.windows import Windows
from shared.errors import EvaluationError

MEDIAN = 251
"""Side of the median filter, pixels."""

Scores = NDArray[np.floating]


def heat_map(
    windows: Windows, scores: Scores, height: int, width: int, *, jpeg: bool = True
) -> Image:
    """Grey levels of a scene, 0 where it fits the query least: `grey_map`, then a median filter of
    251 × 251 pixels with the border replicated.

    Args:
        windows: (n, 4) as in `windows.windows`.
        scores: (n,) of each window.
        height: Of the scene, pixels.
        width: Of the scene, pixels.
        jpeg: Whether the map is written as JPEG and read back, as upstream does.

    Returns:
        (height, width) uint8.

    Raises:
        EvaluationError: The windows leave a part of the scene uncovered.
    """
    smooth = np.asarray(
        opencv().medianBlur(grey_map(windows, scores, height, width), MEDIAN), dtype=np.uint8
    )
    return jpeg_round_trip(smooth) if jpeg else smooth


def grey_map(windows: Windows, scores: Scores, height: int, width: int) -> Image:
    """(height, width) uint8: the mean score of the windows over each pixel, scaled so that the
    smallest is 0 and the largest 255, and truncated. Scores that are all equal give 0.

    Pixels between the same edges of windows have the same windows, so means are taken once for each
    such cell, not for each pixel.
    """
    rows, columns = (
        np.unique(np.append(windows[:, axes], (0, length)))
        for axes, length in ((slice(0, 2), height), (slice(2, 4), width))
    )
    total = np.zeros((len(rows) - 1, len(columns) - 1))
    count = np.zeros_like(total)
    edges = (np.searchsorted(rows, windows[:, :2]), np.searchsorted(columns, windows[:, 2:]))
    spans = np.concatenate(edges, axis=1).tolist()
    for (top, bottom, left, right), score in zip(spans, scores.tolist(), strict=True):
        total[top:bottom, left:right] += score
        count[top:bottom, left:right] += 1
    if rows[-1] > height or columns[-1] > width or not count.all():
        raise EvaluationError(
            f"{len(windows)} windows do not cover a scene of {width} × {height} pixels."
        )
    mean = total / count
    mean -= mean.min()
    if mean.max() > 0:
        mean /= mean.max()
    cells = (mean * 255).astype(np.uint8)
    return np.repeat(np.repeat(cells, np.diff(rows), axis=0), np.diff(columns), axis=1)
