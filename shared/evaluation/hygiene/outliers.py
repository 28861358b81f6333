"""Test samples far from the training data or the centre of their class, and doubtful labels."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.neighbours.top_k import top_k
from shared.evaluation.protocols.nearest_centroid import class_centres
from shared.files import atomic_path

FAR_SHARE = 0.1
"""A sample is far in a modality when it is among this share of the largest distances. Ours: AstroM3
looks at the 20 and 50 farthest of some 2 000."""
NEIGHBOURS = 10
"""Train rows to which the isolation is measured; ours."""


@dataclass(frozen=True)
class Outliers:
    """Test rows, how far they are from the centre of their class, and how isolated.

    Attributes:
        rows: (n,) index into the set of embeddings. Labelled test rows, the farthest first (mean
            rank of the distance over the modalities a row has); where there are no labels to make
            centres from, all test rows, the most isolated first.
        distance: By modality, (n,) 1 − cosine to the centre of the row's own class, 0 … 2; NaN
            where the row lacks the modality or its class no train row. Empty without labels.
        predicted: By modality, (n,) class of the nearest centre; -1 where the row lacks it.
        candidate: (n,) whether the label may be wrong: in every modality the row has, it is among
            the farthest `FAR_SHARE` and another class is nearer. A row that has but one of
            several modalities is none.
        isolation: By modality, (n,) mean of 1 − cosine to the `NEIGHBOURS` nearest train rows,
            labelled or not; NaN where the row lacks the modality.
    """

    rows: NDArray[np.int64]
    distance: Mapping[str, Floats]
    predicted: Mapping[str, NDArray[np.int64]]
    candidate: NDArray[np.bool_]
    isolation: Mapping[str, Floats]

    def farthest(self, modality: str, k: int) -> NDArray[np.int64]:
        """Positions in `rows` of the k largest distances of a modality, the largest first."""
        order = np.argsort(-self.distance[modality], kind="stable")
        return order[: min(k, int(np.isfinite(self.distance[modality]).sum()))]


def find_outliers(embeddings: EmbeddingSet) -> Outliers | None:
    """Distances of test rows to the class centres of the train split, and to its nearest rows.

    Sources: misclassified and anomalous objects, AstroM3, arXiv:2411.08842; the distance to the
    k-th neighbour as the measure of an outlier, Ramaswamy, Rastogi & Shim 2000
    (doi:10.1145/342009.335437), and its sum over k neighbours, Angiulli & Pizzuti 2002
    (doi:10.1007/3-540-45681-3_2). A large distance may be a wrong label, a rare object or a poor
    measurement: it is a list to look through.

    Returns:
        None where no modality has rows in both train and test.
    """
    rows = embeddings.rows(SPLIT, target=LABEL)
    distance, predicted = _to_centres(embeddings, rows)
    if not distance:
        rows = embeddings.rows(SPLIT)
    isolation = _isolation(embeddings, rows)
    if not isolation:
        return None
    candidate = np.zeros(len(rows), dtype=np.bool_)
    if distance:
        candidate = _candidates(distance, predicted, embeddings.labels[rows])
    ranks = np.stack([_rank(d) for d in (distance or isolation).values()])
    measured = np.isfinite(ranks)
    mean = np.where(measured, ranks, 0).sum(axis=0) / np.maximum(measured.sum(axis=0), 1)
    order = np.argsort(-mean, kind="stable")
    return Outliers(
        rows=rows[order],
        distance={m: d[order] for m, d in distance.items()},
        predicted={m: p[order] for m, p in predicted.items()},
        candidate=candidate[order],
        isolation={m: d[order] for m, d in isolation.items()},
    )


def _to_centres(
    embeddings: EmbeddingSet, rows: NDArray[np.int64]
) -> tuple[dict[str, Floats], dict[str, NDArray[np.int64]]]:
    """By modality, distance to the own class and class of the nearest centre."""
    distance, predicted = {}, {}
    for modality in embeddings.modalities:
        train = embeddings.rows("train", modality, target=LABEL)
        present = embeddings.present[modality][rows]
        if len(train) == 0 or not present.any():
            continue
        vectors, there = embeddings.vectors[modality], rows[present]
        known, centres = class_centres(normalise(vectors[train]), embeddings.labels[train])
        cosine = normalise(vectors[there]) @ centres.T
        own = embeddings.labels[there][:, None] == known
        distance[modality] = np.full(len(rows), np.nan)
        distance[modality][present] = np.where(
            own.any(axis=1), 1 - (cosine * own).sum(axis=1), np.nan
        )
        predicted[modality] = np.full(len(rows), -1, dtype=np.int64)
        predicted[modality][present] = known[cosine.argmax(axis=1)]
    return distance, predicted


def _isolation(embeddings: EmbeddingSet, rows: NDArray[np.int64]) -> dict[str, Floats]:
    """By modality, mean distance to the nearest train rows."""
    isolation = {}
    for modality in embeddings.modalities:
        train = embeddings.rows("train", modality)
        present = embeddings.present[modality][rows]
        if len(train) == 0 or not present.any():
            continue
        vectors = embeddings.vectors[modality]
        _, cosine = top_k(normalise(vectors[rows[present]]), normalise(vectors[train]), NEIGHBOURS)
        isolation[modality] = np.full(len(rows), np.nan)
        isolation[modality][present] = 1 - cosine.mean(axis=1)
    return isolation


def _candidates(
    distance: Mapping[str, Floats],
    predicted: Mapping[str, NDArray[np.int64]],
    labels: NDArray[np.int64],
) -> NDArray[np.bool_]:
    """(n,) whether every modality of a row, of two at least where there are several, finds it far
    and nearer to another class."""
    ranks = {m: _rank(d) for m, d in distance.items()}
    measured = np.isfinite(np.stack([*ranks.values()]))
    suspect = np.stack(
        [(rank >= 1 - FAR_SHARE) & (predicted[m] != labels) for m, rank in ranks.items()]
    )
    enough = measured.sum(axis=0) >= min(2, len(distance))
    candidate: NDArray[np.bool_] = (suspect | ~measured).all(axis=0) & enough
    return candidate


def _rank(distance: Floats) -> Floats:
    """Share of the measured distances that are smaller, 0 … 1; NaN stays."""
    measured = np.isfinite(distance)
    rank = np.full(len(distance), np.nan)
    known = distance[measured]
    rank[measured] = np.searchsorted(np.sort(known), known) / max(len(known), 1)
    return rank


def save_outliers(path: Path, outliers: Outliers, embeddings: EmbeddingSet) -> None:
    """Write a CSV, one line a row: id, label, candidate, then for each modality the distance to the
    own class, the predicted class and the isolation; empty where there is none."""
    names = (*embeddings.classes, "")
    columns = {
        "id": embeddings.ids[outliers.rows].tolist(),
        "label": [names[i] for i in embeddings.labels[outliers.rows]],
        "candidate": outliers.candidate.astype(int).tolist(),
    }
    for modality, isolation in outliers.isolation.items():
        if modality in outliers.distance:
            columns[f"distance_{modality}"] = _cells(outliers.distance[modality])
            predicted = outliers.predicted[modality]
            columns[f"predicted_{modality}"] = [names[i] for i in predicted]
        columns[f"isolation_{modality}"] = _cells(isolation)
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _cells(values: Floats) -> list[str]:
    return ["" if np.isnan(value) else f"{value:.4f}" for value in values]
