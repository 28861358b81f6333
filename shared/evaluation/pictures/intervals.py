"""Dots with intervals: subgroups side by side, differences of two models against zero."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import LABEL, EmbeddingSet
from shared.evaluation.metrics import METRICS
from shared.evaluation.outcomes import TagOutcome
from shared.evaluation.pictures.figures import (
    COLOURS,
    GREY,
    SMALL,
    TEXT,
    arrow,
    legend_below,
    plain,
    short,
    tidy,
    titled_figure,
    under_title,
)
from shared.evaluation.scoring import Scores
from shared.evaluation.statistics import bootstrap

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from shared.evaluation.results.compare import Comparison, Difference

MAX_DOTS = 60
"""More lines cannot be read in one picture."""
TAG_RESAMPLES = 300
"""Of the bootstrap of each tag: ends of intervals in a picture need no more digits."""


@dataclass(frozen=True)
class Dot:
    """One value with its interval.

    Attributes:
        name: Of its line.
        value: The dot; None where there is none.
        low: Lower end; None without an interval.
        high: Upper end.
        note: At the right, such as the number of rows.
        section: Lines of one section stand together under its name; may be empty.
        filled: Whether the dot is filled; None: where the interval excludes the first line.
    """

    name: str
    value: float | None
    low: float | None = None
    high: float | None = None
    note: str = ""
    section: str = ""
    filled: bool | None = None


@dataclass(frozen=True)
class Line:
    """An upright line for comparison.

    Attributes:
        value: Where it stands.
        name: In the legend; empty: not named.
        style: As in matplotlib.
    """

    value: float
    name: str = ""
    style: str = "--"


def draw_dots(
    dots: Sequence[Dot], lines: Sequence[Line], *, title: str, under: str, axis: str
) -> "Figure":
    """One line a dot from top to bottom, in the order given; at most `MAX_DOTS`.

    Args:
        dots: What is drawn; those without a value say so.
        lines: What they are compared with.
        title: First line of the title.
        under: Second line: model, data.
        axis: Name of the axis.
    """
    shown = list(dots)[:MAX_DOTS]
    if len(dots) > MAX_DOTS:
        title += f" (the first {MAX_DOTS} of {len(dots)})"
    sections = [d.section for d in shown]
    starts = [i for i, s in enumerate(sections) if s and (i == 0 or sections[i - 1] != s)]
    places, place = [], 0.0
    for i in range(len(shown)):
        place += 1.0 if i in starts else 0.0
        places.append(place)
        place += 1.0
    figure = titled_figure(5.6, 1.5 + 0.24 * max(place, 2), title, under)
    axes = figure.subplots()
    for dot, y in zip(shown, places, strict=True):
        if dot.value is None:
            axes.plot([], [])
            continue
        away = _excludes(dot, lines) if dot.filled is None else dot.filled
        if dot.low is not None and dot.high is not None:
            axes.plot(
                [dot.low, dot.high], [y, y], color=COLOURS[0], linewidth=1.8, solid_capstyle="butt"
            )
        face = COLOURS[0] if away else "white"
        axes.plot(dot.value, y, "o", markersize=6, color=COLOURS[0], markerfacecolor=face)
    for line in lines:
        axes.axvline(
            line.value,
            color=GREY,
            linestyle=line.style,
            linewidth=1,
            zorder=0,
            label=plain(line.name) if line.name else None,
        )
    heads = {places[i] - 1: sections[i] for i in starts}
    names = [plain(short(d.name, 34)) for d in shown] + [
        plain(short(h, 34)) for h in heads.values()
    ]
    axes.set_yticks([*places, *heads], names, fontsize=SMALL)
    for label in axes.get_yticklabels()[len(shown) :]:
        label.set_fontweight("bold")
    axes.set_ylim(place - 0.4, -0.6)
    axes.set_xlabel(axis, fontsize=TEXT)
    right = axes.secondary_yaxis("right")
    right.set_yticks(
        places,
        [plain(d.note if d.value is not None else d.note or "missing") for d in shown],
        fontsize=SMALL,
    )
    right.tick_params(length=0)
    right.spines["right"].set_visible(False)
    tidy(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="y", visible=False)
    legend_below(figure, [axes])
    return figure


def _excludes(dot: Dot, lines: Sequence[Line]) -> bool:
    """Whether the interval of a dot lies beside the first line."""
    if not lines or dot.low is None or dot.high is None:
        return False
    return not dot.low <= lines[0].value <= dot.high


def draw_subgroups(
    whole: Scores, parts: Sequence[Scores], metric: str, title: str, embeddings: EmbeddingSet
) -> "Figure":
    """A score of each subgroup with its interval, against that of all rows.

    Args:
        whole: Of all test rows.
        parts: Of each subgroup, named `name=value`.
        metric: Its name.
        title: Protocol and inputs.
        embeddings: Whose names stand under the title.
    """
    every = whole[metric]
    dots = [Dot("all test rows", every.value, every.low, every.high, f"n = {whole.n}")]
    for part in parts:
        section, _, name = part.subgroup.partition("=")
        score = next((s for s in part.scores if s.metric == metric), None)
        value, low, high = (None,) * 3 if score is None else (score.value, score.low, score.high)
        dots.append(Dot(name, value, low, high, f"n = {part.n}", section))
    lines = [] if every.value is None else [Line(every.value, "all test rows")]
    if every.chance is not None:
        lines.append(Line(every.chance, "chance", ":"))
    return draw_dots(
        dots,
        lines,
        title=f"{title}: subgroups",
        under=under_title(embeddings),
        axis=METRICS[metric].title,
    )


def draw_tags(
    outcome: TagOutcome, groups: NDArray[np.str_], title: str, embeddings: EmbeddingSet
) -> "Figure | None":
    """AUROC of each tag with its interval, the most frequent tags first; None without a tag that
    has one.

    Args:
        outcome: Of the test rows.
        groups: (n,) unit of resampling.
        title: Protocol and inputs.
        embeddings: Whose names stand under the title.
    """
    dots = []
    have = np.nansum(outcome.truth, axis=0).astype(int)
    for i in np.argsort(-have, kind="stable")[:MAX_DOTS].tolist():
        tag = TagOutcome(outcome.truth[:, [i]], outcome.scores[:, [i]], (outcome.tags[i],))
        at, known = tag.metrics.index("auroc"), ~np.isnan(outcome.truth[:, i])
        value = float(tag.values()[at])
        note = f"{have[i]} of {known.sum()}"
        if np.isnan(value):
            dots.append(Dot(outcome.tags[i], None, note=note))
            continue
        ends = bootstrap(tag, groups, n_resamples=TAG_RESAMPLES)
        both = [np.nan if e is None else float(e[at]) for e in (ends.low, ends.high)]
        low, high = both if np.isfinite(both).all() else (None, None)
        dots.append(Dot(outcome.tags[i], value, low, high, note))
    if all(dot.value is None for dot in dots):
        return None
    title = f"{title}: each tag, n = {len(outcome)}; right: rows that have it"
    lines = [Line(0.5, "chance", ":")]
    return draw_dots(dots, lines, title=title, under=under_title(embeddings), axis="AUROC")


def forest_plot(comparison: "Comparison") -> "Figure":
    """The differences that have a verdict, by model and protocol; filled where it is decided."""
    from shared.evaluation.results.compare import UNDECIDED

    several = len(comparison.models) > 1

    def dot(d: "Difference") -> Dot:
        target = "" if d.target in ("", LABEL) else d.target
        metric = METRICS[d.metric].title if d.metric in METRICS else d.metric
        name = " ".join(filter(None, (arrow(d.inputs), target, d.variant, metric)))
        section = f"{d.model}: {d.protocol}" if several else d.protocol
        filled = d.verdict != UNDECIDED
        return Dot(name, d.difference, d.ci_low, d.ci_high, d.verdict, section, filled)

    told = [d for d in comparison.differences if d.verdict]
    mark = ", synthetic data" if comparison.synthetic else ""
    rows = {d.n for d in told}
    n = f"n = {min(rows)} to {max(rows)}" if len(rows) > 1 else f"n = {min(rows, default=0)}"
    level = round(100 * told[0].ci_level) if told else 95
    models = ", ".join(comparison.models)
    return draw_dots(
        [dot(d) for d in told],
        [Line(0.0, style="-")],
        title=f"{models} minus {comparison.baseline}",
        under=f"{comparison.dataset}{mark}, {n} shared test rows",
        axis=f"difference, {level} % interval of each\n(verdicts: corrected for their number)",
    )
