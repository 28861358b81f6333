"""Confusion matrix: which class is taken for which."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.outcomes import ClassOutcome
from shared.evaluation.pictures.figures import SMALL, TEXT, make_figure, plain, short

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_CLASSES = 30
"""More names cannot be read; of more classes, those that are confused most are shown."""
NUMBERED = 14
"""Up to so many classes the shares stand in the cells."""


def draw_confusion(outcome: ClassOutcome, title: str, embeddings: EmbeddingSet) -> "Figure":
    """Per cent of each true class that are given each class.

    Args:
        outcome: Classes of the test rows and what was predicted.
        title: Protocol and inputs.
        embeddings: Whose names stand under the title.
    """
    counts, names = count_confusions(outcome)
    shown = most_confused(counts, MAX_CLASSES)
    rows = counts.sum(axis=1)[shown, None]
    cells = counts[np.ix_(shown, shown)]
    percent = 100 * np.divide(cells, rows, out=np.zeros(cells.shape), where=rows > 0)

    size = len(shown)
    text = f"{title}: % of each true class"
    text += f" (count), n = {len(outcome)}" if size <= NUMBERED else f", n = {len(outcome)}"
    if size < len(names):
        text += f"; the {size} of {len(names)} classes that are confused most"
    cell = max(0.42, min(0.6, 4.2 / size)) if size <= NUMBERED else 0.2
    figure = make_figure(
        max(5.0, 1.9 + cell * size),
        max(4.2, 2.0 + (0.85 if size <= NUMBERED else 1.0) * cell * size),
        text,
        embeddings,
    )
    axes = figure.subplots()
    image = axes.imshow(percent, cmap="Blues", vmin=0, vmax=100, aspect="auto")
    ticks = [plain(short(names[i])) for i in shown]
    axes.set_xticks(range(size), ticks, rotation=45 if size <= NUMBERED else 90, fontsize=SMALL)
    for tick in axes.get_xticklabels():
        tick.set(ha="right", va="top" if size <= NUMBERED else "center", rotation_mode="anchor")
    axes.set_yticks(range(size), ticks, fontsize=SMALL)
    axes.set_xlabel("predicted class", fontsize=TEXT)
    axes.set_ylabel("true class", fontsize=TEXT)
    axes.spines[:].set_visible(False)
    if size > NUMBERED:
        figure.colorbar(image, ax=axes, shrink=0.6, label="% of the true class")
        return figure
    for i, j in np.argwhere(cells > 0):
        colour = "white" if percent[i, j] > 55 else "black"
        axes.text(
            j, i, f"{percent[i, j]:.0f}", ha="center", va="bottom", fontsize=TEXT, color=colour
        )
        axes.text(
            j, i + 0.06, f"({cells[i, j]})", ha="center", va="top", fontsize=7.5, color=colour
        )
    return figure


def count_confusions(outcome: ClassOutcome) -> tuple[NDArray[np.int64], list[str]]:
    """(c, c) test rows by true and predicted class, and the names of the c classes that occur."""
    occurring = np.union1d(outcome.truth, outcome.predicted)
    size = len(outcome.classes)
    flat = np.bincount(outcome.truth * size + outcome.predicted, minlength=size**2)
    counts: NDArray[np.int64] = flat.reshape(size, size)[np.ix_(occurring, occurring)]
    return counts, [outcome.classes[i] for i in occurring]


def most_confused(counts: NDArray[np.int64], limit: int) -> NDArray[np.int64]:
    """Positions, in their order, of the classes with the most wrong rows, missed or given wrongly;
    all where there are no more than `limit`."""
    if len(counts) <= limit:
        return np.arange(len(counts))
    wrong = counts.sum(axis=0) + counts.sum(axis=1) - 2 * np.diag(counts)
    return np.sort(np.argsort(-wrong, kind="stable")[:limit])
