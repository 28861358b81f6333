"""Evaluations of made-up outcomes: pictures and pages need no protocol to have run."""

import numpy as np
import pytest
from scipy.special import expit, softmax

from shared.evaluation.evaluator import Drawing
from shared.evaluation.outcomes import (
    ClassOutcome,
    RankOutcome,
    SeededOutcome,
    TagOutcome,
    ValueOutcome,
)
from shared.evaluation.protocol import Output, Protocol, Task, missing
from shared.evaluation.run import Evaluation, Run
from shared.evaluation.scoring import score, score_subgroups

RESAMPLES = 30


def make_run(embeddings, name, task, output):
    options = {"simple": output, "n_resamples": RESAMPLES if output.outcome else 0}
    return Run(
        protocol=Protocol(name, 1, f"what {name} does", None, None),
        task=task,
        settings={"asked": "<i>"},
        output=output,
        simple=output,
        scores=score(output, task.target, embeddings, **options),
        subgroups=tuple(score_subgroups(output, task.target, embeddings, **options)),
        seconds=0.5,
        created="2026-01-02T03:04:05+00:00",
        key="0123456789abcdef",
    )


def class_outcome(labels, classes, rng, skill=2.0):
    logits = skill * np.eye(len(classes))[labels] + rng.normal(size=(len(labels), len(classes)))
    sharp, soft = softmax(2 * logits, axis=1), softmax(logits, axis=1)
    return ClassOutcome(labels, sharp.argmax(axis=1), classes, sharp, soft)


def class_runs(made, rng):
    for modality in made.modalities:
        rows = made.rows("test", modality, target="label")
        outcome = class_outcome(made.labels[rows], made.classes, rng)
        output = Output(rows, outcome, trivial_name="majority", chance={"accuracy": 0.25})
        task = Task((modality,), "label", inputs=modality)
        yield make_run(made, "linear_probe", task, output)
        for shots in (8, 1, 2):
            seeded = [class_outcome(made.labels[rows], made.classes, rng, shots) for _ in range(2)]
            output = Output(rows, SeededOutcome(tuple(seeded), (0, 1)), seeds=(0, 1))
            task = Task((modality,), "label", f"shots={shots}", modality)
            yield make_run(made, "few_shot", task, output)


def target_runs(made, rng):
    modality = made.modalities[0]
    for name, values in made.targets.items():
        rows = made.rows("test", modality, target=name)
        outcome = ValueOutcome(values[rows], values[rows] + rng.normal(size=len(rows)))
        task = Task((modality,), name, inputs=modality)
        yield make_run(made, "ridge_probe", task, Output(rows, outcome))
    if made.tags:
        rows = made.rows("test", modality, target="tags")
        truth = made.truth("tags")[rows]
        scores = expit(2 * np.nan_to_num(truth) + rng.normal(size=truth.shape))
        task = Task((modality,), "tags", inputs=modality)
        output = Output(rows, TagOutcome(truth, scores, tuple(made.tags)))
        yield make_run(made, "linear_probe", task, output)


def rank_runs(made, rng):
    for query in made.modalities:
        for candidate in made.modalities:
            rows = made.rows("test", query, candidate)
            equal = made.vectors[query].shape == made.vectors[candidate].shape
            if query != candidate and equal and rows.size:
                ranks = rng.integers(1, len(rows) + 1, len(rows))
                task = Task((query, candidate), inputs=f"{query}->{candidate}")
                yield make_run(made, "retrieval", task, Output(rows, RankOutcome(ranks, len(rows))))


def make_evaluation(made, drawing=None, runs=None):
    """Outcomes of whatever the set has; one task that is missing."""
    rng = np.random.default_rng(0)
    if runs is None:
        runs = [*(class_runs(made, rng) if made.classes else ()), *target_runs(made, rng)]
        runs += rank_runs(made, rng)
        task = Task(made.modalities[:1], "label", inputs=made.modalities[0])
        output = missing(task, made, ("accuracy", "macro_f1"), "the model has no <text> encoder")
        runs.append(make_run(made, "zero_shot", task, output))
    return Evaluation(made, tuple(runs), 0, drawing or Drawing())


@pytest.fixture(name="make_evaluation", scope="session")
def make_evaluation_fixture():
    return make_evaluation


@pytest.fixture(name="rank_runs", scope="session")
def rank_runs_fixture():
    return rank_runs
