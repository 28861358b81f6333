"""Results as tables on the screen; files, pictures and one page in the run folder."""

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


def report(evaluation: "Evaluation", folder: Path, command: str) -> None:
    """Print the tables; write `results.jsonl`, `results.parquet`, lists of samples to look at,
    `pictures/` and `report.html`, which tells the command that makes them again."""
    from shared.evaluation.pictures import save_pictures
    from shared.evaluation.results.report_page import PAGE, save_page
    from shared.evaluation.results.result import LINES, save_results
    from shared.evaluation.results.table import results_table, subgroup_table

    save_results(folder, evaluation.results)
    console().print(results_table(evaluation.results))
    console().print("simple: the same protocol on simple features", style="dim")
    if (by_subgroup := subgroup_table(evaluation.results)) is not None:
        console().print()
        console().print(by_subgroup)
    console().print()
    for warning in evaluation.warnings:
        console().print(f"warning: {warning}", style="yellow", highlight=False)
    for finding in evaluation.hygiene.findings:
        if finding.level == "note":
            note = f"note: {finding.check}: {finding.text}"
            console().print(note, style="dim", highlight=False)
    console().print(f"all metrics  {folder / LINES}", highlight=False)
    for line in _save_lists(evaluation, folder):
        console().print(line, highlight=False)
    with console().status("drawing"):
        pictures = save_pictures(folder / "pictures", evaluation)
        save_page(folder / PAGE, evaluation, pictures, command)
    console().print(f"pictures     {len(pictures)} in {folder / 'pictures'}", highlight=False)
    page = f"report       {folder / PAGE} (more metrics, shots, subgroups)"
    console().print(page, highlight=False)


def _save_lists(evaluation: "Evaluation", folder: Path) -> list[str]:
    """Write the CSV files of samples to look at, and a line for each."""
    from shared.evaluation.hygiene.duplicates import save_duplicates
    from shared.evaluation.hygiene.label_errors import save_label_errors
    from shared.evaluation.hygiene.outliers import save_outliers

    embeddings, lines = evaluation.embeddings, []
    if (outliers := evaluation.outliers) is not None:
        path = folder / "outliers.csv"
        save_outliers(path, outliers, embeddings)
        lines.append(
            f"outliers     {path} ({_labels(int(outliers.candidate.sum()))} to look at again)"
        )
    errors = evaluation.label_errors
    if not isinstance(errors, str):
        path = folder / "label_errors.csv"
        save_label_errors(path, errors, embeddings)
        lines.append(
            f"labels       {path} ({_labels(len(errors.rows))} contradicted by other samples)"
        )
    if duplicates := evaluation.hygiene.duplicates:
        path = folder / "duplicates.csv"
        save_duplicates(path, duplicates, embeddings)
        lines.append(f"duplicates   {path} ({len(duplicates)} pairs across splits)")
    return lines


def _labels(count: int) -> str:
    return f"{count} label{'' if count == 1 else 's'}"


def report_skipped(skipped: "Sequence[Skipped]", path: Path) -> None:
    """Print what was left out of the data, and write all of it to `path`."""
    from shared.data.skipping import describe_skipped, save_skipped

    save_skipped(path, skipped)
    for line in describe_skipped(skipped):
        console().print(line, highlight=False)


def next_lines(lines: list[str]) -> None:
    """Print what can be typed next, first of all how to get `zoo` on the path."""
    console().print("\nnext:", highlight=False)
    folder = Path(sys.executable).parent
    if shutil.which("zoo") is None and (folder / "activate").is_file():
        lines = [f"source {os.path.relpath(folder / 'activate')}", *lines]
    for line in lines:
        console().print(f"  {line}", highlight=False)
