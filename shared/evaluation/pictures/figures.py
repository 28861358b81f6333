"""What all pictures share: title, panels, the colour and marker of a class, names that fit."""

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats

if TYPE_CHECKING:
    from matplotlib.artist import Artist
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito 2008, Color Universal Design; black and yellow left out (too dark, too pale on white).
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#D55E00", "#56B4E9", "#CC79A7")
MARKERS = ("o", "^", "s", "D", "v", "P")
LINES = ("-", "-.", "--", (0, (3, 1, 1, 1, 1, 1)))
UNKNOWN_COLOUR = "#BBBBBB"
GREY = "#666666"
"""Of chance and of the other lines that no model made."""
MAX_COLUMNS = 2
TEXT, SMALL = 9.0, 8.0
"""Points. Pictures are 5 to 6 inches wide, so that 8 points can be read on a phone."""
TITLE = 10.0
NAME_LENGTH = 24


def make_figure(
    width: float,
    height: float,
    title: str,
    embeddings: EmbeddingSet,
    *,
    constrained: bool = True,
) -> "Figure":
    """A figure of a size in inches; model, data and whether these are synthetic under the title."""
    return titled_figure(width, height, title, under_title(embeddings), constrained=constrained)


def under_title(embeddings: EmbeddingSet) -> str:
    """Model, data and whether nobody measured these."""
    mark = ", synthetic data" if embeddings.synthetic else ""
    return f"{embeddings.model} on {embeddings.dataset}{mark}"


def titled_figure(
    width: float, height: float, title: str, under: str, *, constrained: bool = True
) -> "Figure":
    """A figure of a size in inches with a title and a line under it, wrapped to its width."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained" if constrained else None)
    figure.suptitle(wrapped_title(f"{title}\n{under}", width), fontsize=TITLE)
    return figure


def wrapped_title(text: str, width: float) -> str:
    """Lines that are not wider than a figure of so many inches."""
    # sans-serif letters are about half as wide as they are high
    letters = max(20, int(width * 72 / (0.53 * TITLE)))
    lines = (textwrap.wrap(line, letters) for line in text.split("\n"))
    return plain("\n".join(part for line in lines for part in line))


def make_panels(
    count: int, width: float, height: float, title: str, embeddings: EmbeddingSet
) -> tuple["Figure", list["Axes"]]:
    """A figure with so many panels of a size in inches, up to two in a row."""
    columns = min(count, MAX_COLUMNS)
    n_rows = -(-count // columns)
    figure = make_figure(max(5.0, width * columns), 0.6 + height * n_rows, title, embeddings)
    panels = figure.subplots(n_rows, columns, squeeze=False).ravel().tolist()
    for unused in panels[count:]:
        unused.remove()
    return figure, panels[:count]


def plain(text: str) -> str:
    """Names as they are: matplotlib typesets what stands between dollar signs, and leaves what
    starts with an underscore out of legends."""
    return (" " if text.startswith("_") else "") + text.replace("$", r"\$")


def short(name: str, length: int = NAME_LENGTH) -> str:
    """A name cut in its middle, where it is longer than that."""
    if len(name) <= length:
        return name
    end = length // 3
    return f"{name[: length - 1 - end]}…{name[-end:]}"


def class_name(label: int, embeddings: EmbeddingSet, length: int = NAME_LENGTH) -> str:
    """Of a class; empty for data without classes."""
    if label < 0:
        return "unknown" if embeddings.classes else ""
    return plain(short(embeddings.classes[label], length))


def words(name: str) -> str:
    """`linear_probe` as it stands at the beginning of a title."""
    return "k-NN" if name == "knn" else name.replace("_", " ").capitalize()


def arrow(inputs: str) -> str:
    """`photometry->spectra` with the arrow of print."""
    return inputs.replace("->", " → ")


def class_colour(label: int) -> str:
    return COLOURS[label % len(COLOURS)] if label >= 0 else UNKNOWN_COLOUR


def tidy(axes: "Axes") -> None:
    """Axes of a diagram: a pale grid, no frame at the top and right, letters of one size."""
    axes.grid(alpha=0.3, linewidth=0.5)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=SMALL)
    axes.xaxis.label.set_fontsize(TEXT)
    axes.yaxis.label.set_fontsize(TEXT)


def legend_below(figure: "Figure", axes: Sequence["Axes"], columns: int = 2) -> None:
    """One legend for all panels, each name in it once."""
    named: dict[str, Artist] = {}
    for panel in axes:
        handles, names = panel.get_legend_handles_labels()
        for handle, name in zip(handles, names, strict=True):
            named.setdefault(name, handle)
    if named:
        figure.legend(
            list(named.values()),
            list(named),
            loc="outside lower center",
            ncols=min(columns, len(named)),
            fontsize=SMALL,
            frameon=False,
        )


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
