"""Linear probe: logistic regression on frozen embeddings."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.classification import METRICS, classification_output, reason_not_to_classify
from shared.evaluation.output import ProtocolOutput, Rows, missing_output
from shared.evaluation.statistics import Floats

if TYPE_CHECKING:
    from sklearn.linear_model import LogisticRegression

NAME = "linear_probe"
VERSION = 1
L2_GRID = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5)
"""Strengths tried, strongest first; see `linear_probe` for the scale."""
MAX_ITERATIONS = 500
SINGLE_THREAD_SIZE = 10_000_000
"""Below this number of values the products of one iteration take less time than waking threads:
measured 1 s against 20 s for a grid on 1400 x 128 values, 10 classes, on two cores."""


def linear_probe(
    train: Rows,
    val: Rows,
    test: Rows,
    *,
    classes: Sequence[str],
    seed: int = 0,
    n_resamples: int = 1000,
    l2_grid: Sequence[float] = L2_GRID,
) -> ProtocolOutput:
    """Multinomial logistic regression, its L2 strength chosen on val, refitted on train + val.

    Columns are standardised by the train rows. The loss is the *mean* cross-entropy plus
    l2/2 ‖W‖², so that a strength means the same for any number of rows. The strength with the best
    balanced accuracy on val is taken, on a tie the strongest. Fitted by L-BFGS, which draws nothing
    at random: the seed is the bootstrap's.

    Args:
        train: Rows to fit on.
        val: Rows to choose the strength on.
        test: Rows to judge on.
        classes: Class names; labels index them.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap.
        l2_grid: Strengths to try.

    Returns:
        Accuracy, balanced accuracy and macro F1 on test, or the reason why there are none.
    """
    from sklearn.metrics import recall_score

    reason = reason_not_to_classify(train, test)
    if reason is None and len(val) == 0:
        reason = "no labelled rows in the val split, on which the L2 strength is chosen"
    if reason is not None:
        return missing_output(NAME, VERSION, METRICS, len(test), reason)

    mean, scale = standardisation(train.vectors)
    x_train, x_val, x_test = ((rows.vectors - mean) / scale for rows in (train, val, test))
    best_l2, best_score = 0.0, -1.0
    for l2 in sorted(l2_grid, reverse=True):
        guess = _fit(x_train, train.labels, l2).predict(x_val)
        # Mean recall over the classes of val: a class predicted but not there counts nowhere.
        present = np.unique(val.labels)
        score = recall_score(val.labels, guess, labels=present, average="macro", zero_division=0)
        if score > best_score:
            best_l2, best_score = l2, float(score)

    x_all = np.concatenate([x_train, x_val])
    model = _fit(x_all, np.concatenate([train.labels, val.labels]), best_l2)
    return classification_output(
        NAME,
        VERSION,
        train=train,
        test=test,
        predicted=model.predict(x_test).astype(np.int64),
        classes=classes,
        settings={
            "l2": best_l2,
            "val_balanced_accuracy": best_score,
            "n_val": len(val),
            "converged": bool(model.n_iter_.max() < MAX_ITERATIONS),
        },
        seed=seed,
        n_resamples=n_resamples,
    )


def standardisation(train: NDArray[np.float32] | Floats) -> tuple[Floats, Floats]:
    """(d,) mean and standard deviation of (n, d) rows; a constant column gets deviation 1."""
    vectors = train.astype(np.float64)
    mean, scale = vectors.mean(axis=0), vectors.std(axis=0)
    constant = scale <= 1e-9 * np.abs(vectors).max(axis=0, initial=0.0)
    return mean, np.where(constant, 1.0, scale)


def _fit(x: Floats, y: NDArray[np.int64], l2: float) -> "LogisticRegression":
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    # scikit-learn's objective is C times the summed loss plus ‖W‖²/2.
    model = LogisticRegression(C=1.0 / (l2 * len(y)), max_iter=MAX_ITERATIONS)
    threads = 1 if x.size < SINGLE_THREAD_SIZE else None
    with warnings.catch_warnings(), threadpool_limits(threads):
        warnings.simplefilter("ignore", ConvergenceWarning)  # told in the result's settings
        return model.fit(x, y)
