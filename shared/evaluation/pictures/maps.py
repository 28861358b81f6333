"""Maps: the embeddings in two dimensions, as points and with some of the samples themselves."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import SPLIT, UNKNOWN, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, unit_mean
from shared.evaluation.pictures.figures import (
    SMALL,
    TEXT,
    class_colour,
    class_name,
    legend_below,
    make_figure,
    make_panels,
    plain,
    scatter_classes,
)
from shared.evaluation.pictures.projection import project
from shared.evaluation.pictures.thumbnails import Artist

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

THUMBNAILS = 24
MAP_SIZE = (11.0, 8.8)
BOX = (0.115, 0.085)
"""Width and height of a thumbnail on the map, as shares of its axes."""
_GAP = 0.012
_TITLE = 0.022
"""Room between point and box, and for the name above a box."""
MAX_NAMED = 36
"""Classes in a legend; of more, colours and markers repeat anyway."""


def draw_map(embeddings: EmbeddingSet, method: str) -> "Figure":
    """Test embeddings, one panel a modality; colour and marker are the class.

    Args:
        embeddings: At least one modality has test rows.
        method: One of `projection.PROJECTIONS`.
    """
    modalities = [m for m in embeddings.modalities if embeddings.rows(SPLIT, m).size]
    title = "Test embeddings in two dimensions; colour and marker: class"
    figure, panels = make_panels(len(modalities), 3.3, 4.0, title, embeddings)
    in_legend: set[int] = set()
    for axes, modality in zip(panels, modalities, strict=True):
        rows, train = (embeddings.rows(split, modality) for split in (SPLIT, "train"))
        vectors = embeddings.vectors[modality]
        points, words = project(vectors[rows], vectors[train], method)
        scatter_classes(axes, points, embeddings.labels[rows], embeddings, in_legend)
        axes.set_title(plain(f"{modality} (n = {len(rows)})\n{words}"), fontsize=TEXT)
    if len(in_legend) <= MAX_NAMED:
        legend_below(figure, panels, columns=_columns(embeddings, figure))
    else:
        figure.supxlabel(plain(f"{len(in_legend)} classes: colours repeat"), fontsize=SMALL)
    return figure


def _columns(embeddings: EmbeddingSet, figure: "Figure") -> int:
    """How many names of classes stand side by side at 8 points."""
    longest = max((len(name) for name in embeddings.classes), default=8)
    return max(1, int(figure.get_figwidth() / (0.45 + 0.063 * min(longest, 24))))


def draw_thumbnails_map(embeddings: EmbeddingSet, artist: Artist, method: str) -> "Figure | None":
    """The same of all modalities together, with some of the samples; None without test rows."""
    shown = artist.first
    # what stands in several rows, once a caption, is drawn once
    modalities = (shown,) if shown in embeddings.copies else together(embeddings)
    rows, train = (embeddings.rows(split, *modalities) for split in (SPLIT, "train"))
    if not rows.size:
        return None
    vectors, fitted = (
        unit_mean([embeddings.vectors[m][chosen] for m in modalities]) for chosen in (rows, train)
    )
    points, words = project(vectors, fitted, method)
    which = f"mean of {', '.join(modalities)}" if len(modalities) > 1 else modalities[0]
    title = f"Test embeddings ({which}; n = {len(rows)}; {words}); drawn: {shown}"
    figure = make_figure(*MAP_SIZE, title, embeddings)
    axes = figure.subplots()
    labels = embeddings.labels[rows]
    scatter_classes(axes, points, labels, embeddings, set())
    if embeddings.classes:
        figure.legend(loc="outside lower center", ncols=10, fontsize=8, frameon=False)
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.where(high > low, high - low, 1.0)
    # room for thumbnails beside the outermost points
    low, span = low - np.asarray(BOX) * span, span * (1 + 2 * np.asarray(BOX))
    axes.set_xlim(low[0], low[0] + span[0])
    axes.set_ylim(low[1], low[1] + span[1])
    for i, corner in place_boxes((points - low) / span, labels, THUMBNAILS):
        _leader(axes, points[i], low + np.asarray(corner) * span, span)
        inset = axes.inset_axes((*corner, *BOX))
        artist.draw(inset, int(rows[i]), shown)
        inset.set_xticks([])
        inset.set_yticks([])
        inset.set_xlabel("")
        inset.set_ylabel("")
        colour = class_colour(int(labels[i]))
        inset.spines[:].set_color(colour)
        inset.spines[:].set_linewidth(1.5)
        inset.set_title(class_name(int(labels[i]), embeddings), fontsize=7.5, pad=1.5)
    return figure


def together(embeddings: EmbeddingSet) -> tuple[str, ...]:
    """All modalities where their embeddings can be averaged, else the one most test rows have."""
    widths = {embeddings.vectors[m].shape[1] for m in embeddings.modalities}
    if len(widths) == 1 and embeddings.rows(SPLIT, *embeddings.modalities).size:
        return embeddings.modalities
    return (max(embeddings.modalities, key=lambda m: embeddings.rows(SPLIT, m).size),)


def _leader(axes: "Axes", point: Floats, corner: Floats, span: Floats) -> None:
    """A ring around a point and a line to the box whose lower left corner is given."""
    far = corner + np.add(BOX, (0, _TITLE)) * span
    axes.scatter(point[0], point[1], s=40, facecolors="none", edgecolors="black", zorder=3)
    ends = zip(point, np.clip(point, corner, far), strict=True)
    axes.plot(*ends, color="black", linewidth=0.6, zorder=1.5)


def place_boxes(
    points: Floats, labels: NDArray[np.int64], count: int
) -> list[tuple[int, tuple[float, float]]]:
    """Which points get a thumbnail, and where it lies; no two overlap.

    First one point a class (that nearest to the median of its class), then, as long as there is
    room, the point farthest from all chosen ones. A box lies on the side of its point where it
    hides the fewest points.

    Args:
        points: (n, 2) in shares of the axes.
        labels: (n,) classes.
        count: At most so many.

    Returns:
        Pairs of a point and the lower left corner of its box, in shares of the axes.
    """
    placed: list[tuple[int, tuple[float, float]]] = []
    distance = np.full(len(points), np.inf)

    def place(i: int) -> None:
        distance[i] = -1.0
        taken = [corner for _, corner in placed]
        chosen = points[[i, *(j for j, _ in placed)]]
        free = [
            corner
            for corner in _corners(points[i])
            if _is_free(corner, taken) and not _hidden(corner, chosen)
        ]
        if free and not any(_hidden(corner, points[[i]]) for corner in taken):
            placed.append((i, min(free, key=lambda c: _hidden(c, points))))
            np.minimum(distance, np.linalg.norm(points - points[i], axis=1), out=distance)

    for label in np.unique(labels[labels != UNKNOWN]):
        of_class = np.flatnonzero(labels == label)
        away = np.linalg.norm(points[of_class] - np.median(points[of_class], axis=0), axis=1)
        if len(placed) < count:
            place(int(of_class[away.argmin()]))
    while len(placed) < count and distance.max(initial=-1.0) > 0:
        place(int(distance.argmax()))
    return placed


def _corners(point: Floats) -> list[tuple[float, float]]:
    """Lower left corners of boxes above, below, right and left of a point, inside the axes."""
    (x, y), (w, h) = point.tolist(), BOX
    corners = [
        (x - w / 2, y + _GAP),
        (x - w / 2, y - _GAP - _TITLE - h),
        (x + _GAP, y - h / 2),
        (x - _GAP - w, y - h / 2),
    ]
    return [c for c in corners if 0 <= c[0] <= 1 - w and 0 <= c[1] <= 1 - h - _TITLE]


def _is_free(corner: tuple[float, float], taken: Sequence[tuple[float, float]]) -> bool:
    w, h = BOX[0] + _GAP, BOX[1] + _GAP + _TITLE
    return all(abs(corner[0] - x) >= w or abs(corner[1] - y) >= h for x, y in taken)


def _hidden(corner: tuple[float, float], points: Floats) -> int:
    """How many points lie under a box and its name, or so near that their rings would."""
    far = np.add(np.add(corner, BOX), (_GAP / 2, _TITLE))
    inside = (points > np.subtract(corner, _GAP / 2)) & (points < far)
    return int(inside.all(axis=1).sum())
