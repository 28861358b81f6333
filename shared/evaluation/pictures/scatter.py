"""Predicted against true values."""

from typing import TYPE_CHECKING

import numpy as np

from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.outcomes import ValueOutcome
from shared.evaluation.pictures.figures import (
    COLOURS,
    GREY,
    SMALL,
    legend_below,
    make_figure,
    plain,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CROWDED = 2000
"""Points from which single ones cannot be told apart: their density is drawn."""


def draw_values(
    outcome: ValueOutcome, target: str, title: str, note: str, embeddings: EmbeddingSet
) -> "Figure":
    """A point a test row, and the line where both are equal.

    Args:
        outcome: True and predicted values.
        target: What they are, for the axes.
        title: Protocol, inputs and target.
        note: Scores, in the corner of the axes.
        embeddings: Whose names stand under the title.
    """
    figure = make_figure(5.0, 5.2, f"{title}, n = {len(outcome)}", embeddings)
    axes = figure.subplots()
    truth, predicted = outcome.truth, outcome.predicted
    both = np.concatenate([truth, predicted])
    low, high = (float(both.min()), float(both.max())) if both.size else (0.0, 1.0)
    margin = 0.04 * (high - low) or 1.0
    ends = (low - margin, high + margin)
    axes.plot(ends, ends, color=GREY, linestyle="--", linewidth=1, label="equal", zorder=1)
    if len(outcome) > CROWDED:
        axes.hexbin(
            truth, predicted, gridsize=60, extent=(*ends, *ends), cmap="Blues", bins="log", mincnt=1
        )
    else:
        axes.scatter(truth, predicted, s=14, color=COLOURS[0], alpha=0.5, linewidths=0)
    if truth.size:
        axes.axhline(
            truth.mean(),
            color=COLOURS[1],
            linestyle=":",
            linewidth=1.5,
            label="mean of the true values",
        )
    axes.set_xlim(ends)
    axes.set_ylim(ends)
    axes.set_aspect("equal")
    axes.set_xlabel(plain(f"true {target}"))
    axes.set_ylabel(plain(f"predicted {target}"))
    axes.text(0.03, 0.97, plain(note), transform=axes.transAxes, va="top", fontsize=SMALL)
    tidy(axes)
    legend_below(figure, [axes])
    return figure
