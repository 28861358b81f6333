"""Votes of the nearest labelled neighbours: nothing fitted, every train label used."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError
from shared.evaluation.baselines import (
    MAJORITY,
    MEAN,
    PREVALENCE,
    classification_baseline,
    reason_not_to_classify,
    tag_baseline,
    value_baseline,
)
from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, TAGS, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.neighbours.top_k import top_k
from shared.evaluation.outcomes import ClassOutcome, TagOutcome, ValueOutcome
from shared.evaluation.protocol import (
    Output,
    Protocol,
    Rows,
    Settings,
    Task,
    class_tasks,
    each_and_all,
    labelled,
    missing,
    rows_of,
    widths_differ,
)
from shared.evaluation.protocols.nearest_centroid import METRICS as LABEL_METRICS
from shared.evaluation.protocols.nearest_centroid import run_classifier

CLASS_METRICS = (*LABEL_METRICS, "auroc", "log_loss", "brier", "ece")
TAG_METRICS = ("auroc", "mean_average_precision", "macro_f1", "brier")
VALUE_METRICS = ("r2", "rmse", "mae", "spearman", "pearson")
WEIGHTS = ("softmax", "uniform")


@dataclass(frozen=True)
class Neighbours:
    """The nearest train rows of n test rows.

    Attributes:
        rows: (n, k) train rows, the nearest first.
        weights: (n, k) of their votes; each row sums to 1.
    """

    rows: NDArray[np.int64]
    weights: Floats

    def shares(self, labels: NDArray[np.int64], n_classes: int) -> Floats:
        """(n, C) share of the votes for each class, of (n_train,) class indices."""
        shares = np.zeros((len(self.rows), n_classes))
        np.add.at(shares, (np.arange(len(shares))[:, None], labels[self.rows]), self.weights)
        return shares

    def mean(self, values: Floats) -> Floats:
        """(n,) weighted mean of (n_train,) numbers; NaN are left out, and their mean over the train
        rows stands where no neighbour has one."""
        of_neighbours = values[self.rows]
        known = np.isfinite(of_neighbours)
        weight = np.where(known, self.weights, 0.0)
        total = weight.sum(axis=1)
        sums = (weight * np.where(known, of_neighbours, 0.0)).sum(axis=1)
        there = values[np.isfinite(values)]
        fallback = np.full(len(total), there.mean() if len(there) else np.nan)
        mean: Floats = np.divide(sums, total, out=fallback, where=total > 0)
        return mean


def nearest_neighbours(
    train: Floats,
    test: Floats,
    k: int = 20,
    *,
    temperature: float = 0.07,
    weights: str = "softmax",
) -> Neighbours:
    """The k train rows with the largest inner product, and how much each counts.

    `softmax`: exp(cosine / T), T = 0.07, as in Wu et al. 2018 (arXiv:1805.01978, section 3.4), with
    the k = 20 of DINO (Caron et al. 2021, arXiv:2104.14294, section 3.2). `uniform`: each the same.
    Ties go to the smaller row.

    Args:
        train: (n_train, d), unit rows for cosines.
        test: (n, d).
        k: Neighbours; more than n_train counts as n_train.
        temperature: T > 0.
        weights: One of `WEIGHTS`.

    Raises:
        ConfigError: A temperature that is not positive, or unknown weights.
        EvaluationError: k < 1, or no train rows.
    """
    if weights not in WEIGHTS:
        raise ConfigError(f"knn: weights={weights!r}; write one of {', '.join(WEIGHTS)}.")
    if not temperature > 0:
        raise ConfigError(f"knn: temperature={temperature}; it must be above 0.")
    rows, scores = top_k(test, train, k)
    if weights == "uniform":
        return Neighbours(rows, np.full(rows.shape, 1.0 / rows.shape[1]))
    votes = np.exp((scores - scores.max(axis=1, keepdims=True)) / temperature)
    return Neighbours(rows, votes / votes.sum(axis=1, keepdims=True))


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    targets = [*([TAGS] if embeddings.tags else []), *embeddings.targets]
    if embeddings.known(LABEL).any() or not targets:
        targets = [LABEL, *targets]
    return each_and_all(embeddings, *targets)


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    judge, metrics = {LABEL: (_classes, CLASS_METRICS), TAGS: (_tags, TAG_METRICS)}.get(
        task.target, (_values, VALUE_METRICS)
    )
    if (reason := widths_differ(task, embeddings)) is not None:
        return missing(task, embeddings, metrics, reason)
    train, test = (rows_of(task, embeddings, split) for split in ("train", SPLIT))
    if (reason := _reason(task, train, test)) is not None:
        return missing(task, embeddings, metrics, reason)
    neighbours = nearest_neighbours(
        normalise(train.vectors),
        normalise(test.vectors),
        settings["k"],
        temperature=settings["temperature"],
        weights=settings["weights"],
    )
    return judge(neighbours, train, test, embeddings)


def _reason(task: Task, train: Rows, test: Rows) -> str | None:
    if task.target == LABEL:
        return reason_not_to_classify(train, test)
    for name, rows in (("train", train), ("test", test)):
        if len(rows) == 0:
            return f"no rows with {task.target} in the {name} split"
    return None


def _told(neighbours: Neighbours, train: Rows) -> dict[str, int]:
    return {"n_train": len(train), "k": neighbours.rows.shape[1]}


def _classes(neighbours: Neighbours, train: Rows, test: Rows, embeddings: EmbeddingSet) -> Output:
    shares = neighbours.shares(train.targets, len(embeddings.classes))
    trivial, chance = classification_baseline(train.targets, test.targets, embeddings.classes)
    return Output(
        test.index,
        ClassOutcome(test.targets, shares.argmax(axis=1), embeddings.classes, shares),
        trivial=trivial,
        trivial_name=MAJORITY,
        chance=chance,
        settings=_told(neighbours, train),
    )


def _tags(neighbours: Neighbours, train: Rows, test: Rows, embeddings: EmbeddingSet) -> Output:
    names = tuple(embeddings.tags)
    scores = np.stack([neighbours.mean(train.targets[:, i]) for i in range(len(names))], axis=1)
    trivial, chance = tag_baseline(train.targets, test.targets, names)
    return Output(
        test.index,
        TagOutcome(test.targets, np.nan_to_num(scores, nan=0.5), names),
        trivial=trivial,
        trivial_name=PREVALENCE,
        chance=chance,
        settings=_told(neighbours, train),
    )


def _values(neighbours: Neighbours, train: Rows, test: Rows, embeddings: EmbeddingSet) -> Output:
    trivial, chance = value_baseline(train.targets, test.targets)
    return Output(
        test.index,
        ValueOutcome(test.targets, neighbours.mean(train.targets)),
        trivial=trivial,
        trivial_name=MEAN,
        chance=chance,
        settings=_told(neighbours, train),
    )


def nearest_neighbour(
    train: NDArray[Any], labels: NDArray[np.int64], test: NDArray[Any]
) -> NDArray[np.int64]:
    """(n,) labels of the train rows with the largest inner product, on a tie of the first. Source:
    AstroM3, arXiv:2411.08842, nearest-neighbour evaluation.

    Args:
        train: (n_train, d) unit vectors, or the mean of those of several modalities.
        labels: (n_train,) class indices.
        test: (n, d) of the same kind.
    """
    nearest: NDArray[np.int64] = labels[top_k(test, train, 1)[0][:, 0]]
    return nearest


def _run_nearest(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    return run_classifier(task, embeddings, nearest_neighbour)


PROTOCOL = Protocol(
    "knn",
    1,
    "votes of the nearest train rows, weighted by similarity",
    _tasks,
    _run,
    {"k": 20, "temperature": 0.07, "weights": "softmax"},
    applies=lambda e: labelled(e) or bool(e.tags or e.targets),
)
NEAREST_NEIGHBOUR = Protocol(
    "nearest_neighbour",
    1,
    "label of the nearest train row",
    class_tasks,
    _run_nearest,
    applies=labelled,
)
