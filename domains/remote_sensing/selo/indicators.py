"""How well a map of a scene finds the regions that a query describes: Rsu, Rda, Ras, Rmi.

Source: Yuan et al. 2022, arXiv:2209.06515, as RS5M's `selo` code computes them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.remote_sensing.selo.opencv import Image, opencv
from shared.errors import DataError

Floats = NDArray[np.float64]
Polygon = Sequence[Sequence[float]]
"""Vertices (x, y), pixels."""

RADIUS = 1.5
"""Of a region, in mean distances of its vertices from its centre."""
BOX, TIMES = 50, 5
"""Side of the box filter, pixels, and how often it is applied before maxima are looked for."""
NEIGHBOURHOOD = 1000
"""Side of the square in which a maximum is the largest, pixels."""
THRESHOLD = 0.5
"""Smallest probability of a candidate."""
STEEPNESS = 0.707
"""Of the exponential of Rsu."""
EXPANSION = 3.0
"""Of the exponential of Ras."""
WEIGHTS = (0.4, 0.35, 0.25)
"""Of Rsu, 1 - Ras and Rda in Rmi."""


@dataclass(frozen=True)
class Indicators:
    """Of one query.

    Attributes:
        rmi: The weighted mean of the others; higher is better, as for all but `ras`.
        rsu: Share of the salient area that lies in the regions.
        ras: Shift of the candidate points from the centres of the regions; lower is better.
        rda: Whether each region has one candidate point.
        candidates: (k, 2) points (x, y) that the map proposes, pixels.
    """

    rmi: float
    rsu: float
    ras: float
    rda: float
    candidates: NDArray[np.int64]


@dataclass(frozen=True)
class Region:
    """A polygon as a circle: centre (x, y) and radius, whole pixels."""

    centre: tuple[int, int]
    radius: int

    @classmethod
    def of(cls, polygon: Polygon) -> "Region":
        """Centre: mean of the vertices; radius: `RADIUS` mean distances of them; both truncated.

        Raises:
            DataError: The polygon is a point.
        """
        vertices = np.asarray(polygon, dtype=np.float64)
        centre = np.trunc(vertices.mean(axis=0))
        radius = int(RADIUS * np.linalg.norm(vertices - centre, axis=1).mean())
        if radius == 0:
            raise DataError(f"the polygon around {centre.tolist()} has no extent.")
        return cls((int(centre[0]), int(centre[1])), radius)

    def distances(self, candidates: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
        """(k, 2) those candidates that lie within the radius, and their (k,) distances."""
        distance = np.linalg.norm(candidates - np.asarray(self.centre), axis=1)
        within = distance <= self.radius
        return candidates[within], distance[within]


def indicators(grey: Image, polygons: Sequence[Polygon]) -> Indicators:
    """The four indicators of one query.

    Args:
        grey: (height, width) uint8, of `heat_map`; over 255 it is the probability.
        polygons: The regions that the query describes.

    Raises:
        DataError: A polygon is a point, or the polygons do not lie in the scene.
    """
    regions = [Region.of(polygon) for polygon in polygons]
    candidates = candidate_points(grey)
    rsu = salient_area(grey / 255.0, fill(polygons, *grey.shape))
    ras, rda = attention_shift(regions, candidates), attention_discreteness(regions, candidates)
    rmi = float(np.dot(WEIGHTS, (rsu, 1 - ras, rda)))
    return Indicators(rmi, rsu, ras, rda, candidates)


def check_polygon(polygon: Any) -> None:
    """Hold that something read from a file is a polygon.

    Raises:
        DataError: Fewer than three vertices [x, y], or numbers that are no coordinates: no JPEG has
            a side of 65536 pixels. Or the polygon is a point.
    """
    right = (
        isinstance(polygon, list)
        and len(polygon) >= 3
        and all(isinstance(vertex, list) and len(vertex) == 2 for vertex in polygon)
        and all(type(x) in (int, float) and abs(x) < 2**16 for vertex in polygon for x in vertex)
    )
    if not right:
        raise DataError("a polygon takes three or more vertices [x, y], in pixels.")
    Region.of(polygon)


def fill(polygons: Sequence[Polygon], height: int, width: int) -> NDArray[np.bool_]:
    """(height, width) whether a pixel lies in the polygons or on their outlines; vertices are
    truncated to whole pixels.

    Raises:
        DataError: No pixel does.
    """
    mask = np.zeros((height, width), dtype=np.uint8)
    opencv().fillPoly(mask, [np.asarray(p, dtype=np.float64).astype(np.int32) for p in polygons], 1)
    if not mask.any():
        raise DataError(f"the polygons do not lie in the scene of {width} × {height} pixels.")
    return mask.astype(np.bool_)


def salient_area(probability: Floats, mask: NDArray[np.bool_]) -> float:
    """Rsu, salient area proportion, 0 … 1: 1 - exp(-0.707 · in / out · area out / area in).

    Args:
        probability: (height, width), 0 … 1.
        mask: (height, width), of `fill`.
    """
    inside, area = float(probability[mask].sum()), int(mask.sum())
    outside = float(probability.sum()) - inside
    contrast = inside / (outside + 1e-7) * (mask.size - area) / area
    return 1 - math.exp(-STEEPNESS * contrast)


def attention_shift(regions: Sequence[Region], candidates: NDArray[np.int64]) -> float:
    """Ras, attention shift distance, 0 … 1: (e^3u - 1) / (e^3 - 1), where u is the mean over the
    regions of the mean distance of their candidates over the radius; 1 for a region without."""
    shares = []
    for region in regions:
        _, distance = region.distances(candidates)
        shares.append(distance.mean() / region.radius if distance.size else 1.0)
    return math.expm1(EXPANSION * float(np.mean(shares))) / math.expm1(EXPANSION)


def attention_discreteness(regions: Sequence[Region], candidates: NDArray[np.int64]) -> float:
    """Rda, discrete attention distance, 0 … 1: the mean over the regions of 0 without a candidate,
    1 with one, and with n of them (1 - d/r) / 2 + e^(-(n + 2)/2), where d is their mean distance
    from their centroid. So two that coincide score 0.64, one scores 1."""
    scores = []
    for region in regions:
        points, _ = region.distances(candidates)
        n = len(points)
        if n <= 1:
            scores.append(float(n))
            continue
        spread = np.linalg.norm(points - points.mean(axis=0), axis=1).mean()
        scores.append(0.5 * (1 - spread / region.radius) + math.exp(-0.5 * (n + 2)))
    return float(np.mean(scores))


def candidate_points(grey: Image) -> NDArray[np.int64]:
    """(k, 2) points (x, y) where the smoothed map is largest in a square of 1000 × 1000 pixels and
    the map itself at least half as large as it can be, the most probable first.

    Smoothing is in whole grey levels, rounded each time (OpenCV's), with the border mirrored.
    """
    from scipy.ndimage import label, maximum_filter

    smooth, cv2 = grey, opencv()
    for _ in range(TIMES):
        smooth = cv2.blur(smooth, (BOX, BOX))
    highest = (maximum_filter(smooth, NEIGHBOURHOOD, mode="reflect") == smooth) & (smooth > 0)
    labels, n = label(highest, structure=np.ones((3, 3)))
    rows, columns = np.nonzero(labels)
    component = labels[rows, columns] - 1
    size = np.bincount(component, minlength=n)
    x, y = (
        (np.bincount(component, weights=axis, minlength=n) / size).astype(np.int64)
        for axis in (columns, rows)
    )
    probability = grey[y, x] / 255.0
    order = np.argsort(-probability, kind="stable")
    return np.stack([x, y], axis=1)[order[probability[order] >= THRESHOLD]]
