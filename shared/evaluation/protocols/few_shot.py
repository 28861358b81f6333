"""Few-shot classification: how much a few labelled rows of each class are worth."""

import hashlib
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError, suggest
from shared.evaluation.baselines import MAJORITY, classification_baseline, reason_not_to_classify
from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.outcomes import ClassOutcome, SeededOutcome
from shared.evaluation.protocol import (
    Output,
    Protocol,
    Rows,
    Settings,
    Task,
    class_tasks,
    labelled,
    missing,
    rows_of,
)
from shared.evaluation.protocols.nearest_centroid import nearest_centroid
from shared.evaluation.solvers.logistic import fit_logistic

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
HEADS = ("logistic", "nearest_centroid")
C = 10.0
"""Inverse strength of the logistic head's L2 penalty in scikit-learn's sense (sum of the losses),
as a few rows leave none to choose it by. Ours: on scikit-learn's digits, wine and breast cancer
with 1, 4 and 16 shots it is within 0.004 of the best accuracy of C = 1, 10 and 100; Tian et al.
2020 (arXiv:2003.11539) take 1, which is up to 0.015 less there."""


def few_shot(
    train: Floats,
    targets: NDArray[np.int64],
    test: Floats,
    n_classes: int,
    head: str = "logistic",
    c: float = C,
) -> tuple[NDArray[np.int64], Floats | None]:
    """Classes of test rows from a few labelled rows.

    Args:
        train: (m, d) unit rows that were drawn.
        targets: (m,) their classes.
        test: (n, d) unit rows.
        n_classes: Of the data; those without a drawn row are never predicted.
        head: `logistic`: L2-regularised logistic regression with an intercept;
            `nearest_centroid`: the class whose mean has the largest cosine (SimpleShot, Wang et al.
            2019, arXiv:1911.04623).
        c: Inverse strength of the logistic head's penalty, see `C`.

    Returns:
        (n,) classes and (n, n_classes) probabilities; None for centroids, which have none.
    """
    if head == "nearest_centroid":
        return nearest_centroid(train, targets, test), None
    known, coded = np.unique(targets, return_inverse=True)
    path = fit_logistic(train, coded, len(known), [1 / (c * len(train))])
    probabilities = np.zeros((len(test), n_classes))
    probabilities[:, known] = path.probabilities(test)[0]
    return known[probabilities[:, known].argmax(axis=1)], probabilities


def draw_shots(
    ids: NDArray[np.str_],
    groups: NDArray[np.str_],
    targets: NDArray[np.int64],
    shots: int,
    seed: int,
) -> NDArray[np.int64]:
    """The same number of rows of each class, of as many groups as there are.

    Each row and each group has a number that is a function of its name and the seed. A class gives
    a row of each group, then a second row of each group, and so on, by these numbers. So fewer
    shots of a seed are a part of more, and neither the order of the rows nor those of other
    classes matter.

    Args:
        ids: (n,) unique names.
        groups: (n,) unit of resampling; rows of one are nearly the same.
        targets: (n,) class of each row.
        shots: Rows a class; a class with fewer gives all.
        seed: Another seed, another draw.

    Returns:
        Indices of the rows drawn, ascending.
    """
    row_number, group_number = _numbers(ids, seed), _numbers(groups, seed)
    _, group = np.unique(groups, return_inverse=True)
    turn = _position(row_number, targets, group)
    order = np.lexsort((row_number, group_number, turn, targets))
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order)) - _starts(targets[order])
    return np.flatnonzero(place < shots)


def _position(
    number: NDArray[np.uint64], targets: NDArray[np.int64], group: NDArray[np.int64]
) -> NDArray[np.int64]:
    """(n,) rank of each row by its number among those of its class and group, from 0."""
    order = np.lexsort((number, group, targets))
    pair = targets[order] * (group.max(initial=0) + 1) + group[order]
    position = np.empty(len(order), dtype=np.int64)
    position[order] = np.arange(len(order)) - _starts(pair)
    return position


def _starts(sorted_keys: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) where the run of equal keys begins that an entry is in."""
    return np.searchsorted(sorted_keys, sorted_keys, side="left").astype(np.int64)


def _numbers(names: NDArray[np.str_], seed: int) -> NDArray[np.uint64]:
    """(n,) a number for each name and seed."""
    unique, inverse = np.unique(names, return_inverse=True)
    key = f"{seed}/".encode()
    numbers = [
        int.from_bytes(hashlib.blake2b(key + name.encode(), digest_size=8).digest(), "little")
        for name in unique.tolist()
    ]
    return np.array(numbers, dtype=np.uint64)[inverse]


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    _check(settings)
    return [
        replace(task, variant=f"shots={shots}")
        for task in class_tasks(embeddings, settings)
        for shots in settings["shots"]
    ]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    shots = int(task.variant.removeprefix("shots="))
    train, test = (rows_of(task, embeddings, split, concatenate=True) for split in ("train", SPLIT))
    reason = reason_not_to_classify(train, test) or _too_few(train, shots, embeddings.classes)
    if reason is not None:
        return missing(task, embeddings, METRICS, reason)
    vectors, of_test = _unit_vectors(task, embeddings, train, test)
    ids, seeds, outcomes = embeddings.ids[train.index], tuple(settings["seeds"]), []
    for seed in seeds:
        drawn = draw_shots(ids, train.groups, train.targets, shots, seed)
        predicted, probabilities = few_shot(
            vectors[drawn],
            train.targets[drawn],
            of_test,
            len(embeddings.classes),
            settings["head"],
            float(settings["c"]),
        )
        outcomes.append(
            ClassOutcome(test.targets, predicted, embeddings.classes, probabilities=probabilities)
        )
    trivial, chance = classification_baseline(train.targets, test.targets, embeddings.classes)
    return Output(
        test.index,
        SeededOutcome(tuple(outcomes), seeds),
        trivial=trivial,
        trivial_name=MAJORITY,
        chance=chance,
        settings={
            "shots": shots,
            "head": settings["head"],
            "c": settings["c"],
            "n_train": shots * len(np.unique(train.targets)),
        },
        seeds=seeds,
    )


def _check(settings: Settings) -> None:
    """Raises ConfigError for settings that no task could run with."""
    if settings["head"] not in HEADS:
        head = settings["head"]
        raise ConfigError(f"settings.few_shot.head={head!r}. {suggest(head, HEADS)}")
    if not settings["c"] > 0:
        raise ConfigError(f"settings.few_shot.c={settings['c']}: a number above 0 is needed.")
    for name in ("shots", "seeds"):
        values = settings[name]
        if not values or len(set(values)) < len(values):
            raise ConfigError(f"settings.few_shot.{name}={values}: one at least, each once.")
    if min(settings["shots"]) < 1:
        raise ConfigError(
            f"settings.few_shot.shots={settings['shots']}: whole numbers above 0 are needed."
        )


def _unit_vectors(
    task: Task, embeddings: EmbeddingSet, train: Rows, test: Rows
) -> tuple[Floats, Floats]:
    """Of train and test: each modality centred by the train split, labels unused, and of unit norm
    (SimpleShot's CL2N, arXiv:1911.04623, §3), so that a direction that all embeddings share does
    not count; modalities side by side, with the same share of the norm of 1."""
    parts: list[list[Floats]] = [[], []]
    for modality in task.modalities:
        vectors = embeddings.vectors[modality]
        centre = vectors[train.index].mean(axis=0, dtype=np.float64)
        for part, rows in zip(parts, (train, test), strict=True):
            part.append(normalise(vectors[rows.index] - centre) / np.sqrt(len(task.modalities)))
    of_train, of_test = (np.concatenate(part, axis=1) for part in parts)
    return of_train, of_test


def _too_few(train: Rows, shots: int, classes: Sequence[str]) -> str | None:
    """Why there are not so many rows of each class that is in the train split; None where there
    are. With fewer of one class the curve would no longer be of balanced draws."""
    known, counts = np.unique(train.targets, return_counts=True)
    smallest = int(counts.argmin())
    if counts[smallest] >= shots:
        return None
    name = classes[int(known[smallest])]
    return f"class {name} has only {counts[smallest]} train rows of the {shots} needed"


PROTOCOL = Protocol(
    name="few_shot",
    version=1,
    title="a few labelled rows of each class, over several draws",
    tasks=_tasks,
    run=_run,
    settings={"shots": [1, 2, 4, 8, 16], "seeds": [0, 1, 2, 3, 4], "head": "logistic", "c": C},
    applies=labelled,
)
