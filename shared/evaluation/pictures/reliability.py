"""Reliability diagram: how often predictions of a confidence are right."""

from typing import TYPE_CHECKING, Any

import numpy as np

from shared.evaluation.calibration import reliability
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.outcomes import ClassOutcome
from shared.evaluation.pictures.figures import (
    COLOURS,
    GREY,
    MARKERS,
    SMALL,
    legend_below,
    make_figure,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

N_BINS = 10
"""Wider than those of the calibration error: a bin of few rows shows noise."""


def draw_reliability(outcome: ClassOutcome, title: str, embeddings: EmbeddingSet) -> "Figure":
    """Share of right predictions against confidence, and how many rows have that confidence.

    Source: Guo et al. 2017 (arXiv:1706.04599), Section 2 and Figure 1, with 95 % Wilson intervals.

    Args:
        outcome: With probabilities; with calibrated ones both are drawn.
        title: Protocol and inputs.
        embeddings: Whose names stand under the title.
    """
    tables = {
        "as predicted": outcome.probabilities,
        "after temperature scaling": outcome.calibrated,
    }
    there = {name: table for name, table in tables.items() if table is not None}
    figure = make_figure(5.2, 6.2, f"{title}: reliability, n = {len(outcome)}", embeddings)
    axes, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1, label="as sure as right")
    width = 0.8 / N_BINS / len(there)
    for i, (name, table) in enumerate(there.items()):
        bins = reliability(table, outcome.truth, N_BINS)
        filled = bins.count > 0
        x, y, low, high = (a[filled] for a in (bins.confidence, bins.accuracy, bins.low, bins.high))
        error = np.maximum([y - low, high - y], 0)
        label = f"{name}: ECE {outcome_ece(outcome, calibrated=i > 0):.3f}"
        look: dict[str, Any] = {
            "color": COLOURS[i],
            "marker": MARKERS[i],
            "markersize": 6,
            "linewidth": 1.5,
        }
        axes.errorbar(x, y, error, capsize=2, elinewidth=1.2, label=label, **look)
        centres = (np.arange(N_BINS) + 0.5) / N_BINS + (i - (len(there) - 1) / 2) * width
        below.bar(centres, bins.count, width, color=COLOURS[i])
    axes.set_ylim(-0.02, 1.02)
    axes.set_ylabel("share that is right")
    below.set_xlim(0, 1)
    below.set_xlabel("confidence: largest probability")
    below.set_ylabel("test rows")
    below.locator_params(axis="y", integer=True, nbins=4)
    for panel in (axes, below):
        tidy(panel)
    below.tick_params(labelsize=SMALL)
    legend_below(figure, [axes], columns=1)
    return figure


def outcome_ece(outcome: ClassOutcome, *, calibrated: bool) -> float:
    """The calibration error that stands in the table."""
    name = "ece_calibrated" if calibrated else "ece"
    return float(outcome.values()[outcome.metrics.index(name)])
