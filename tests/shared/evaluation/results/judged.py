"""Evaluations made up row by row, as `zoo eval` leaves them in a folder."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.outcomes import Outcome
from shared.evaluation.protocol import Output, Protocol, Task
from shared.evaluation.results.result import save_results
from shared.evaluation.results.store import EvaluationStore
from shared.evaluation.run import Evaluation, evaluate_arrays


def embeddings(
    n: int = 60, *, model: str = "m", seed: int = 0, dataset: str = "sky", per_group: int = 1
) -> EmbeddingSet:
    """Two classes; every second third of the rows is test."""
    rng = np.random.default_rng(seed)
    rows = np.arange(n)
    vectors = rng.normal(size=(n, 4)).astype(np.float32)
    return EmbeddingSet(
        ids=np.array([f"id-{i:04d}" for i in rows]),
        vectors={"image": vectors},
        present={"image": np.ones(n, bool)},
        labels=rows % 2,
        classes=("a", "b"),
        splits=np.array(["train", "test", "test"])[rows % 3],
        groups=np.array([f"group-{i // per_group}" for i in rows]),
        dataset=dataset,
        model=model,
        synthetic=False,
        fingerprint="f" * 16,
    )


def protocol(
    outcomes: Mapping[str, Outcome | str], *, version: int = 1, name: str = "told", calls: list = ()
) -> Protocol:
    """A protocol with a task a variant, whose outcome on all test rows, or the reason that it has
    none, is given."""

    def run(task: Task, given: EmbeddingSet, settings: Mapping) -> Output:
        if isinstance(calls, list):
            calls.append(task.variant)
        rows = np.flatnonzero(given.splits == "test")
        told = outcomes[task.variant]
        if isinstance(told, str):
            return Output(rows, None, missing=told, metrics=("accuracy",))
        return Output(rows, told, settings={"chosen": len(rows)})

    tasks = [Task(("image",), "label", variant, "image") for variant in outcomes]
    return Protocol(name, version, "told", lambda *_: tasks, run, {"strength": 1})


def evaluate(
    folder: Path, given: EmbeddingSet, told: Protocol, settings: Mapping | None = None
) -> Evaluation:
    """What `zoo eval` leaves in the folder."""
    evaluation = evaluate_arrays(
        given,
        [told],
        settings={told.name: settings or {}},
        n_resamples=50,
        store=EvaluationStore(folder),
    )
    save_results(folder, evaluation.results)
    return evaluation
