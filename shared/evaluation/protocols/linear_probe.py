"""Linear probe: logistic regression on frozen embeddings, of classes or of tags."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_softmax, softmax

from shared.evaluation.baselines import (
    MAJORITY,
    PREVALENCE,
    classification_baseline,
    reason_not_to_classify,
    tag_baseline,
)
from shared.evaluation.calibration import fit_temperature
from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, TAGS, UNKNOWN, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, standardisation
from shared.evaluation.outcomes import ClassOutcome, TagOutcome
from shared.evaluation.protocol import (
    Output,
    Protocol,
    Rows,
    Settings,
    Task,
    each_and_all,
    labelled,
    missing,
    rows_of,
)
from shared.evaluation.solvers.logistic import (
    BinaryPath,
    LogisticPath,
    fit_binary,
    fit_logistic,
)
from shared.evaluation.solvers.quasi_newton import Array

CLASS_METRICS = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier", "ece")
TAG_METRICS = ("auroc", "mean_average_precision", "macro_f1", "brier")
L2_GRID = np.logspace(2, -6, 40).tolist()
"""Strengths tried, see `solvers.logistic.fit_logistic` for the scale."""
FINAL_TOL = 1e-8
"""Of the refit, which is float64: the models that are judged are the optimum."""
NO_VAL = "no labelled rows in the val split, on which the L2 strength is chosen"


@dataclass(frozen=True)
class ClassProbe:
    """What `linear_probe` predicts and what it chose.

    Attributes:
        probabilities: (n, C) of the test rows.
        calibrated: (n, C) at the temperature.
        temperature: Fitted on val.
        l2: The strength chosen.
        at_end: Whether it is the strongest or the weakest of those tried.
        val_score: Balanced accuracy on val.
        fits: Of all strengths on train, strongest first.
        final: The model that predicts.
    """

    probabilities: Floats
    calibrated: Floats
    temperature: float
    l2: float
    at_end: bool
    val_score: float
    fits: LogisticPath
    final: LogisticPath


@dataclass(frozen=True)
class TagProbe:
    """What `tag_probe` predicts and what it chose.

    Attributes:
        probabilities: (n, L) of the test rows.
        l2: (L,) strengths chosen.
        at_end: (L,) whether it is the strongest or the weakest of those tried.
        val_score: (L,) log loss on val (nats); NaN where val has no row of which the tag is known.
        final: The models that predict, of all strengths that were chosen for some tag.
    """

    probabilities: Floats
    l2: Floats
    at_end: NDArray[np.bool_]
    val_score: Floats
    final: BinaryPath


def linear_probe(
    train: tuple[Array, NDArray[np.int64]],
    val: tuple[Array, NDArray[np.int64]],
    test: Array,
    *,
    n_classes: int,
    l2_grid: Sequence[float] = L2_GRID,
    standardise: bool = True,
) -> ClassProbe:
    """Multinomial logistic regression, its L2 strength chosen on val, refitted on train + val.

    Columns are standardised by the train rows. The loss is the *mean* cross-entropy plus
    l2/2 ‖W‖², so that a strength means the same for any number of rows. The strength with the best
    balanced accuracy on val is taken, and of those that tie, as many do where val is small or easy,
    the one with the least log loss there: under a strong penalty the order of the classes may be
    right by a hair, which the refit would move. The temperature is fitted on val with the model of
    train alone, and used for the refitted one.

    Args:
        train: (n_train, d) embeddings and (n_train,) classes to fit on.
        val: (n_val, d) and (n_val,) to choose the strength on.
        test: (n, d) to predict.
        n_classes: C; one without train and val rows has probability 0.
        l2_grid: Strengths to try, > 0.
        standardise: False: all columns are divided by the same number, the root of their mean
            variance; better for bits and for shares of words.
    """
    x_train, x_val, x_test = _standardised(train[0], val[0], test, together=not standardise)
    grid = np.sort(np.asarray(l2_grid, dtype=np.float64))[::-1]
    fits = fit_logistic(x_train, train[1], n_classes, grid)
    scores = _balanced_accuracy(fits.predict(x_val), val[1], n_classes)
    best = _best(scores, fits, x_val, val[1])
    final = fit_logistic(
        np.concatenate([x_train, x_val]),
        np.concatenate([train[1], val[1]]),
        n_classes,
        grid[best : best + 1],
        start=fits.at(best),
        dtype=np.float64,
        tol=FINAL_TOL,
    )
    temperature = _temperature(fits.at(best).decision(x_val)[0], val[1])
    logits = final.decision(x_test)[0]
    return ClassProbe(
        probabilities=softmax(logits, axis=1),
        calibrated=softmax(logits / temperature, axis=1),
        temperature=temperature,
        l2=float(grid[best]),
        at_end=best in (0, len(grid) - 1),
        val_score=float(scores[best]),
        fits=fits,
        final=final,
    )


def tag_probe(
    train: tuple[Array, Floats],
    val: tuple[Array, Floats],
    test: Array,
    *,
    l2_grid: Sequence[float] = L2_GRID,
    standardise: bool = True,
) -> TagProbe:
    """A binary logistic regression a tag, its strength chosen on val, refitted on train + val.

    As `linear_probe`; a tag's strength is that of the least log loss on val, which speaks for the
    order of the rows and for the threshold at 0.5 alike. Where val has no row of which the tag is
    known, it is the best in the mean over the other tags, or the strongest if there is none.

    Args:
        train: (n_train, d) embeddings and (n_train, L) 0, 1 or NaN; of each tag some known.
        val: (n_val, d) and (n_val, L) to choose the strengths on.
        test: (n, d) to predict.
        l2_grid: Strengths to try, > 0.
        standardise: False: all columns are divided by the same number, the root of their mean
            variance; better for bits and for shares of words.
    """
    x_train, x_val, x_test = _standardised(train[0], val[0], test, together=not standardise)
    grid = np.sort(np.asarray(l2_grid, dtype=np.float64))[::-1]
    losses = _log_losses(fit_binary(x_train, train[1], grid), x_val, val[1])
    judged = np.isfinite(losses[0])
    best = np.full(len(judged), losses[:, judged].mean(axis=1).argmin() if judged.any() else 0)
    best[judged] = losses[:, judged].argmin(axis=0)
    chosen, place = np.unique(best, return_inverse=True)
    final = fit_binary(
        np.concatenate([x_train, x_val]),
        np.concatenate([train[1], val[1]]),
        grid[chosen],
        dtype=np.float64,
        tol=FINAL_TOL,
    )
    tags = np.arange(len(best))
    return TagProbe(
        probabilities=final.probabilities(x_test)[place, :, tags].T,
        l2=grid[best],
        at_end=(best == 0) | (best == len(grid) - 1),
        val_score=losses[best, tags],
        final=final,
    )


def _standardised(train: Array, *others: Array, together: bool) -> tuple[Array, ...]:
    """Rows in units of the train rows' deviation, in the precision they have."""
    found = standardisation(train, together=together)
    mean, scale = (part.astype(train.dtype) for part in found)
    return tuple((x - mean) / scale for x in (train, *others))


def _balanced_accuracy(
    predicted: NDArray[np.int64], truth: NDArray[np.int64], n_classes: int
) -> Floats:
    """(k,) mean recall over the classes that (n,) truth has, of (k, n) predictions."""
    n_true = np.bincount(truth, minlength=n_classes)
    present = n_true > 0
    recalls = [np.bincount(truth[row == truth], minlength=n_classes) for row in predicted]
    score: Floats = np.mean(np.stack(recalls)[:, present] / n_true[present], axis=1)
    return score


def _best(scores: Floats, fits: LogisticPath, x: Array, truth: NDArray[np.int64]) -> int:
    """Of the strengths with the best score that of the least log loss."""
    tied = np.flatnonzero(scores >= scores.max() - 1e-12)
    known = np.flatnonzero(np.isin(truth, np.flatnonzero(np.isfinite(fits.intercept[0]))))
    if len(tied) == 1 or not len(known):
        return int(tied[0])
    losses = []
    for index in tied:
        logits = log_softmax(fits.at(int(index)).decision(x[known])[0], axis=1)
        losses.append(-logits[np.arange(len(known)), truth[known]].mean())
    return int(tied[np.argmin(losses)])


def _log_losses(fits: BinaryPath, x: Array, truth: Floats) -> Floats:
    """(k, L) mean over the rows of which a tag is known; NaN where there is none."""
    losses = np.full((len(fits), truth.shape[1]), np.nan)
    known = np.isfinite(truth)
    some = known.any(axis=0)
    sign = np.where(known, 1 - 2 * truth, 0.0)
    for index in range(len(fits)):
        # log(1 + e^z) is the loss of a tag that is not there, log(1 + e^-z) of one that is
        loss = np.logaddexp(0.0, sign * fits.at(index).decision(x)[0]) * known
        losses[index, some] = loss.sum(axis=0)[some] / known.sum(axis=0)[some]
    return losses


def _temperature(logits: Floats, truth: NDArray[np.int64]) -> float:
    """Over the classes that the model knows; 1 where no row is of these."""
    known = np.flatnonzero(np.isfinite(logits).all(axis=0))
    rows = np.isin(truth, known)
    if not rows.any():
        return 1.0
    return fit_temperature(logits[np.ix_(rows, known)], np.searchsorted(known, truth[rows]))


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    labelled = bool((embeddings.labels != UNKNOWN).any())
    tags = (TAGS,) if embeddings.tags else ()
    return each_and_all(embeddings, *((LABEL,) if labelled or not tags else ()), *tags)


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    train, val, test = (
        rows_of(task, embeddings, split, concatenate=True) for split in ("train", "val", SPLIT)
    )
    run = _run_tags if task.target == TAGS else _run_classes
    return run(task, embeddings, (train, val, test), settings)


def _run_classes(
    task: Task, embeddings: EmbeddingSet, rows: tuple[Rows, Rows, Rows], settings: Settings
) -> Output:
    train, val, test = rows
    reason = reason_not_to_classify(train, test) or (None if len(val) else NO_VAL)
    if reason is not None:
        return missing(task, embeddings, CLASS_METRICS, reason)
    classes = embeddings.classes
    probe = linear_probe(
        (train.vectors, train.targets),
        (val.vectors, val.targets),
        test.vectors,
        n_classes=len(classes),
        l2_grid=settings["l2_grid"],
        standardise=settings["standardise"],
    )
    predicted = probe.probabilities.argmax(axis=1)
    trivial, chance = classification_baseline(train.targets, test.targets, classes)
    return Output(
        test.index,
        ClassOutcome(test.targets, predicted, classes, probe.probabilities, probe.calibrated),
        trivial=trivial,
        trivial_name=MAJORITY,
        chance=chance,
        settings={
            "l2": probe.l2,
            "l2_at_end_of_grid": probe.at_end,
            "val_balanced_accuracy": probe.val_score,
            "temperature": probe.temperature,
            "converged": bool(probe.fits.converged.all() and probe.final.converged.all()),
            "gradient_norm": float(probe.final.gradient_norm[0]),
            "n_train": len(train),
            "n_val": len(val),
        },
    )


def _run_tags(
    task: Task, embeddings: EmbeddingSet, rows: tuple[Rows, Rows, Rows], settings: Settings
) -> Output:
    train, val, test = rows
    names = tuple(embeddings.tags)
    if (reason := _reason_not_to_tag(train, val, test)) is not None:
        return missing(task, embeddings, TAG_METRICS, reason)
    kept = np.flatnonzero(np.isfinite(train.targets).any(axis=0))
    probe = tag_probe(
        (train.vectors, train.targets[:, kept]),
        (val.vectors, val.targets[:, kept]),
        test.vectors,
        l2_grid=settings["l2_grid"],
        standardise=settings["standardise"],
    )
    tags = tuple(names[tag] for tag in kept)
    truth = test.targets[:, kept]
    trivial, chance = tag_baseline(train.targets[:, kept], truth, tags)
    return Output(
        test.index,
        TagOutcome(truth, probe.probabilities, tags),
        trivial=trivial,
        trivial_name=PREVALENCE,
        chance=chance,
        settings={
            "l2": probe.l2.tolist(),
            "l2_at_end_of_grid": [tags[tag] for tag in np.flatnonzero(probe.at_end)],
            "converged": bool(probe.final.converged.all()),
            "tags_not_in_train": [name for name in names if name not in tags],
            "n_train": len(train),
            "n_val": len(val),
        },
    )


def _reason_not_to_tag(train: Rows, val: Rows, test: Rows) -> str | None:
    for name, rows in (("train", train), ("test", test)):
        if len(rows) == 0:
            return f"no rows with known tags in the {name} split"
    return None if len(val) else NO_VAL.replace("labelled rows", "rows with known tags")


PROTOCOL = Protocol(
    "linear_probe",
    2,
    "logistic regression of classes or tags",
    _tasks,
    _run,
    {"l2_grid": L2_GRID, "standardise": True},
    applies=lambda embeddings: labelled(embeddings) or bool(embeddings.tags),
)
