"""The files of a run that hold its state: what they are called, and from where it can go on."""

import csv
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from shared.checkpoint_file import read_checkpoint
from shared.environment import FILE
from shared.errors import WeightsError
from shared.folder_lock import LOCK as LOCK
from shared.folder_lock import FolderLock as FolderLock
from shared.folder_lock import is_training as is_training
from shared.folder_lock import leftovers as leftovers
from shared.weights import read_metadata, read_tensors, write_tensors

CONFIG = "config.yaml"
ENVIRONMENT = FILE
METRICS = "metrics.csv"
STATISTICS = "preprocessing.json"
"""What the preprocessing learned, by modality."""
CHECKPOINTS = "checkpoints"
LAST, PREVIOUS, BEST = "last.ckpt", "previous.ckpt", "best.safetensors"
COLUMNS = ("step", "metric", "value")
"""Of the metrics."""
END = "\r\n"
"""Of their rows."""
STATE_KEY = "selection"
"""Of the selection's state in a checkpoint."""


@dataclass(frozen=True)
class Best:
    """The kept weights.

    Attributes:
        epoch: At whose end they were, from 0.
        value: Of what the selection monitors.
    """

    epoch: int
    value: float


@dataclass(frozen=True)
class SavedState:
    """What a checkpoint says about itself.

    Attributes:
        epoch: The epoch it was written in, from 0.
        step: Optimiser steps done.
        total_steps: Of the whole run.
        best_epoch: Of the weights kept so far.
    """

    epoch: int
    step: int
    total_steps: int
    best_epoch: int | None


@dataclass(frozen=True)
class ResumePoint:
    """From where a run goes on.

    Attributes:
        path: The newest whole checkpoint.
        state: What it says.
        best: The kept weights; they may be of a later epoch than the checkpoint, which then comes
            to the same ones again.
        damaged: The newer checkpoint, if it is damaged.
        notes: What is not as the run had left it, for whoever resumes it.
    """

    path: Path
    state: SavedState
    best: Best | None
    damaged: Path | None
    notes: tuple[str, ...]


def write_best(path: Path, tensors: Mapping[str, Tensor], best: Best) -> None:
    """Write the kept weights with what there is to know about them.

    Raises:
        WriteError: They cannot be written.
    """
    write_tensors(path, tensors, asdict(best))


def read_best(path: Path) -> tuple[dict[str, Tensor], Best]:
    """The kept weights, after their hash was compared.

    Raises:
        WeightsError: Absent or damaged.
    """
    tensors, facts = read_tensors(path), read_metadata(path)
    try:
        return tensors, Best(int(facts["epoch"]), float(facts["value"]))
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: it does not say of which epoch it is.") from error


def read_state(path: Path) -> SavedState:
    """What a checkpoint says about itself, after its hash was compared.

    Raises:
        WeightsError: It is damaged, or no checkpoint of a run.
    """
    content: Any = read_checkpoint(path)
    try:
        best_epoch = content["callbacks"][STATE_KEY]["best_epoch"]
        return SavedState(
            int(content["epoch"]),
            int(content["global_step"]),
            int(content["guard"]["total_steps"]),
            None if best_epoch is None else int(best_epoch),
        )
    except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
        raise WeightsError(
            f"{path} is no checkpoint of `zoo train` ({type(error).__name__}: {error})."
        ) from error


def resume_point(folder: Path) -> ResumePoint | None:
    """From where a run goes on: its newest whole checkpoint, and the weights it had kept.

    Returns:
        None where no checkpoint was written yet.

    Raises:
        WeightsError: No checkpoint is whole, or the kept weights are damaged.
    """
    damaged: list[tuple[Path, WeightsError]] = []
    for name in (LAST, PREVIOUS):
        path = folder / CHECKPOINTS / name
        if not path.exists():
            continue
        try:
            state = read_state(path)
        except WeightsError as error:
            damaged.append((path, error))
            continue
        notes = [f"{error} Going on from {name}, step {state.step}." for _, error in damaged]
        if name == PREVIOUS and not damaged:
            notes.append(f"There is no {LAST}: going on from {name}, step {state.step}.")
        best, note = _kept(folder / CHECKPOINTS / BEST, state)
        notes += [note] if note else []
        if state.best_epoch is not None and not _has_rows(folder / METRICS):
            notes.append(
                f"{folder / METRICS} is missing or empty: the log starts anew at step {state.step}."
            )
        return ResumePoint(path, state, best, damaged[0][0] if damaged else None, tuple(notes))
    if damaged:
        raise WeightsError(
            f"{' '.join(str(error) for _, error in damaged)} No other checkpoint is whole, so the "
            "run cannot go on: start it anew."
        )
    return None


def _kept(path: Path, state: SavedState) -> tuple[Best | None, str]:
    """The weights a run had kept, and what there is to say about them."""
    consent = (
        f"To go on without them, delete {path}: the best of the epochs that are left is kept then."
    )
    if not path.exists():
        if state.best_epoch is None:
            return None, ""
        lost = f"{path} is missing: the weights of epoch {state.best_epoch + 1} are lost"
        return None, f"{lost}; the best of the epochs that are left is kept."
    try:
        best = read_best(path)[1]
    except WeightsError as error:
        raise WeightsError(f"{error} It held the best weights so far. {consent}") from error
    if state.best_epoch is not None and best.epoch < state.best_epoch:
        raise WeightsError(
            f"{path} is of epoch {best.epoch + 1}, older than the weights that the run had kept, "
            f"of epoch {state.best_epoch + 1}. {consent}"
        )
    return best, ""


def read_metrics(path: Path) -> tuple[list[list[str]], bool]:
    """The whole rows of the metrics, without the header, and whether that is all there is.

    A kill can cut the last row; a machine that goes down can leave zeros where the end should be.

    Raises:
        OSError: It cannot be read.
        WeightsError: It is no regular file, but a pipe or a folder.
    """
    if path.exists() and not path.is_file():
        raise WeightsError(f"{path} is damaged: it is no regular file.")
    # csv's reader would take what is left of a number for a number
    with path.open(newline="", encoding="utf-8", errors="replace") as file:
        header, *lines = file.read().split(END)
    rows = list(csv.reader(lines[:-1]))
    whole = [r for r in rows if len(r) == len(COLUMNS) and r[0].isdigit() and _is_number(r[2])]
    return whole, (header, lines[-1:]) == (",".join(COLUMNS), [""]) and len(whole) == len(rows)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _has_rows(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0


def how_to_go_on(folder: Path) -> str:
    """What to type after a run has stopped."""
    if (folder / CONFIG).is_file():
        return f"go on with: zoo train resume={shlex.quote(str(folder))}"
    return "nothing had been written yet; start it again"
