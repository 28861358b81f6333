"""Nearest class centre by cosine: labelled, and nothing fitted."""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.baselines import MAJORITY, classification_baseline, reason_not_to_classify
from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.outcomes import ClassOutcome
from shared.evaluation.protocol import (
    Output,
    Protocol,
    Settings,
    Task,
    class_tasks,
    labelled,
    missing,
    rows_of,
    widths_differ,
)

Vectors = NDArray[np.floating[Any]]
METRICS = ("accuracy", "balanced_accuracy", "macro_f1")


def nearest_centroid(train: Vectors, labels: NDArray[np.int64], test: Vectors) -> NDArray[np.int64]:
    """Predict the class whose centre has the largest cosine with the embedding.

    The centre of a class is the mean of its train rows, L2-normalised. The centres are made from
    labels, so this is a few-parameter classifier, not zero-shot. On a tie the class with the
    smaller index. Source: AstroM3, arXiv:2411.08842, class-centre evaluation.

    Args:
        train: (n_train, d) rows that make the centres: unit vectors, or the mean of those of some
            modalities (`vectors.unit_mean`), which the average of several need not be.
        labels: (n_train,) class indices.
        test: (n, d) rows of the same kind.

    Returns:
        (n,) class indices.
    """
    known, centres = class_centres(train, labels)
    predicted: NDArray[np.int64] = known[(test @ centres.T).argmax(axis=1)]
    return predicted


def class_centres(vectors: Vectors, labels: NDArray[np.int64]) -> tuple[NDArray[np.int64], Floats]:
    """The classes of labelled (n, d) rows, ascending, and their (n_classes, d) unit centres."""
    known = np.unique(labels)
    means = [vectors[labels == label].mean(axis=0) for label in known]
    return known, normalise(np.stack(means))


def run_classifier(
    task: Task,
    embeddings: EmbeddingSet,
    predict: Callable[[Vectors, NDArray[np.int64], Vectors], NDArray[np.int64]],
) -> Output:
    """Output of what is a function of (train vectors, their classes, test vectors) alone."""
    if (reason := widths_differ(task, embeddings)) is not None:
        return missing(task, embeddings, METRICS, reason)
    train, test = (rows_of(task, embeddings, split) for split in ("train", SPLIT))
    if (reason := reason_not_to_classify(train, test)) is not None:
        return missing(task, embeddings, METRICS, reason)
    predicted = predict(train.vectors, train.targets, test.vectors)
    trivial, chance = classification_baseline(train.targets, test.targets, embeddings.classes)
    return Output(
        test.index,
        ClassOutcome(test.targets, predicted, embeddings.classes),
        trivial=trivial,
        trivial_name=MAJORITY,
        chance=chance,
        settings={"n_train": len(train)},
    )


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    return run_classifier(task, embeddings, nearest_centroid)


PROTOCOL = Protocol(
    "nearest_centroid",
    2,
    "class of the nearest train centre",
    class_tasks,
    _run,
    applies=labelled,
)
