"""Ridge probe: linear regression of numbers on frozen embeddings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from shared.evaluation.baselines import MEAN, value_baseline
from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, standardisation
from shared.evaluation.outcomes import ValueOutcome
from shared.evaluation.protocol import (
    Output,
    Protocol,
    Rows,
    Settings,
    Task,
    each_and_all,
    missing,
    rows_of,
)
from shared.evaluation.solvers.quasi_newton import Array
from shared.evaluation.solvers.ridge import fit_ridge

METRICS = ("r2", "rmse", "mae", "spearman", "pearson")
L2_GRID = np.logspace(4, -6, 51).tolist()
"""Strengths tried, see `solvers.ridge.fit_ridge` for the scale: from that which leaves but the mean
(the largest eigenvalue of standardised columns is at most their number) to none to speak of."""
MIN_ROWS = 2


@dataclass(frozen=True)
class RidgeProbe:
    """What `ridge_probe` predicts and what it chose.

    Attributes:
        predicted: (n,) of the test rows.
        l2: The strength chosen.
        at_end: Whether it is the strongest or the weakest of those tried.
        val_r2: R² on val; None where the val rows all have the same value.
    """

    predicted: Floats
    l2: float
    at_end: bool
    val_r2: float | None


def ridge_probe(
    train: tuple[Array, Floats],
    val: tuple[Array, Floats],
    test: Array,
    *,
    l2_grid: Sequence[float] = L2_GRID,
    standardise: bool = True,
) -> RidgeProbe:
    """Ridge regression, its L2 strength chosen on val, refitted on train + val.

    Columns are standardised by the train rows. The strength with the highest R² on val is taken,
    which is the one with the least squared error; on a tie the strongest.

    Args:
        train: (n_train, d) embeddings and (n_train,) finite numbers to fit on.
        val: (n_val, d) and (n_val,) to choose the strength on.
        test: (n, d) to predict.
        l2_grid: Strengths to try, > 0.
        standardise: As of `linear_probe`.
    """
    mean, scale = standardisation(train[0], together=not standardise)
    x_train, x_val, x_test = ((x - mean) / scale for x in (train[0], val[0], test))
    grid = np.sort(np.asarray(l2_grid, dtype=np.float64))[::-1]
    guess = fit_ridge(x_train, train[1][:, None], grid).predict(x_val)[:, :, 0]
    error = np.mean((guess - val[1]) ** 2, axis=1)
    best = int(error.argmin())
    x_all, y_all = np.concatenate([x_train, x_val]), np.concatenate([train[1], val[1]])
    model = fit_ridge(x_all, y_all[:, None], grid[best : best + 1])
    spread = float(np.var(val[1]))
    return RidgeProbe(
        predicted=model.predict(x_test)[0, :, 0],
        l2=float(grid[best]),
        at_end=best in (0, len(grid) - 1),
        val_r2=1 - float(error[best]) / spread if spread > 0 else None,
    )


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    return each_and_all(embeddings, *(embeddings.targets or ("",)))


def _reason(task: Task, train: Rows, val: Rows, test: Rows) -> str | None:
    for name, rows in (("train", train), ("val", val), ("test", test)):
        if len(rows) == 0:
            return f"no rows with a known {task.target} in the {name} split"
    if len(train) < MIN_ROWS:
        return f"fewer than {MIN_ROWS} rows with a known {task.target} in the train split"
    return None


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    if not task.target:
        return missing(task, embeddings, METRICS, "no numeric targets")
    train, val, test = (
        rows_of(task, embeddings, split, concatenate=True) for split in ("train", "val", SPLIT)
    )
    if (reason := _reason(task, train, val, test)) is not None:
        return missing(task, embeddings, METRICS, reason)
    probe = ridge_probe(
        (train.vectors, train.targets),
        (val.vectors, val.targets),
        test.vectors,
        l2_grid=settings["l2_grid"],
        standardise=settings["standardise"],
    )
    trivial, chance = value_baseline(train.targets, test.targets)
    return Output(
        test.index,
        ValueOutcome(test.targets, probe.predicted),
        trivial=trivial,
        trivial_name=MEAN,
        chance=chance,
        settings={
            "l2": probe.l2,
            "l2_at_end_of_grid": probe.at_end,
            "val_r2": probe.val_r2,
            "n_train": len(train),
            "n_val": len(val),
        },
    )


PROTOCOL = Protocol(
    "ridge_probe",
    1,
    "ridge regression of numbers",
    _tasks,
    _run,
    {"l2_grid": L2_GRID, "standardise": True},
    applies=lambda embeddings: bool(embeddings.targets),
)
