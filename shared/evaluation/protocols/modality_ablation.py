"""Modality ablation: what each modality adds to a linear probe, on the same rows throughout."""

from dataclasses import replace

import numpy as np

from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.protocol import ALL, Output, Protocol, Settings, Task, missing
from shared.evaluation.protocols import linear_probe

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")


def variants(modalities: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
    """By name, what is read: all modalities, all but one, and one alone (of two, the same)."""
    found = {"": modalities}
    if len(modalities) > 2:
        found |= {f"without={m}": tuple(o for o in modalities if o != m) for m in modalities}
    return found | {f"only={m}": (m,) for m in modalities}


def complete(embeddings: EmbeddingSet) -> EmbeddingSet:
    """The same set in which samples that lack a modality lack all: scores differ by what is read,
    and not by the rows that have it."""
    every = np.logical_and.reduce([embeddings.present[m] for m in embeddings.modalities])
    return replace(embeddings, present={m: every for m in embeddings.modalities})


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    whole = embeddings.modalities
    targets = {task.target: None for task in linear_probe.PROTOCOL.tasks(embeddings, settings)}
    if len(whole) == 1:
        return [Task(whole, target, inputs=whole[0]) for target in targets]
    return [Task(whole, target, name, ALL) for target in targets for name in variants(whole)]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    if len(task.modalities) == 1:
        return missing(task, embeddings, METRICS, "needs two modalities or more")
    read = replace(task, modalities=variants(task.modalities)[task.variant])
    return linear_probe.PROTOCOL.run(read, complete(embeddings), settings)


PROTOCOL = Protocol(
    name="modality_ablation",
    version=1,
    title="linear probe without each modality, on rows that have all",
    tasks=_tasks,
    run=_run,
    settings=linear_probe.PROTOCOL.settings,
    applies=lambda embeddings: len(embeddings.modalities) > 1,
)
