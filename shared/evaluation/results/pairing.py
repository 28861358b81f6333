"""Models as they lie in folders, and the test rows that two of them share."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.outcomes import MeanRecallOutcome, Outcome, RankOutcome, SeededOutcome
from shared.evaluation.results.result import LINES, Result, load_results
from shared.evaluation.results.store import Predictions, read_predictions
from shared.untrusted import read_json

SWEEP = "sweep.json"
"""Of a folder that `zoo eval -m` or `zoo train -m` made."""
TaskName = tuple[str, str, str, str]
"""Protocol, inputs, target, variant."""
MAX_SETTING = 60
"""Characters of a setting in a reason: grids are long."""
_RANKED = (RankOutcome, MeanRecallOutcome)
Scores = Mapping[TaskName, Mapping[str, Result]]
"""By task and metric, of all test rows."""


@dataclass(frozen=True)
class Judged:
    """A model with its evaluation, or with those of its runs with several seeds.

    Attributes:
        name: Of the model; where several runs have several, of their folder.
        path: As the user named it.
        folders: One a run.
        runs: Their results.
    """

    name: str
    path: Path
    folders: tuple[Path, ...]
    runs: tuple[Scores, ...]

    @property
    def tasks(self) -> list[TaskName]:
        return list(self.runs[0])

    def result(self, task: TaskName | None = None) -> Result:
        """The first of a task, or of all: for what they have in common."""
        return next(iter(self.runs[0][task or self.tasks[0]].values()))

    def predictions(self, task: TaskName) -> Predictions:
        """Of a task; those of several runs as one outcome with seeds, on the rows that all have.

        Raises:
            EvaluationError: A run lacks the task or its predictions, or the runs differ in more
                than the seed.
        """
        found = []
        for folder, run in zip(self.folders, self.runs, strict=True):
            if task not in run:
                raise EvaluationError(f"{folder} lacks this task.")
            found.append(read_predictions(folder, next(iter(run[task].values()))))
        first, *others = found
        if not others:
            return first
        rows = np.arange(len(first.ids))
        for other in others:
            if reason := reason_not_to_pair(first, other):
                raise EvaluationError(f"the runs of {self.name} differ: {reason}.")
            rows = np.intersect1d(rows, shared_rows(first, other)[0])
        outcomes: list[Outcome] = []
        for each in found:
            taken = take(each, shared_rows(replace(first, ids=first.ids[rows]), each)[1])
            outcomes += taken.outcomes if isinstance(taken, SeededOutcome) else [taken]
        seeded = SeededOutcome(tuple(outcomes), tuple(range(len(outcomes))))
        return Predictions(seeded, first.ids[rows], first.groups[rows], first.meta)


def read_judged(path: Path) -> Judged:
    """A model from a run folder, or from one that holds several.

    Raises:
        EvaluationError: There is none, or its results are damaged.
    """
    folders = tuple(runs_in(path))
    _refuse_several_models(path)
    runs = []
    for folder in folders:
        tasks: dict[TaskName, dict[str, Result]] = {}
        for result in load_results(folder / LINES):
            if not result.subgroup:
                tasks.setdefault(result.task, {})[result.metric] = result
        if not tasks:
            raise EvaluationError(f"{folder / LINES} is empty: the evaluation has not got so far.")
        runs.append(tasks)
    judged = Judged(path.name, path, folders, tuple(runs))
    return judged if len(folders) > 1 else replace(judged, name=judged.result().model)


def _refuse_several_models(folder: Path) -> None:
    """Raises EvaluationError for a sweep over more than seeds, whose runs are no one model."""
    if not (folder / SWEEP).is_file():
        return
    content = read_json(folder / SWEEP)
    jobs = content.get("jobs", []) if isinstance(content, dict) else []
    settings = {tuple(o for o in job["overrides"] if not o.startswith("seed=")) for job in jobs}
    if len(settings) > 1:
        raise EvaluationError(
            f"{folder} is a sweep over {len(settings)} settings, not seeds of one model: compare "
            f"its runs with each other (`zoo compare {folder}`), or name folders of runs in it."
        )


def runs_in(folder: Path) -> list[Path]:
    """The run folders directly below a folder, such as a sweep; of a run folder, itself.

    Raises:
        EvaluationError: There is no such folder, or no results in it.
    """
    if not folder.is_dir():
        raise EvaluationError(f"{folder}: there is no such folder.")
    if (folder / LINES).is_file() and (folder / "config.yaml").is_file():
        return [folder]
    below = sorted(path.parent for path in folder.glob(f"*/{LINES}"))
    if not below and not (folder / LINES).is_file():
        raise EvaluationError(
            f"{folder} holds no {LINES}: name the folder of a `zoo eval` or `zoo train`."
        )
    return below or [folder]


def named_apart(judged: Sequence[Judged]) -> list[Judged]:
    """With the names of the folders, where models have the same name."""
    if len({each.name for each in judged}) == len(judged):
        return list(judged)
    return [replace(each, name=str(each.path)) for each in judged]


def shared_rows(a: Predictions, b: Predictions) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows in each of the ids that both have, in the order of the first."""
    _, rows_a, rows_b = np.intersect1d(a.ids, b.ids, assume_unique=True, return_indices=True)
    order = np.argsort(rows_a)
    return rows_a[order].astype(np.int64), rows_b[order].astype(np.int64)


def take(predictions: Predictions, rows: NDArray[np.int64]) -> Outcome:
    """The outcome of some rows; a number of the whole set, which has none to take, as it is."""
    outcome = predictions.outcome
    return outcome.take(rows) if outcome.resampled else outcome


def reason_not_to_pair(a: Predictions, b: Predictions) -> str:
    """Why predictions cannot be held against each other row by row; empty where they can."""
    if reason := _reason_of_settings(a.meta.get("settings") or {}, b.meta.get("settings") or {}):
        return reason
    rows_a, rows_b = shared_rows(a, b)
    if len(rows_a) == 0:
        return "no test row has the same id in both"
    one, other = (_single(each.outcome) for each in (a, b))
    if one.kind != other.kind:
        return f"outcomes of two kinds, {one.kind} and {other.kind}"
    if not one.resampled and len(rows_a) < max(len(a.ids), len(b.ids)):
        return "a number of the set as a whole, and the sets have different rows"
    n_candidates = [o.n_candidates for o in (one, other) if isinstance(o, _RANKED)]
    if len(set(n_candidates)) > 1:
        return f"ranks among {n_candidates[0]} and {n_candidates[1]} candidates"
    return _reason_of_truth(a.ids, one.columns(), other.columns(), rows_a, rows_b)


def _reason_of_settings(one: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    """Which settings differ; empty where none does."""
    names = [n for n in {**one, **other} if (n in one, one.get(n)) != (n in other, other.get(n))]
    differ = (
        f"{name} is {_setting(one, name)} in one and {_setting(other, name)} in the other"
        for name in names
    )
    return f"settings: {', '.join(differ)}" if names else ""


def _setting(settings: Mapping[str, Any], name: str) -> str:
    text = str(settings[name]) if name in settings else "not there"
    return text if len(text) <= MAX_SETTING else f"{text[:MAX_SETTING]}…"


def _reason_of_truth(
    ids: NDArray[np.str_],
    one: Mapping[str, NDArray[np.generic]],
    other: Mapping[str, NDArray[np.generic]],
    rows_a: NDArray[np.int64],
    rows_b: NDArray[np.int64],
) -> str:
    """Which row has another truth in the columns of two outcomes."""
    for name in (name for name in one if name.startswith("truth") and name in other):
        x, y = one[name][rows_a], other[name][rows_b]
        differ = np.flatnonzero((x != y) & ((x == x) | (y == y)))  # NaN, unknown, is itself
        if differ.size:
            row = differ[0]
            return (
                f"{name} of {str(ids[rows_a[row]])!r} is {x[row]} in one and {y[row]} in the other "
                f"({differ.size} such rows)"
            )
    return ""


def _single(outcome: Outcome) -> Outcome:
    return outcome.outcomes[0] if isinstance(outcome, SeededOutcome) else outcome
