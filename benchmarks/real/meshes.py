"""Meshes: statistics of points on the surface."""

import csv
import re
import zipfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.sets import make_set
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

Floats = NDArray[np.float64]

N_POINTS = 2048
N_BINS = 32
FEWEST_MESHES = 4
_STL_TRIANGLE = np.dtype([("normal", "<f4", 3), ("corners", "<f4", (3, 3)), ("attribute", "<u2")])
_STL_HEADER_BYTES = 84
_SIZE = re.compile(r"(large|medium|small)$")
# what names variants of one object: a capital letter, a colour
_VARIANT = re.compile(r"_?[A-Z](?=_|$)|_(blue|brown|green|red|white|yellow)(?=_|$)")


def kaykit_meshes(root: Path) -> EmbeddingSet:
    """Objects of the labels with 4 or more. A group are the variants A, B, … of one object and
    its colours, which have the same surface."""
    folder = root / "pointcloud/kaykit_meshes"
    with (folder / "index.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    counts = Counter(row["label"] for row in rows)
    rows = [row for row in rows if counts[row["label"]] >= FEWEST_MESHES]
    names = [row["file"].removesuffix(".obj") for row in rows]
    with zipfile.ZipFile(folder / "meshes.zip") as archive:
        triangles = [_read_obj(archive.read(row["file"]).decode()) for row in rows]
    return make_set(
        "kaykit_meshes",
        [folder / "index.csv", folder / "meshes.zip"],
        names,
        {"points": np.stack([*map(_shape, triangles)])},
        labels=[row["label"] for row in rows],
        groups=[_VARIANT.sub("", name) for name in names],
        subgroups={"pack": [row["pack"] for row in rows]},
        standardised=("points",),
    )


def object_sim(root: Path) -> EmbeddingSet:
    """25 objects, one a name; only the cylinder comes in several sizes."""
    paths = sorted((root / "pointcloud/object_sim").glob("*/*.stl"))
    shapes = [_SIZE.sub("", path.parent.name) for path in paths]
    return make_set(
        "object_sim",
        paths,
        [path.parent.name for path in paths],
        {"points": np.stack([_shape(_read_stl(path)) for path in paths])},
        labels=shapes,
        standardised=("points",),
    )


def _read_obj(text: str) -> Floats:
    """(n, 3, 3) triangles of a Wavefront file; polygons are cut into fans, negative indices count
    from the last vertex read."""
    vertices: list[list[float]] = []
    triangles: list[list[int]] = []
    for line in text.splitlines():
        kind, *cells = line.split() or [""]
        if kind == "v":
            vertices.append([float(cell) for cell in cells[:3]])
        elif kind == "f":
            numbers = [int(cell.split("/")[0]) for cell in cells]
            corners = [k - 1 if k > 0 else len(vertices) + k for k in numbers]
            triangles += [[corners[0], b, c] for b, c in pairwise(corners[1:])]
    return np.asarray(np.array(vertices)[np.array(triangles)])


def _read_stl(path: Path) -> Floats:
    """(n, 3, 3) triangles of a binary file."""
    content = path.read_bytes()
    return np.frombuffer(content, _STL_TRIANGLE, offset=_STL_HEADER_BYTES)["corners"].astype(float)


def _shape(triangles: Floats) -> Floats:
    """(67,) shares of 2048 surface points by distance from their centre and of their pairs by
    distance (the D2 of Osada et al. 2002, doi:10.1145/571647.571648), over the largest radius;
    extents along the three axes over the largest."""
    rng = np.random.default_rng(0)
    points = _sample(triangles, rng)
    points = points - points.mean(axis=0)
    radius = np.linalg.norm(points, axis=1)
    scale = radius.max()
    other = points[rng.permutation(N_POINTS)]
    distance = np.linalg.norm(points - other, axis=1)
    extents = np.ptp(points, axis=0)
    radii, _ = np.histogram(radius / scale, N_BINS, (0, 1))
    pairs, _ = np.histogram(distance / scale, N_BINS, (0, 2))
    return np.concatenate([radii / N_POINTS, pairs / N_POINTS, extents / extents.max()])


def _sample(triangles: Floats, rng: np.random.Generator) -> Floats:
    """(2048, 3) points, uniform over the surface."""
    a, b, c = triangles.swapaxes(0, 1)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1)
    chosen = rng.choice(len(area), N_POINTS, p=area / area.sum())
    u, v = rng.random((2, N_POINTS, 1))
    beyond = u + v > 1  # of the parallelogram, folded back
    u, v = np.where(beyond, 1 - u, u), np.where(beyond, 1 - v, v)
    return np.asarray(a[chosen] + u * (b - a)[chosen] + v * (c - a)[chosen])
