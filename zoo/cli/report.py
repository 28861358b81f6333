"""Results as a table on the screen, JSON and pictures in the run folder."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.progress import console

if TYPE_CHECKING:
    from shared.data.skipping import Skipped
    from shared.evaluation.run import Evaluation


def report(evaluation: "Evaluation", folder: Path) -> None:
    """Print the table; write `results.json`, `outliers.csv` and `pictures/`."""
    from shared.evaluation.outliers import save_outliers
    from shared.evaluation.pictures import save_pictures
    from shared.evaluation.results import results_table, save_results

    save_results(folder / "results.json", evaluation.results)
    outliers = evaluation.outliers
    if outliers is not None:
        save_outliers(folder / "outliers.csv", outliers, evaluation.embeddings)
    console().print(results_table(evaluation.results))
    console().print("simple: the same protocol on simple features", style="dim")
    for warning in evaluation.warnings:
        console().print(f"warning: {warning}", style="yellow", highlight=False)
    console().print(f"all metrics  {folder / 'results.json'}", highlight=False)
    if outliers is not None:
        console().print(
            f"outliers     {folder / 'outliers.csv'} "
            f"({outliers.candidate.sum()} labels to look at again)",
            highlight=False,
        )
    with console().status("drawing"):
        pictures = save_pictures(folder / "pictures", evaluation)
    for picture in pictures:
        console().print(f"picture      {picture}", highlight=False)


def report_skipped(skipped: "Sequence[Skipped]", path: Path) -> None:
    """Print what was left out of the data, and write all of it to `path`."""
    from shared.data.skipping import describe_skipped, save_skipped

    save_skipped(path, skipped)
    for line in describe_skipped(skipped):
        console().print(line, highlight=False, markup=False)


def next_lines(lines: list[str]) -> None:
    """Print what can be typed next, first of all how to get `zoo` on the path."""
    console().print("\nnext:", highlight=False)
    folder = Path(sys.executable).parent
    if shutil.which("zoo") is None and (folder / "activate").is_file():
        lines = [f"source {os.path.relpath(folder / 'activate')}", *lines]
    for line in lines:
        console().print(f"  {line}", highlight=False, markup=False)
