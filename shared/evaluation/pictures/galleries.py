"""Galleries: the samples themselves, beside what their embeddings say of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import SPLIT, UNKNOWN, EmbeddingSet
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.neighbours.similarity import similar
from shared.evaluation.pictures.figures import (
    COLOURS,
    SMALL,
    TITLE,
    UNKNOWN_COLOUR,
    class_name,
    make_figure,
    plain,
)
from shared.evaluation.pictures.thumbnails import Artist
from shared.evaluation.protocol import Task
from shared.evaluation.protocols.retrieval import counted, names_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shared.evaluation.hygiene.outliers import Outliers

COLUMNS = 3
QUERIES = 3
FOUND = 5
"""Samples beside a query; with it they fill two lines."""
OUTLIERS = 12
SEED = 0
ID_LENGTH = 22
CLASS_LENGTH = 18
MIN_WIDTH = 5.0
PANEL = (1.5, 1.05)
"""Inches of a panel, without its labels."""
_LEFT, _BETWEEN, _RIGHT = 0.5, 0.47, 0.12
"""Inches beside the panels."""
SAME, OTHER = COLOURS[2], COLOURS[3]


def choose_queries(
    embeddings: EmbeddingSet, rows: NDArray[np.int64], count: int = QUERIES
) -> NDArray[np.int64]:
    """Positions in `rows` of some drawn at random, of as many classes as there are."""
    order = np.random.default_rng(SEED).permutation(len(rows))
    _, first = np.unique(embeddings.labels[rows[order]], return_index=True)
    others = np.setdiff1d(np.arange(len(rows)), first)
    chosen: NDArray[np.int64] = order[np.concatenate([np.sort(first), others])[:count]]
    return chosen


def draw_similarity(embeddings: EmbeddingSet, artist: Artist, modality: str) -> "Figure | None":
    """Test samples and the most similar ones of all splits; None without test rows or others."""
    # the same queries for all modalities, where there are rows that have all
    rows = embeddings.rows(SPLIT, *embeddings.modalities)
    rows = rows if rows.size else embeddings.rows(SPLIT, modality)
    if not rows.size or embeddings.present[modality].sum() < 2:
        return None
    queries = rows[choose_queries(embeddings, rows)]
    neighbours, cosine = similar(embeddings, queries, modality, FOUND)
    shown = artist.shown(modality)
    title = f"Test samples and the most similar of all splits, by {_drawn(modality, shown)}"
    figure, blocks = _blocks(len(queries), neighbours.shape[1], title, embeddings)
    for query, (first, *others) in zip(range(len(queries)), blocks, strict=True):
        row = int(queries[query])
        label = int(embeddings.labels[row])
        artist.draw(first, row, shown)
        _head(first, f"{_query(label, embeddings)}\n{_id(row, embeddings)}", "black")
        for axes, other, value in zip(
            others, neighbours[query].tolist(), cosine[query].tolist(), strict=True
        ):
            its = int(embeddings.labels[other])
            colour, sign = SAME, "= "
            if UNKNOWN in (label, its):
                colour, sign = UNKNOWN_COLOUR, ""
            elif label != its:
                colour, sign = OTHER, "≠ "
            artist.draw(axes, other, shown)
            _head(
                axes,
                f"{sign}{_class(its, embeddings)} {value:.3f}\n{_id(other, embeddings)}".lstrip(),
                colour,
            )
    note = "number: cosine to the query (black frame)"
    if embeddings.classes:
        note += "\n= and green: its class   ≠ and red: another class"
    _arrange(figure, [axes for block in blocks for axes in block], note)
    return figure


def draw_retrieval(
    embeddings: EmbeddingSet,
    artist: Artist,
    task: Task,
    rows: NDArray[np.int64],
    ranks: NDArray[np.int64],
    positives: str = "row",
) -> "Figure | None":
    """Test samples by one modality, and what is found by them in another; matches are marked.

    Args:
        embeddings: Both modalities are equally wide.
        artist: Of the same samples.
        task: Query and candidate modality.
        rows: (n,) rows of the queries.
        ranks: (n,) rank of the first match of each, 1 is the first.
        positives: What a match is: the same `row`, `group` or `label`.

    Returns:
        None without queries.
    """
    if not rows.size:
        return None
    query, candidate = task.modalities
    candidates = embeddings.rows(SPLIT, query, candidate, target=task.target or None)
    # what is ranked: an image with five captions once
    candidates = candidates[counted(embeddings, candidates, task.modalities, positives)[1]]
    codes = names_of(embeddings, positives)
    chosen = choose_queries(embeddings, rows)
    left = normalise(embeddings.vectors[query][rows[chosen]])
    cosine = left @ normalise(embeddings.vectors[candidate][candidates]).T
    found = np.argsort(-cosine, axis=1, kind="stable")[:, :FOUND]
    shown, given = artist.shown(candidate), artist.shown(query)
    title = f"Retrieval: {_drawn(query, given)} → {_drawn(candidate, shown)}, n = {len(rows)}"
    figure, blocks = _blocks(len(chosen), found.shape[1], title, embeddings)
    for i, (first, *others) in enumerate(blocks):
        own = int(rows[chosen[i]])
        artist.draw(first, own, given)
        head = _query(int(embeddings.labels[own]), embeddings)
        _head(first, f"{head}\nmatch at rank {ranks[chosen[i]]}", "black")
        for place, (axes, position) in enumerate(zip(others, found[i].tolist(), strict=True), 1):
            row = int(candidates[position])
            right = codes[row] == codes[own]
            artist.draw(axes, row, shown)
            name = _class(int(embeddings.labels[row]), embeddings)
            head = f"{place}:{' ' if name else ''}{name} {cosine[i, position]:.3f}"
            head += f"\n{'✓ ' if right else ''}{_id(row, embeddings)}"
            _head(axes, head, SAME if right else UNKNOWN_COLOUR, 3.0 if right else 1.2)
    own_words = {"group": "the same group", "label": "the same class"}
    note = "number: cosine to the query (black frame)\n"
    note += f"✓ and thick green frame: {own_words.get(positives, 'the same sample')}"
    _arrange(figure, [axes for block in blocks for axes in block], note)
    return figure


def draw_outliers(
    embeddings: EmbeddingSet, artist: Artist, modality: str, outliers: "Outliers"
) -> "Figure | None":
    """Test samples farthest from the centre of their class; None where no distance is known."""
    chosen = outliers.farthest(modality, len(outliers.rows))
    first = embeddings.copies.get(modality, np.arange(len(embeddings)))[outliers.rows[chosen]]
    chosen = chosen[np.sort(np.unique(first, return_index=True)[1])[:OUTLIERS]]
    if not chosen.size:
        return None
    shown = artist.shown(modality)
    title = f"Test samples farthest from the centre of their class, by {_drawn(modality, shown)}"
    figure, panels = _grid(len(chosen), min(COLUMNS, len(chosen)), title, embeddings)
    for axes, position in zip(panels, chosen.tolist(), strict=True):
        row = int(outliers.rows[position])
        label = _class(int(embeddings.labels[row]), embeddings)
        nearest = _class(int(outliers.predicted[modality][position]), embeddings)
        artist.draw(axes, row, shown)
        suspect = bool(outliers.candidate[position])
        head = f"{_id(row, embeddings)}  {outliers.distance[modality][position]:.2f}"
        head += f"\n{label}\nnearest {nearest}{' (?)' if suspect else ''}"
        _head(axes, head, OTHER if suspect else UNKNOWN_COLOUR)
    note = "number: 1 − cosine to the centre of the sample's class\n"
    note += "(?) and red: far, and nearer another class, in every modality it has"
    _arrange(figure, panels, note, lines=3)
    return figure


def _drawn(modality: str, shown: str) -> str:
    return modality if shown == modality else f"{modality}; drawn: {shown}"


def _class(label: int, embeddings: EmbeddingSet) -> str:
    return class_name(label, embeddings, CLASS_LENGTH)


def _query(label: int, embeddings: EmbeddingSet) -> str:
    name = _class(label, embeddings)
    return f"query: {name}" if name else "query"


def _id(row: int, embeddings: EmbeddingSet) -> str:
    name = str(embeddings.ids[row])
    return plain(name if len(name) <= ID_LENGTH else f"…{name[1 - ID_LENGTH :]}")


def _head(axes: "Axes", text: str, colour: str, width: float = 1.5) -> None:
    axes.set_title(text, fontsize=SMALL, pad=3)
    axes.spines[:].set_color(colour)
    axes.spines[:].set_linewidth(width)


def _blocks(
    queries: int, found: int, title: str, embeddings: EmbeddingSet
) -> tuple["Figure", list[list["Axes"]]]:
    """A panel for each query and those for what is found, line by line."""
    per_query = 1 + found
    columns = min(COLUMNS, per_query)
    lines = -(-per_query // columns)
    figure, panels = _grid(queries * lines * columns, columns, title, embeddings)
    blocks = np.reshape(np.asarray(panels), (queries, lines * columns))
    for unused in blocks[:, per_query:].ravel():
        unused.remove()
    return figure, blocks[:, :per_query].tolist()


def _grid(
    count: int, columns: int, title: str, embeddings: EmbeddingSet
) -> tuple["Figure", list["Axes"]]:
    """Panels line by line; the figure has its width, and gets its height from `_arrange`."""
    width = max(MIN_WIDTH, _LEFT + columns * PANEL[0] + (columns - 1) * _BETWEEN + _RIGHT)
    # constrained layout of so many panels takes longer than drawing them
    figure = make_figure(width, 1, title, embeddings, constrained=False)
    panels = figure.subplots(-(-count // columns), columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def _arrange(figure: "Figure", panels: Sequence["Axes"], note: str, lines: int = 2) -> None:
    """Small axis labels, where all panels say the same at the left and below only; a figure just
    high enough for all of it; the note below.

    Args:
        figure: Of `_grid`.
        panels: Line by line.
        note: Below the figure, one or more lines.
        lines: Of the heads.
    """
    specs = [spec for axes in panels if (spec := axes.get_subplotspec()) is not None]
    n_rows, columns = (1 + max(getattr(s, f"{w}span").start for s in specs) for w in ("row", "col"))
    several = {}
    lowest = {spec.colspan.start: spec.rowspan.start for spec in specs}
    for name in ("xlabel", "ylabel"):
        texts = {text for axes in panels if (text := getattr(axes, f"get_{name}")())}
        several[name] = len(texts) > 1
        for axes, spec in zip(panels, specs, strict=True):
            row, column = spec.rowspan.start, spec.colspan.start
            outer = column == 0 if name == "ylabel" else row == lowest[column]
            text = getattr(axes, f"get_{name}")() if outer or several[name] else ""
            getattr(axes, f"set_{name}")(text, fontsize=7, labelpad=1.5)
    width, (w, h) = figure.get_figwidth(), PANEL
    head, title = 0.15 * lines, 0.17 * (1 + figure.get_suptitle().count("\n"))
    ticks = 0.3 if several["xlabel"] else 0.18
    top, bottom = 0.15 + title + head, 0.42 + 0.16 * (1 + note.count("\n"))
    height = top + n_rows * h + (n_rows - 1) * (head + ticks + 0.05) + bottom
    figure.set_size_inches(width, height)
    figure.subplots_adjust(
        left=_LEFT / width,
        right=(_LEFT + columns * w + (columns - 1) * _BETWEEN) / width,
        top=1 - top / height,
        bottom=bottom / height,
        wspace=_BETWEEN / w,
        hspace=(head + ticks + 0.05) / h,
    )
    figure.suptitle(figure.get_suptitle(), fontsize=TITLE, y=1 - 0.08 / height, va="top")
    figure.supxlabel(note, fontsize=SMALL, y=0.08 / height, va="bottom")
