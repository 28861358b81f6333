"""Accuracy, balanced accuracy and macro F1 with intervals, chance and the majority class."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.output import ProtocolOutput, Rows, Score, Setting
from shared.evaluation.statistics import Floats, bootstrap_interval

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
MIN_CLASSES = 2


def classification_metrics(hits: Floats, true: Floats, predicted: Floats) -> Floats:
    """Accuracy, balanced accuracy and macro F1 from counts, weighted or expected.

    Balanced accuracy is the mean recall of the classes that are there; macro F1 the mean over the
    classes that are there or predicted. scikit-learn's definitions
    (https://scikit-learn.org/stable/modules/model_evaluation.html).

    Args:
        hits: (…, C) rows of each class that are predicted as it.
        true: (…, C) rows of each class.
        predicted: (…, C) rows predicted as each class.

    Returns:
        (…, 3) in the order of `METRICS`.
    """
    accuracy = hits.sum(-1) / true.sum(-1)
    recall = np.divide(hits, true, out=np.zeros_like(hits), where=true > 0)
    either = true + predicted
    f1 = np.divide(2 * hits, either, out=np.zeros_like(hits), where=either > 0)
    balanced = recall.sum(-1) / (true > 0).sum(-1)
    macro_f1 = f1.sum(-1) / (either > 0).sum(-1)
    return np.stack([accuracy, balanced, macro_f1], axis=-1)


def reason_not_to_classify(train: Rows, test: Rows) -> str | None:
    """Why a classifier cannot be judged on these rows, or None."""
    for name, rows in (("train", train), ("test", test)):
        if len(rows) == 0:
            return f"no labelled rows in the {name} split"
        if len(np.unique(rows.labels)) < MIN_CLASSES:
            return f"fewer than {MIN_CLASSES} classes in the {name} split"
    return None


def classification_output(
    protocol: str,
    version: int,
    *,
    train: Rows,
    test: Rows,
    predicted: NDArray[np.int64],
    classes: Sequence[str],
    settings: Mapping[str, Setting],
    seed: int,
    n_resamples: int,
) -> ProtocolOutput:
    """Scores of predictions, with what they are to be held against.

    Chance is a uniform guess among the classes of the train split (for macro F1, in the limit of
    many rows); the trivial baseline is the most frequent class of the train split.
    """
    n_classes = len(classes)
    one_hot = np.eye(n_classes)
    truth_1h, predicted_1h = one_hot[test.labels], one_hot[predicted]
    hits_1h = truth_1h * predicted_1h

    def statistic(weights: Floats) -> Floats:
        return classification_metrics(weights @ hits_1h, weights @ truth_1h, weights @ predicted_1h)

    n, n_true = len(test), truth_1h.sum(0)
    n_train = np.bincount(train.labels, minlength=n_classes)
    guess = (n_train > 0) / (n_train > 0).sum()
    majority = one_hot[int(n_train.argmax())]
    values = statistic(np.ones((1, n)))[0].tolist()
    chance = classification_metrics(n_true * guess, n_true, n * guess).tolist()
    trivial = classification_metrics(n_true * majority, n_true, n * majority).tolist()
    interval = bootstrap_interval(statistic, test.groups, n_resamples=n_resamples, seed=seed)
    ends = [None] * len(METRICS)
    return ProtocolOutput(
        protocol,
        version,
        scores=tuple(
            Score(*row)
            for row in zip(
                METRICS,
                values,
                ends if interval.low is None else interval.low.tolist(),
                ends if interval.high is None else interval.high.tolist(),
                chance,
                trivial,
                strict=True,
            )
        ),
        n=n,
        n_per_class={name: int(n_true[i]) for i, name in enumerate(classes)},
        ci_level=interval.level,
        ci_method=interval.method,
        trivial_name="most frequent class of the train split",
        settings={
            **settings,
            "n_train": len(train),
            "classes_not_in_train": [classes[i] for i in range(n_classes) if n_train[i] == 0],
            "classes_not_in_test": [classes[i] for i in range(n_classes) if n_true[i] == 0],
        },
        truth=test.labels,
        predicted=predicted,
    )
