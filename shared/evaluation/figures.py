"""What all pictures share: title, panels, the colour and marker of a class."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embedding_set import EmbeddingSet
from shared.evaluation.statistics import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, Color Universal Design; black and yellow left out (too dark, too pale on white).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
MARKERS = ("o", "^", "s", "D", "v", "P")
UNKNOWN_COLOUR = "#BBBBBB"
MAX_COLUMNS = 3


def make_figure(
    width: float,
    height: float,
    title: str,
    embeddings: EmbeddingSet,
    *,
    constrained: bool = True,
) -> "Figure":
    """A figure of a size in inches; model, data and whether these are synthetic under the title."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    mark = ", synthetic data" if embeddings.synthetic else ""
    text = f"{title}\n{embeddings.model} on {embeddings.dataset}{mark}"
    figure.suptitle(plain(text), fontsize=10)
    return figure


def make_panels(
    count: int, width: float, height: float, title: str, embeddings: EmbeddingSet
) -> tuple["Figure", list["Axes"]]:
    """A figure with so many panels of a size in inches, up to three in a row."""
    columns = min(count, MAX_COLUMNS)
    n_rows = -(-count // columns)
    figure = make_figure(max(6.0, width * columns), 0.6 + height * n_rows, title, embeddings)
    panels = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def plain(text: str) -> str:
    """Names as they are: matplotlib typesets what stands between dollar signs, and leaves what
    starts with an underscore out of legends."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def class_name(label: int, embeddings: EmbeddingSet) -> str:
    return plain(embeddings.classes[label]) if label >= 0 else "unknown"


def class_colour(label: int) -> str:
    return COLOURS[label % len(COLOURS)] if label >= 0 else UNKNOWN_COLOUR


def scatter_classes(
    axes: "Axes",
    points: Floats,
    labels: NDArray[np.int64],
    embeddings: EmbeddingSet,
    in_legend: set[int],
) -> None:
    """Points with the colour and marker of their class; classes not yet in the legend go in."""
    for label in np.unique(labels).tolist():
        known = label >= 0
        axes.scatter(
            points[labels == label, 0],
            points[labels == label, 1],
            s=14,
            linewidths=0,
            alpha=0.8,
            color=class_colour(label),
            marker=MARKERS[label // len(COLOURS) % len(MARKERS)] if known else ".",
            label=None if label in in_legend else class_name(label, embeddings),
            zorder=2 if known else 1,
        )
        in_legend.add(label)
    axes.set_xticks([])
    axes.set_yticks([])
