"""Galleries: the samples themselves, beside what their embeddings say of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Dataset
from shared.errors import SchemaError
from shared.evaluation.embedding_set import SPLIT, UNKNOWN, EmbeddingSet
from shared.evaluation.evaluator import Drawing
from shared.evaluation.figures import (
    COLOURS,
    UNKNOWN_COLOUR,
    class_colour,
    class_name,
    make_figure,
    plain,
    scatter_classes,
)
from shared.evaluation.nearest_centroid import unit_mean
from shared.evaluation.outliers import Outliers
from shared.evaluation.projection import project
from shared.evaluation.similarity import similar
from shared.evaluation.statistics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 6
QUERIES = 3
OUTLIERS = 12
THUMBNAILS = 24
SEED = 0
ID_LENGTH = 22
MIN_WIDTH = 6.0
PANEL = (1.6, 1.05)
"""Inches of a panel, without its labels."""
MAP_SIZE = (11.0, 8.8)
BOX = (0.115, 0.085)
"""Width and height of a thumbnail on the map, as shares of its axes."""
_GAP = 0.012
_TITLE = 0.022
"""Room between point and box, and for the name above a box."""
SAME, OTHER = COLOURS[2], COLOURS[3]


@dataclass(frozen=True)
class _Artist:
    """Draws samples of a dataset."""

    dataset: Dataset
    drawing: Drawing

    def shown(self, modality: str) -> str:
        """The modality that stands for a sample: itself, or the first that can be drawn."""
        return modality if modality in self.drawing.thumbnails else self.first

    @property
    def first(self) -> str:
        return next(m for m in self.drawing.thumbnails if m in self.dataset.schemas)

    def draw(self, axes: "Axes", row: int, modality: str) -> None:
        """A sample as its thumbnail, or a word where there is nothing to draw."""
        axes.tick_params(labelsize=6, length=2, pad=1.5)
        axes.locator_params(nbins=4)
        raw = self.dataset[row]
        try:
            if modality in raw:
                draw = self.drawing.thumbnails[modality]
                draw(axes, self.dataset.schemas, raw)
                return
            reason = f"no {modality}"
        except SchemaError:
            reason = f"{modality}: no channels to draw"
        axes.text(0.5, 0.5, plain(reason), ha="center", va="center", fontsize=7)
        axes.set_xticks([])
        axes.set_yticks([])


def draw_all(
    embeddings: EmbeddingSet, drawing: Drawing, outliers: Outliers | None
) -> dict[str, "Figure"]:
    """Figures by name; none where the samples are not there or nothing says how to draw them."""
    dataset = drawing.dataset
    if dataset is None or not set(drawing.thumbnails) & set(dataset.schemas):
        return {}
    artist = _Artist(dataset, drawing)
    figures: dict[str, Figure] = {}
    if embeddings.rows(SPLIT, *_together(embeddings)).size:
        figures["thumbnails_map"] = _thumbnails_map(embeddings, artist)
    for modality in embeddings.modalities:
        queries = _queries(embeddings, modality)
        if queries.size and embeddings.present[modality].sum() > 1:
            figures[f"similarity_{modality}"] = _similarity(embeddings, artist, modality, queries)
        if outliers is not None and modality in outliers.distance:
            chosen = outliers.farthest(modality, OUTLIERS)
            if chosen.size:
                figures[f"outliers_{modality}"] = _outliers(
                    embeddings, artist, modality, outliers, chosen
                )
    return figures


def _queries(embeddings: EmbeddingSet, modality: str) -> NDArray[np.int64]:
    """Test rows, drawn once for all modalities where there are some that have all; as many classes
    as there are."""
    rows = embeddings.rows(SPLIT, *embeddings.modalities)
    if not rows.size:
        rows = embeddings.rows(SPLIT, modality)
    rows = np.random.default_rng(SEED).permutation(rows)
    _, first = np.unique(embeddings.labels[rows], return_index=True)
    others = np.setdiff1d(np.arange(len(rows)), first)
    chosen: NDArray[np.int64] = rows[np.concatenate([np.sort(first), others])[:QUERIES]]
    return chosen


def _similarity(
    embeddings: EmbeddingSet, artist: _Artist, modality: str, queries: NDArray[np.int64]
) -> "Figure":
    neighbours, cosine = similar(embeddings, queries, modality, COLUMNS - 1)
    shown = artist.shown(modality)
    what = modality if shown == modality else f"{modality}; drawn: {shown}"
    title = f"Test samples (left) and the most similar of all splits, by {what}"
    columns = 1 + neighbours.shape[1]
    figure, panels = _grid(len(queries) * columns, columns, title, embeddings)
    for query, row_of_panels in enumerate(np.reshape(np.asarray(panels), (-1, columns))):
        first = int(queries[query])
        label = int(embeddings.labels[first])
        artist.draw(row_of_panels[0], first, shown)
        head = f"query: {class_name(label, embeddings)}\n{_id(first, embeddings)}"
        _head(row_of_panels[0], head, "black")
        for axes, row, value in zip(
            row_of_panels[1:], neighbours[query].tolist(), cosine[query].tolist(), strict=True
        ):
            other = int(embeddings.labels[row])
            colour, sign = SAME, "="
            if UNKNOWN in (label, other):
                colour, sign = UNKNOWN_COLOUR, ""
            elif label != other:
                colour, sign = OTHER, "≠"
            artist.draw(axes, row, shown)
            head = f"{sign} {class_name(other, embeddings)}  {value:.3f}\n{_id(row, embeddings)}"
            _head(axes, head.strip(), colour)
    note = "number: cosine to the query   = and green: its class   ≠ and red: another class"
    _arrange(figure, panels, columns, note)
    return figure


def _outliers(
    embeddings: EmbeddingSet,
    artist: _Artist,
    modality: str,
    outliers: Outliers,
    chosen: NDArray[np.int64],
) -> "Figure":
    shown = artist.shown(modality)
    what = modality if shown == modality else f"{modality}; drawn: {shown}"
    title = f"Test samples farthest from the centre of their class, by {what}"
    columns = min(COLUMNS, len(chosen))
    figure, panels = _grid(len(chosen), columns, title, embeddings)
    for axes, position in zip(panels, chosen.tolist(), strict=True):
        row = int(outliers.rows[position])
        label = class_name(int(embeddings.labels[row]), embeddings)
        nearest = class_name(int(outliers.predicted[modality][position]), embeddings)
        artist.draw(axes, row, shown)
        suspect = bool(outliers.candidate[position])
        head = f"{_id(row, embeddings)}  {outliers.distance[modality][position]:.2f}"
        head += f"\n{label}, nearest {nearest}{' (?)' if suspect else ''}"
        _head(axes, head, OTHER if suspect else UNKNOWN_COLOUR)
    note = "number: 1 − cosine to the centre of the sample's class   "
    note += "(?) and red: far, and nearer another class, in every modality it has"
    _arrange(figure, panels, columns, note)
    return figure


def _head(axes: "Axes", text: str, colour: str) -> None:
    axes.set_title(text, fontsize=7, pad=3)
    for side in axes.spines.values():
        side.set_color(colour)
        side.set_linewidth(1.5)


def _id(row: int, embeddings: EmbeddingSet) -> str:
    name = str(embeddings.ids[row])
    return plain(name if len(name) <= ID_LENGTH else f"…{name[1 - ID_LENGTH :]}")


def _grid(
    count: int, columns: int, title: str, embeddings: EmbeddingSet
) -> tuple["Figure", list["Axes"]]:
    # constrained layout of so many panels takes longer than drawing them
    figure = make_figure(1, 1, title, embeddings, constrained=False)
    panels = figure.subplots(-(-count // columns), columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _arrange(figure: "Figure", panels: Sequence["Axes"], columns: int, note: str) -> None:
    """Small axis labels, where all panels say the same at the left and below only; a figure just
    large enough for all of it; the note below."""
    several = {}
    for name in ("xlabel", "ylabel"):
        texts = {text for axes in panels if (text := getattr(axes, f"get_{name}")())}
        several[name] = len(texts) > 1
        for i, axes in enumerate(panels):
            outer = i % columns == 0 if name == "ylabel" else i + columns >= len(panels)
            text = getattr(axes, f"get_{name}")() if outer or several[name] else ""
            getattr(axes, f"set_{name}")(text, fontsize=6.5, labelpad=1.5)
    n_rows = -(-len(panels) // columns)
    (w, h), left, right, top, bottom = PANEL, 0.55, 0.12, 0.85, 0.65
    between = 0.47 if several["ylabel"] else 0.33
    above = 0.6 if several["xlabel"] else 0.45
    width = max(MIN_WIDTH, left + columns * w + (columns - 1) * between + right)
    height = top + n_rows * h + (n_rows - 1) * above + bottom
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=left / width,
        right=(left + columns * w + (columns - 1) * between) / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=between / w,
        hspace=above / h,
    )
    figure.suptitle(figure.get_suptitle(), fontsize=10, y=1 - 0.08 / height, va="top")
    figure.supxlabel(note, fontsize=8, y=0.08 / height, va="bottom")


def _together(embeddings: EmbeddingSet) -> tuple[str, ...]:
    """All modalities where their embeddings can be averaged, else the one most test rows have."""
    widths = {embeddings.vectors[m].shape[1] for m in embeddings.modalities}
    if len(widths) == 1 and embeddings.rows(SPLIT, *embeddings.modalities).size:
        return embeddings.modalities
    return (max(embeddings.modalities, key=lambda m: embeddings.rows(SPLIT, m).size),)


def _thumbnails_map(embeddings: EmbeddingSet, artist: _Artist) -> "Figure":
    modalities, shown = _together(embeddings), artist.first
    rows, train = (embeddings.rows(split, *modalities) for split in (SPLIT, "train"))
    vectors, fitted = (
        unit_mean([embeddings.vectors[m][chosen] for m in modalities]) for chosen in (rows, train)
    )
    points, words = project(vectors, fitted, artist.drawing.projection)
    which = f"mean of {', '.join(modalities)}" if len(modalities) > 1 else modalities[0]
    title = f"Test embeddings ({which}; n = {len(rows)}; {words}); drawn: {shown}"
    figure = make_figure(*MAP_SIZE, title, embeddings)
    axes = figure.subplots()
    labels = embeddings.labels[rows]
    scatter_classes(axes, points, labels, embeddings, set())
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
        inset.set_title(class_name(int(labels[i]), embeddings), fontsize=6.5, pad=1.5)
    return figure


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
