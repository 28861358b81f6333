"""The label of the nearest labelled neighbour: nothing fitted, every train label used."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.classification import METRICS, classification_output, reason_not_to_classify
from shared.evaluation.output import ProtocolOutput, Rows, missing_output

NAME = "nearest_neighbour"
VERSION = 1
_BLOCK_ELEMENTS = 8_000_000
"""Dot products held at a time; bounds memory at 64 MB."""


def nearest_neighbour(
    train: Rows,
    test: Rows,
    *,
    classes: Sequence[str],
    seed: int = 0,
    n_resamples: int = 1000,
) -> ProtocolOutput:
    """Predict the label of the train row with the largest dot product.

    On a tie the first of these rows. Source: AstroM3, arXiv:2411.08842, nearest-neighbour
    evaluation.

    Args:
        train: Labelled rows to search: unit vectors, or the mean of those of some modalities
            (`nearest_centroid.unit_mean`).
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
    return classification_output(
        NAME,
        VERSION,
        train=train,
        test=test,
        predicted=train.labels[_nearest(train, test)],
        classes=classes,
        settings={"uses_labels": True},
        seed=seed,
        n_resamples=n_resamples,
    )


def _nearest(train: Rows, test: Rows) -> NDArray[np.int64]:
    """(n_test,) the train row of each test row."""
    block = max(1, _BLOCK_ELEMENTS // len(train))
    return np.concatenate(
        [
            (test.vectors[start : start + block] @ train.vectors.T).argmax(axis=1)
            for start in range(0, len(test), block)
        ]
    )
