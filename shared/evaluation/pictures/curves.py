"""Curves: recall against rank, and score against the number of examples."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats
from shared.evaluation.outcomes import RankOutcome
from shared.evaluation.pictures.figures import (
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    arrow,
    legend_below,
    make_figure,
    make_panels,
    plain,
    tidy,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from shared.evaluation.run import Run

MAX_K = 100


@dataclass(frozen=True)
class Direction:
    """Retrieval from one modality to another.

    Attributes:
        query: Modality of the queries.
        candidate: Modality that is searched.
        outcome: Ranks of the queries.
    """

    query: str
    candidate: str
    outcome: RankOutcome


def draw_recall(directions: Sequence[Direction], embeddings: EmbeddingSet) -> "Figure":
    """Share of the queries with a match among the first k; one panel a pair of modalities, both
    directions and chance in it."""
    pairs = list(dict.fromkeys(frozenset((d.query, d.candidate)) for d in directions))
    title = "Retrieval: share of queries with a match among the first k"
    figure, panels = make_panels(len(pairs), 3.3, 3.4, title, embeddings)
    for axes, pair in zip(panels, pairs, strict=True):
        both = [d for d in directions if {d.query, d.candidate} == pair]
        for direction, colour, style in zip(both, COLOURS, LINES, strict=False):
            ranks, n = direction.outcome.ranks, direction.outcome.n_candidates
            k = np.arange(1, min(MAX_K, n) + 1)
            curve = np.searchsorted(np.sort(ranks), k, side="right") / max(len(ranks), 1)
            label = plain(f"{direction.query} → {direction.candidate}, n = {len(ranks)}")
            axes.plot(k, curve, color=colour, linestyle=style, linewidth=2, label=label)
            if direction is both[0]:
                chance = chance_recall(direction.outcome, k)
                axes.fill_between(k, 0, chance, color=GREY, alpha=0.15, linewidth=0)
                axes.plot(k, chance, color=GREY, linestyle=":", label="chance")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.set_ylim(0, 1.02)
        axes.set_xlabel("k")
        axes.set_ylabel("recall@k")
        tidy(axes)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), fontsize=8, frameon=False)
    return figure


def chance_recall(outcome: RankOutcome, k: NDArray[np.int64]) -> Floats:
    """(k,) share of the queries with a match among the first k of a random order.

    1 − C(N − p, k) / C(N, k) for p matches among N candidates (hypergeometric distribution), mean
    over the queries.
    """
    from scipy.stats import hypergeom

    counts = np.ones(1, np.int64) if outcome.n_positives is None else outcome.n_positives
    positives, queries = np.unique(counts, return_counts=True)
    none = hypergeom.pmf(0, outcome.n_candidates, positives[:, None], k)
    chance: Floats = 1 - queries @ none / queries.sum()
    return chance


@dataclass(frozen=True)
class ShotCurve:
    """A score at several numbers of labelled examples a class.

    Attributes:
        name: Inputs and number of test rows.
        shots: (k,) numbers of examples, rising.
        values: (k,) scores.
        low: (k,) lower ends of the intervals, NaN where there is none.
        high: (k,) upper ends.
        chance: Score of a guess; None where it has none.
        simple: (k,) scores of simple features, NaN where there is none.
    """

    name: str
    shots: Floats
    values: Floats
    low: Floats
    high: Floats
    chance: float | None
    simple: Floats


def draw_shots(
    curves: Sequence[ShotCurve], metric: str, about: str, embeddings: EmbeddingSet
) -> "Figure":
    """Score against examples a class on a log2 axis, with bands.

    Args:
        curves: One an input.
        metric: Name of the score in words.
        about: Number of draws, for the title.
        embeddings: Whose names stand under the title.
    """
    title = f"Few-shot: {metric} with k labelled examples a class; {about}"
    figure = make_figure(5.5, 4.4, title, embeddings)
    axes = figure.subplots()
    for i, curve in enumerate(curves):
        colour, marker = COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]
        look: dict[str, Any] = {"color": colour, "marker": marker, "markersize": 5}
        axes.fill_between(curve.shots, curve.low, curve.high, color=colour, alpha=0.14, linewidth=0)
        axes.plot(curve.shots, curve.values, linewidth=2, label=plain(curve.name), **look)
        if np.isfinite(curve.simple).any():
            label = plain(f"{curve.name}, simple")
            axes.plot(curve.shots, curve.simple, linestyle=":", alpha=0.8, label=label, **look)
    guesses = {c.chance for c in curves if c.chance is not None}
    for chance in sorted(guesses):
        axes.axhline(chance, color=GREY, linestyle="--", linewidth=1, label="chance")
    axes.set_xscale("log", base=2)
    shots = sorted({int(s) for curve in curves for s in curve.shots})
    axes.set_xticks(shots, [str(s) for s in shots])
    axes.minorticks_off()
    axes.set_xlabel("labelled examples a class")
    axes.set_ylabel(metric)
    tidy(axes)
    legend_below(figure, [axes], columns=1 if any(len(c.name) > 30 for c in curves) else 2)
    return figure


def shot_curve(inputs: str, runs: "Sequence[Run]", metric: str) -> ShotCurve:
    """The runs of one input as a curve; a run whose variant names no shots is left out."""
    found = ((re.search(r"\bshots=(\d+)", run.task.variant), run.scores[metric]) for run in runs)
    points = sorted(
        ((int(s.group(1)), score) for s, score in found if s), key=lambda point: point[0]
    )

    def column(name: str) -> Floats:
        return np.array([getattr(score, name) for _, score in points], dtype=np.float64)

    chance = points[0][1].chance if points else None
    shots = np.array([shots for shots, _ in points], dtype=np.float64)
    values, low, high, simple = (column(name) for name in ("value", "low", "high", "simple"))
    name = f"{arrow(inputs)}, n = {runs[0].scores.n}"
    return ShotCurve(name, shots, values, low, high, chance, simple)
