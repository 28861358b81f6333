"""Draws what contrastive.py measured: time and memory against batch, modalities and ranks.

python benchmarks/scaling_pictures.py RESULTS.json [--out docs/images]

RESULTS.json is of `contrastive.py --json`. One picture a section, `scaling_<section>.png`; points
that are missing ran out of memory.
"""

import argparse
import json
import statistics
from itertools import groupby
from pathlib import Path
from typing import Any

from contrastive import SECTIONS, floor_seconds
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

from shared.evaluation.pictures.figures import (
    COLOURS,
    GREY,
    LINES,
    MARKERS,
    SMALL,
    TEXT,
    titled_figure,
)

INCHES, DOTS_PER_INCH = (7.0, 3.4), 100
TITLES = {
    "softmax": "Softmax contrast: time and memory of the loss",
    "sigmoid": "Sigmoid contrast: time and memory of the loss",
    "modalities": "All pairs of several modalities, softmax",
    "ranks": "One batch spread over ranks",
    "filip": "FILIP: token by token",
}
NAMES = {"zoo": "zoo, in blocks", "plain": "zoo, whole matrix", "open_clip": "open_clip"}
SIDES = tuple(NAMES)
Rows = list[dict[str, Any]]


def axis_of(section: str) -> str:
    """What changes along the axis: a field of the rows."""
    return section if section in ("modalities", "ranks") else "batch"


def draw_lines(axes: Axes, rows: Rows, x: str, y: str) -> None:
    """A line for each side and loss."""
    losses = sorted({row["loss"] for row in rows})
    ordered = sorted(rows, key=lambda row: (row["loss"], row["who"], row[x]))
    for (loss, who), group in groupby(ordered, key=lambda row: (row["loss"], row["who"])):
        line = [row for row in group if row["seconds"]]
        side = SIDES.index(who)
        values = [statistics.median(row["seconds"]) if y == "time" else row["peak"] for row in line]
        axes.plot(
            [row[x] for row in line],
            values,
            color=COLOURS[side],
            marker=MARKERS[side],
            linestyle=LINES[losses.index(loss)],
            markersize=4,
            label=NAMES[who] + (f", {loss}" if len(losses) > 1 else ""),
        )


def draw_floor(axes: Axes, rows: Rows, x: str, gflops: float) -> None:
    """Seconds of the products alone, where all points are of one loss."""
    points = {row[x]: floor_seconds(row, gflops) for row in rows}
    if len({row["loss"] for row in rows}) == 1 and all(points.values()):
        label = f"products at {gflops:.0f} GFLOP/s"
        axes.plot(*zip(*sorted(points.items()), strict=True), color=GREY, ls=":", label=label)


def draw(section: str, found: dict[str, Any], file: Path) -> None:
    """Time on the left, memory on the right."""
    rows = [row for row in found["rows"] if row["section"] == section]
    x = axis_of(section)
    batches = {row["batch"] for row in rows}
    under = f"forward and backward, CPU, {found['threads']} threads"
    if len(batches) == 1:
        under += f", batch {batches.pop()}"
    figure = titled_figure(*INCHES, TITLES[section], under)
    panels: list[Axes] = list(figure.subplots(1, 2))
    for axes, y, label in zip(panels, ("time", "memory"), ("seconds", "peak MiB"), strict=True):
        draw_lines(axes, rows, x, y)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        ticks = sorted({row[x] for row in rows})
        names = [f"{tick // 1024}k" if tick >= 1024 else str(tick) for tick in ticks]
        axes.set_xticks(ticks, names)
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5), numticks=20))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_minor_locator(NullLocator())
        axes.set_xlabel(x, fontsize=TEXT)
        axes.set_ylabel(label, fontsize=TEXT)
        axes.tick_params(labelsize=SMALL)
        axes.grid(alpha=0.3)
    draw_floor(panels[0], rows, x, found["gflops"])
    figure.legend(
        *panels[0].get_legend_handles_labels(),
        loc="outside lower center",
        ncols=4,
        fontsize=SMALL,
        frameon=False,
    )
    figure.savefig(file, dpi=DOTS_PER_INCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path)
    parser.add_argument("--out", type=Path, default=Path("docs/images"))
    options = parser.parse_args()
    found = json.loads(options.results.read_text())
    there = {row["section"] for row in found["rows"]}
    for section in SECTIONS:
        if section in there:
            draw(section, found, options.out / f"scaling_{section}.png")


if __name__ == "__main__":
    main()
