"""Semantic localisation: each query's map over its scene, judged against its regions."""

from itertools import permutations

import numpy as np

from domains.remote_sensing.selo.heatmap import heat_map
from domains.remote_sensing.selo.indicators import Indicators, indicators
from domains.remote_sensing.selo.pictures import PICTURES
from domains.remote_sensing.selo.scenes import (
    REGIONS,
    Rows,
    Scene,
    polygons,
    queries,
    scenes,
    scores,
)
from shared.errors import DataError, EvaluationError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.outcomes import MeanOutcome
from shared.evaluation.protocol import Output, Protocol, Settings, Task, widths_differ
from shared.random import sample_seed

METRICS = ("rmi", "rsu", "ras", "rda")
SEED = 0
"""Of the random scores of the trivial baseline."""


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    """The pair of modalities that queries and windows have; any pair where there are none."""
    pairs: list[tuple[str, ...]] = [*permutations(embeddings.modalities, 2)]
    pairs = pairs or [embeddings.modalities * 2]  # one modality: neither queries nor windows fit
    there = [p for p in pairs if queries(embeddings, p[0]).size and scenes(embeddings, p[1])]
    return [Task(pair, inputs="->".join(pair)) for pair in there or pairs[:1]]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    rows, found = queries(embeddings, task.modalities[0]), scenes(embeddings, task.modalities[1])
    whole = np.array([str(scene) in found for scene in embeddings.groups[rows]], dtype=np.bool_)
    left_out = int((~whole).sum())
    rows = rows[whole]
    reason = widths_differ(task, embeddings) if rows.size else "no queries about scenes in windows"
    if reason is not None:
        return Output(rows, None, missing=reason, metrics=METRICS)
    try:
        ours, random = _judge(rows, found, task, embeddings, settings)
    except (DataError, EvaluationError) as error:
        return Output(rows, None, missing=str(error), metrics=METRICS)
    return Output(
        rows,
        ours,
        trivial=random,
        trivial_name="random scores of the windows",
        settings={"queries_left_out": left_out} if left_out else {},
    )


def _judge(
    rows: Rows,
    found: dict[str, Scene],
    task: Task,
    embeddings: EmbeddingSet,
    settings: Settings,
) -> tuple[MeanOutcome, MeanOutcome]:
    """Of the model and of random scores, query by query."""
    judged: tuple[list[Indicators], list[Indicators]] = ([], [])
    for row in rows.tolist():
        scene, regions = found[str(embeddings.groups[row])], polygons(embeddings, row)
        drawn = np.random.default_rng(sample_seed(SEED, None, str(embeddings.ids[row])))
        ours = scores(row, scene, task.modalities, embeddings)
        for which, each in zip(judged, (ours, drawn.random(len(ours))), strict=True):
            grey = heat_map(scene.windows, each, *scene.size, jpeg=bool(settings["jpeg"]))
            which.append(indicators(grey, regions))
    return _outcome(judged[0]), _outcome(judged[1])


def _outcome(found: list[Indicators]) -> MeanOutcome:
    return MeanOutcome({m: np.array([getattr(each, m) for each in found]) for m in METRICS})


PROTOCOL = Protocol(
    name="semantic_localisation",
    version=1,
    title="where in a large scene is what a sentence describes",
    tasks=_tasks,
    run=_run,
    settings={"jpeg": True},
    # features of windows and of sentences are not of one space
    baselines=False,
    applies=lambda embeddings: REGIONS in embeddings.annotations,
    pictures=PICTURES,
)
