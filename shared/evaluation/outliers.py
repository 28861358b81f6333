"""Test samples far from the centre of their class, and those whose label may be wrong."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.nearest_centroid import class_centres, unit_mean
from shared.evaluation.output import Rows
from shared.evaluation.statistics import Floats
from shared.files import atomic_path

FAR_SHARE = 0.1
"""A sample is far in a modality when it is among this share of the largest distances. Ours: AstroM3
looks at the 20 and 50 farthest of some 2 000."""


@dataclass(frozen=True)
class Outliers:
    """Labelled test rows, and how far they are from the centre of their class.

    Attributes:
        rows: (n,) index into the set of embeddings, the farthest first (mean rank of the distance
            over the modalities a row has).
        distance: By modality, (n,) 1 − cosine to the centre of the row's own class, 0 … 2; NaN
            where the row lacks the modality or its class no train row.
        predicted: By modality, (n,) class of the nearest centre; -1 where the row lacks it.
        candidate: (n,) whether the label may be wrong: in every modality the row has, it is among
            the farthest `FAR_SHARE` and another class is nearer. A row that has but one of
            several modalities is none.
    """

    rows: NDArray[np.int64]
    distance: Mapping[str, Floats]
    predicted: Mapping[str, NDArray[np.int64]]
    candidate: NDArray[np.bool_]

    def farthest(self, modality: str, k: int) -> NDArray[np.int64]:
        """Positions in `rows` of the k largest distances of a modality, the largest first."""
        order = np.argsort(-self.distance[modality], kind="stable")
        return order[: min(k, int(np.isfinite(self.distance[modality]).sum()))]


def find_outliers(embeddings: EmbeddingSet) -> Outliers | None:
    """Distances of the labelled test rows to the centres made from the labelled train rows.

    Source: AstroM3, arXiv:2411.08842, misclassified and anomalous objects. A large distance may be
    a wrong label, a rare object or a poor measurement: it is a list to look through.

    Returns:
        None where no modality has labelled rows in both train and test.
    """
    rows = embeddings.rows(SPLIT, labelled=True)
    distance, predicted = {}, {}
    for modality in embeddings.modalities:
        train = embeddings.rows("train", modality, labelled=True)
        present = embeddings.present[modality][rows]
        if len(train) == 0 or not present.any():
            continue
        unit = unit_mean([embeddings.vectors[modality][train]])
        known, centres = class_centres(
            Rows(unit, embeddings.labels[train], embeddings.groups[train])
        )
        there = rows[present]
        cosine = unit_mean([embeddings.vectors[modality][there]]) @ centres.T
        own = embeddings.labels[there][:, None] == known
        distance[modality] = np.full(len(rows), np.nan)
        distance[modality][present] = np.where(
            own.any(axis=1), 1 - (cosine * own).sum(axis=1), np.nan
        )
        predicted[modality] = np.full(len(rows), -1, dtype=np.int64)
        predicted[modality][present] = known[cosine.argmax(axis=1)]
    if not distance:
        return None
    return _sorted(rows, distance, predicted, embeddings.labels)


def _sorted(
    rows: NDArray[np.int64],
    distance: dict[str, Floats],
    predicted: dict[str, NDArray[np.int64]],
    labels: NDArray[np.int64],
) -> Outliers:
    ranks = np.stack([_rank(d) for d in distance.values()])
    measured = np.isfinite(ranks)
    suspect = np.stack(
        [
            (rank >= 1 - FAR_SHARE) & (predicted[m] != labels[rows])
            for m, rank in zip(distance, ranks, strict=True)
        ]
    )
    enough = measured.sum(axis=0) >= min(2, len(distance))
    candidate = (suspect | ~measured).all(axis=0) & enough
    mean = np.where(measured, ranks, 0).sum(axis=0) / np.maximum(measured.sum(axis=0), 1)
    order = np.argsort(-mean, kind="stable")
    return Outliers(
        rows=rows[order],
        distance={m: d[order] for m, d in distance.items()},
        predicted={m: p[order] for m, p in predicted.items()},
        candidate=candidate[order],
    )


def _rank(distance: Floats) -> Floats:
    """Share of the measured distances that are smaller, 0 … 1; NaN stays."""
    measured = np.isfinite(distance)
    rank = np.full(len(distance), np.nan)
    known = distance[measured]
    rank[measured] = np.searchsorted(np.sort(known), known) / max(len(known), 1)
    return rank


def save_outliers(path: Path, outliers: Outliers, embeddings: EmbeddingSet) -> None:
    """Write a CSV, one line a labelled test row: id, label, candidate, then for each modality the
    distance and the predicted class; empty where there is none."""
    names = (*embeddings.classes, "")
    columns = [
        embeddings.ids[outliers.rows].tolist(),
        [names[i] for i in embeddings.labels[outliers.rows]],
        outliers.candidate.astype(int).tolist(),
    ]
    header = ["id", "label", "candidate"]
    for modality, distance in outliers.distance.items():
        header += [f"distance_{modality}", f"predicted_{modality}"]
        columns.append(["" if np.isnan(d) else f"{d:.4f}" for d in distance])
        columns.append([names[i] for i in outliers.predicted[modality]])
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(zip(*columns, strict=True))
