"""The results of one evaluation in its folder, task by task, so that it can be gone on with."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.environment import FILE as ENVIRONMENT
from shared.environment import environment
from shared.errors import DataError, EvaluationError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.outcomes.base import Outcome
from shared.evaluation.outcomes.files import load_outcome, save_outcome
from shared.evaluation.protocol import Output, Protocol, Task
from shared.evaluation.results.result import (
    LINES,
    PACKAGES,
    Result,
    append_results,
    by_task,
    hash_results,
    read_results,
)
from shared.evaluation.scoring import Score, Scores
from shared.files import write_json
from shared.untrusted import read_json

if TYPE_CHECKING:
    from shared.evaluation.run import Run

PREDICTIONS = "predictions"
SECTION = "evaluation"
"""Of `environment.json`, which a training may have written before."""


@dataclass(frozen=True)
class Predictions:
    """What a protocol said of every test row of a task, as read from a file.

    Attributes:
        outcome: Predictions, ranks or other values.
        ids: (n,) of the rows.
        groups: (n,) unit of resampling.
        meta: Key and hash of the results of the task.
    """

    outcome: Outcome
    ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    meta: Mapping[str, Any]


def predictions_path(folder: Path, result: Result) -> Path:
    """Where the predictions of the task of a result lie: its name in letters that every file system
    has, and the start of its key, so that no other configuration has the same."""
    words = "-".join(filter(None, result.task)).replace("->", "-to-")
    slug = re.sub(r"[^A-Za-z0-9._=+-]+", "_", words)[:80]
    return folder / PREDICTIONS / f"{slug}-{result.key[:8]}.parquet"


def read_predictions(folder: Path, result: Result) -> Predictions:
    """The predictions behind a result.

    Raises:
        EvaluationError: Missing or damaged file, or one of another task.
    """
    path = predictions_path(folder, result)
    found = Predictions(*load_outcome(path))
    if found.meta.get("key") != result.key:
        raise EvaluationError(f"{path} belongs to another evaluation than the results beside it.")
    return found


def check_predictions(folder: Path, results: Sequence[Result]) -> None:
    """Hold the results of a task against the file of its predictions.

    Raises:
        EvaluationError: Missing or damaged predictions, or of other results.
    """
    if read_predictions(folder, results[0]).meta.get("results") != hash_results(results):
        raise EvaluationError(
            f"{LINES}: the results of {' '.join(filter(None, results[0].task))} were changed after "
            "they were written; a resume computes them again."
        )


class EvaluationStore:
    """Keeps every finished task of an evaluation and gives it back when it is resumed.

    The predictions of a task are written before its results, and hold the hash of these: a task of
    which anything lacks or was edited is computed again.

    Attributes:
        folder: Of the evaluation.
        notes: What a kill had torn.
        resumed: Tasks that were read back so far.

    Raises:
        EvaluationError: The results in the folder are damaged or of another schema version.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.notes: list[str] = []
        self.resumed = 0
        self._recorded = False
        self._finished: dict[str, list[Result]] = {}
        if (self.folder / LINES).is_file():
            results, self.notes = read_results(self.folder / LINES)
            self._finished = by_task(results)

    def load(
        self, key: str, protocol: Protocol, task: Task, embeddings: EmbeddingSet
    ) -> "Run | None":
        """A task as it was when it had been finished; None where it has to be computed.

        Raises:
            EvaluationError: The folder holds results of this task with another key: of another
                model, other data or other settings.
        """
        asked = (protocol.name, task.inputs, task.target, task.variant)
        results = self._finished.get(key)
        if results is None:
            for others in self._finished.values():
                if others[0].task == asked:
                    raise EvaluationError(self._other(others[0], protocol, embeddings))
            return None
        try:
            predictions = read_predictions(self.folder, results[0])
        except EvaluationError:
            return None
        row_of = dict(zip(embeddings.ids.tolist(), range(len(embeddings)), strict=True))
        ids = predictions.ids.tolist()
        if predictions.meta.get("results") != hash_results(results) or not set(ids) <= set(row_of):
            return None
        self.resumed += 1
        rows = np.array([row_of[each] for each in ids], np.int64)
        return _run(protocol, task, results, predictions.outcome, rows)

    def save(self, run: "Run", embeddings: EmbeddingSet, results: Sequence[Result]) -> None:
        """Keep a finished task; it is on the disk when this returns.

        Raises:
            WriteError: The folder cannot be written to.
        """
        if not self._recorded:
            self._record(embeddings, results[0])
        if run.output.outcome is not None:
            rows = run.output.rows
            save_outcome(
                predictions_path(self.folder, results[0]),
                run.output.outcome,
                embeddings.ids[rows],
                embeddings.groups[rows],
                {
                    "key": run.key,
                    "results": hash_results(results),
                    "settings": dict(run.settings),
                },
            )
        append_results(self.folder / LINES, results)

    def _record(self, embeddings: EmbeddingSet, result: Result) -> None:
        """Write what it takes to make the numbers again; each start of the evaluation is added."""
        path = self.folder / ENVIRONMENT
        try:
            content = read_json(path)
        except DataError:  # none yet, or damaged: nothing of ours is lost with it
            content = {}
        here = environment(PACKAGES)
        section = content.get(SECTION)
        if isinstance(section, dict):
            section["resumed"] = [*section.get("resumed", []), here]
        else:
            section = {
                "model": embeddings.model,
                "model_revision": embeddings.revision,
                "dataset": embeddings.dataset,
                "synthetic": embeddings.synthetic,
                "data_fingerprint": embeddings.fingerprint,
                "split_fingerprint": embeddings.split_fingerprint,
                "seeds": list(result.seeds),
                **here,
            }
        write_json(path, {**content, SECTION: section})
        self._recorded = True

    def _other(self, there: Result, protocol: Protocol, embeddings: EmbeddingSet) -> str:
        """Why what is in the folder is not what is asked for."""
        pairs = {
            "model revision": (there.model_revision, embeddings.revision),
            "data": (there.data_fingerprint, embeddings.fingerprint),
            "split": (there.split_fingerprint, embeddings.split_fingerprint),
            "version of the protocol": (there.protocol_version, protocol.version),
        }
        changed = [f"{name} {a}, now {b}" for name, (a, b) in pairs.items() if a != b]
        what = "; ".join(changed) or "the embeddings, the simple features or the settings changed"
        return (
            f"{self.folder} holds {there.protocol} on {there.inputs} of something else ({what}). "
            "No result is overwritten: evaluate into a new folder."
        )


def _run(
    protocol: Protocol,
    task: Task,
    results: Sequence[Result],
    outcome: Outcome,
    rows: NDArray[np.int64],
) -> "Run":
    """The run behind results; of the baselines, their values alone."""
    from shared.evaluation.run import Run

    first = results[0]
    parts: dict[str, list[Result]] = {}
    for result in results:
        parts.setdefault(result.subgroup, []).append(result)
    return Run(
        protocol=protocol,
        task=task,
        settings={name: first.settings[name] for name in protocol.settings},
        output=Output(
            rows,
            outcome,
            trivial_name=first.trivial_name,
            chance={r.metric: r.chance for r in parts[""] if r.chance is not None},
            settings=first.settings,
            seeds=first.seeds,
        ),
        simple=None,
        scores=_scores(parts.pop("")),
        subgroups=tuple(map(_scores, parts.values())),
        seconds=first.seconds,
        created=first.created,
        key=first.key,
    )


def _scores(results: Sequence[Result]) -> Scores:
    first = results[0]
    return Scores(
        tuple(
            Score(
                metric=r.metric,
                value=r.value,
                missing=r.missing,
                low=r.ci_low,
                high=r.ci_high,
                ci_missing=r.ci_missing,
                chance=r.chance,
                trivial=r.trivial,
                simple=r.simple_features,
                seed_values={int(seed): value for seed, value in r.seed_values.items()},
            )
            for r in results
        ),
        n=first.n,
        n_groups=first.n_groups,
        n_per_class=first.n_per_class,
        ci_level=first.ci_level,
        ci_method=first.ci_method,
        subgroup=first.subgroup,
    )
