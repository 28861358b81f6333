"""Pictures of an evaluation: what it found, and the samples behind it."""

import re
from pathlib import Path
from typing import TYPE_CHECKING

from shared.evaluation.pictures.choice import draw_pictures
from shared.evaluation.pictures.intervals import forest_plot
from shared.evaluation.pictures.projection import check_projection
from shared.files import atomic_path

if TYPE_CHECKING:
    from shared.evaluation.results.compare import Comparison
    from shared.evaluation.run import Evaluation

__all__ = ["check_projection", "draw_differences", "save_pictures"]

DPI = 120


def save_pictures(folder: str | Path, evaluation: "Evaluation") -> list[Path]:
    """Write PNGs of whatever the evaluation holds: `<kind>.png` or `<kind>_<of what>.png`.

    The kinds and how each is read are in `kinds.KINDS`. Of each protocol the run on most modalities
    is drawn; among equals, the best. Galleries need `evaluation.drawing` to bring the samples.

    Args:
        folder: Made if it is not there.
        evaluation: Of `evaluate_arrays`.

    Returns:
        The files written.

    Raises:
        WriteError: The folder cannot be written to.
    """
    paths: list[Path] = []
    for name, figure in draw_pictures(evaluation):
        path = _free_path(Path(folder), name, paths)
        with atomic_path(path) as temporary:
            figure.savefig(temporary, dpi=DPI)
        paths.append(path)
    return paths


def _free_path(folder: Path, name: str, taken: list[Path]) -> Path:
    """A file name in letters that every file system has, unlike those of the other pictures."""
    stem = re.sub(r"[^A-Za-z0-9._+-]+", "-", name)[:100]
    path, number = folder / f"{stem}.png", 2
    while path in taken:
        path, number = folder / f"{stem}-{number}.png", number + 1
    return path


def draw_differences(comparison: "Comparison", path: str | Path) -> None:
    """Write a forest plot: the headline differences with their intervals, against zero.

    Args:
        comparison: Of `shared.evaluation.results.compare.compare`.
        path: Of the PNG; its folder is made if it is not there.

    Raises:
        WriteError: The folder cannot be written to.
    """
    figure = forest_plot(comparison)
    with atomic_path(Path(path)) as temporary:
        figure.savefig(temporary, dpi=DPI)
