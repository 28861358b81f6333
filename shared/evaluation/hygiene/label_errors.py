"""Labels that may be wrong: those that a probe, not trained on the sample, contradicts."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.splits import assign_folds
from shared.evaluation.embeddings.embedding_set import LABEL, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, standardisation
from shared.files import atomic_path

FOLDS = 5
MIN_ROWS = 50
"""Labelled rows below which every fold would be judged by a handful."""
L2_GRID = (10.0, 1.0, 1e-1, 1e-2, 1e-3, 1e-4)
"""Strengths of the penalty that are tried; see `solvers.logistic`."""


@dataclass(frozen=True)
class LabelErrors:
    """Rows whose label is contradicted, the most doubtful first.

    Attributes:
        rows: (n,) index into the set of embeddings.
        suggested: (n,) class that the probe is confident of.
        self_confidence: (n,) probability of the given label.
        margin: (n,) that minus the largest probability of another class, -1 … 1; the order.
        n_judged: Rows that were judged.
        accuracy: Of the probe on them, given the labels as they are; it limits what the list is
            worth.
        l2: Strength of the probe's penalty.
    """

    rows: NDArray[np.int64]
    suggested: NDArray[np.int64]
    self_confidence: Floats
    margin: Floats
    n_judged: int
    accuracy: float
    l2: float


def find_label_errors(embeddings: EmbeddingSet, seed: int = 0) -> LabelErrors | str:
    """Candidates by confident learning, over the labelled rows of all splits.

    Probabilities come from a linear probe in 5 folds: no row, and no row of its group, is judged by
    a probe that has seen it. Features are standardised; a modality that a row lacks is at its mean.
    The strength of the penalty is the one with the smallest log loss over all folds. A candidate
    may be an error, an ambiguous sample, or one that the embeddings do not show well: it is a list
    to look through.

    Returns:
        The candidates, or the reason why nothing was judged.
    """
    n_groups = _groups_by_class(embeddings)
    judged = _labelled_rows(embeddings)
    judged = judged[n_groups[embeddings.labels[judged]] >= FOLDS]
    known, coded = np.unique(embeddings.labels[judged], return_inverse=True)
    if len(known) < 2:
        return f"fewer than 2 classes have {FOLDS} labelled groups, one a fold"
    if len(judged) < MIN_ROWS:
        return f"{len(judged)} labelled rows; {MIN_ROWS} are needed"
    probabilities, l2 = _out_of_fold(embeddings, judged, coded, len(known), seed)
    candidates, suggested = confident_learning(probabilities, coded)
    own = probabilities[np.arange(len(judged)), coded]
    margin = own - _largest_other(probabilities, coded)
    order = candidates[np.argsort(margin[candidates], kind="stable")]
    return LabelErrors(
        rows=judged[order],
        suggested=known[suggested[order]],
        self_confidence=own[order],
        margin=margin[order],
        n_judged=len(judged),
        accuracy=float((probabilities.argmax(axis=1) == coded).mean()),
        l2=l2,
    )


def confident_learning(
    probabilities: Floats, given: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Off-diagonal entries of the confident joint.

    A row counts as of class j when its probability of j reaches t_j, the mean probability of j over
    the rows that are labelled j; of several such classes, as of the most probable, on a tie as of
    the given one. Source: Northcutt, Jiang & Chuang 2021, arXiv:1911.00068, eq. 1 and 2.

    Args:
        probabilities: (n, C) of each row from a model that has not seen it.
        given: (n,) labels, each of the C classes at least once.

    Returns:
        Indices of the rows that count as of another class than the given one, ascending; and (n,)
        the class each row counts as, the given one where it reaches none.
    """
    n, n_classes = probabilities.shape
    own = probabilities[np.arange(n), given]
    threshold = np.bincount(given, own, n_classes) / np.bincount(given, minlength=n_classes)
    # a class whose rows all have the same probability reaches its own mean but for rounding
    confident = probabilities >= threshold - 1e-12
    reached = np.where(confident, probabilities, -1.0)
    # the given label where none is reached, and on a tie
    to_beat = np.where(confident.any(axis=1), reached[np.arange(n), given], np.inf)
    suggested = np.where(reached.max(axis=1) > to_beat, reached.argmax(axis=1), given)
    return np.flatnonzero(suggested != given), suggested


def _labelled_rows(embeddings: EmbeddingSet) -> NDArray[np.int64]:
    """Labelled rows that have any modality, of all splits."""
    any_modality = np.any([embeddings.present[m] for m in embeddings.modalities], axis=0)
    return np.flatnonzero(embeddings.known(LABEL) & any_modality)


def _groups_by_class(embeddings: EmbeddingSet) -> NDArray[np.int64]:
    """(C,) groups among the labelled rows of each class."""
    rows = _labelled_rows(embeddings)
    pairs = np.unique(np.stack([embeddings.labels[rows], _codes(embeddings.groups[rows])]), axis=1)
    return np.bincount(pairs[0], minlength=len(embeddings.classes))


def _codes(names: NDArray[np.str_]) -> NDArray[np.int64]:
    codes: NDArray[np.int64] = np.unique(names, return_inverse=True)[1]
    return codes


def _out_of_fold(
    embeddings: EmbeddingSet,
    rows: NDArray[np.int64],
    targets: NDArray[np.int64],
    n_classes: int,
    seed: int,
) -> tuple[Floats, float]:
    """(n, C) probabilities of each row by the probe of the other folds, and its L2 strength."""
    from shared.evaluation.solvers.logistic import fit_logistic

    folds = assign_folds(embeddings.groups[rows], targets, FOLDS, seed)
    found = np.zeros((len(L2_GRID), len(rows), n_classes))
    for fold in range(FOLDS):
        judged = folds == fold
        if not judged.any():
            continue
        features = _features(embeddings, rows, ~judged)
        path = fit_logistic(features[~judged], targets[~judged], n_classes, L2_GRID)
        found[:, judged] = path.probabilities(features[judged])
    of_given = found[:, np.arange(len(rows)), targets]
    best = int(np.log(np.maximum(of_given, np.finfo(np.float64).tiny)).mean(axis=1).argmax())
    return found[best], L2_GRID[best]


def _features(
    embeddings: EmbeddingSet, rows: NDArray[np.int64], train: NDArray[np.bool_]
) -> Floats:
    """(n, Σ d) all modalities, standardised by the training rows; 0 where a row lacks one."""
    parts = []
    for modality in embeddings.modalities:
        there = embeddings.present[modality][rows]
        vectors = embeddings.vectors[modality][rows]
        if not (there & train).any():
            continue
        mean, scale = standardisation(vectors[there & train])
        parts.append(np.where(there[:, None], (vectors - mean) / scale, 0.0))
    return np.concatenate(parts, axis=1)


def _largest_other(probabilities: Floats, given: NDArray[np.int64]) -> Floats:
    others = probabilities.copy()
    others[np.arange(len(given)), given] = -np.inf
    largest: Floats = others.max(axis=1)
    return largest


def save_label_errors(path: Path, errors: LabelErrors, embeddings: EmbeddingSet) -> None:
    """Write a CSV, one line a candidate: id, split, given, suggested, self_confidence, margin."""
    names: Sequence[str] = embeddings.classes
    columns = (
        embeddings.ids[errors.rows].tolist(),
        embeddings.splits[errors.rows].tolist(),
        [names[i] for i in embeddings.labels[errors.rows].tolist()],
        [names[i] for i in errors.suggested.tolist()],
        [f"{p:.4f}" for p in errors.self_confidence],
        [f"{m:.4f}" for m in errors.margin],
    )
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(("id", "split", "given", "suggested", "self_confidence", "margin"))
        writer.writerows(zip(*columns, strict=True))
