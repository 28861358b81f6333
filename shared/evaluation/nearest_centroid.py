"""Nearest class centre by cosine: labelled, and nothing fitted."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.classification import METRICS, classification_output, reason_not_to_classify
from shared.evaluation.output import ProtocolOutput, Rows, missing_output
from shared.evaluation.statistics import Floats

NAME = "nearest_centroid"
VERSION = 2


def nearest_centroid(
    train: Rows,
    test: Rows,
    *,
    classes: Sequence[str],
    seed: int = 0,
    n_resamples: int = 1000,
) -> ProtocolOutput:
    """Predict the class whose centre has the largest cosine with the embedding.

    The centre of a class is the mean of its train rows, L2-normalised. The centres are made from
    labels, so this is a few-parameter classifier, not zero-shot. On a tie the class with the
    smaller index. Source: AstroM3, arXiv:2411.08842, class-centre evaluation.

    Args:
        train: Rows that make the centres: unit vectors, or the mean of those of some modalities
            (`unit_mean`), which the average of several need not be.
        test: Rows to judge on.
        classes: Class names; labels index them.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap.

    Returns:
        Accuracy, balanced accuracy and macro F1 on test, or the reason why there are none.
    """
    reason = reason_not_to_classify(train, test)
    if reason is not None:
        return missing_output(NAME, VERSION, METRICS, len(test), reason)
    known, centres = class_centres(train)
    return classification_output(
        NAME,
        VERSION,
        train=train,
        test=test,
        predicted=known[(test.vectors @ centres.T).argmax(axis=1)],
        classes=classes,
        settings={"uses_labels": True},
        seed=seed,
        n_resamples=n_resamples,
    )


def class_centres(train: Rows) -> tuple[NDArray[np.int64], Floats]:
    """The classes of labelled rows, ascending, and their (n_classes, d) centres of unit norm."""
    known = np.unique(train.labels)
    means = [train.vectors[train.labels == label].mean(axis=0) for label in known]
    return known, normalise(np.stack(means))


def normalise(vectors: NDArray[np.float32] | NDArray[np.float64]) -> Floats:
    """Rows of unit L2 norm, float64; a row of zeros stays zeros."""
    rows = vectors.astype(np.float64)
    norm = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Floats = np.divide(rows, norm, out=np.zeros_like(rows), where=norm > 0)
    return unit


def unit_mean(parts: Sequence[NDArray[np.float32]]) -> Floats:
    """(n, d) mean of the L2-normalised embeddings of some modalities, not normalised again.

    What AstroM3 (arXiv:2411.08842) calls the embedding of an object: (p + s + m) / 3.
    """
    mean: Floats = np.mean([normalise(part) for part in parts], axis=0)
    return mean
