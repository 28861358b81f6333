"""Samples of the test split that the training split holds, too: they make every score too good."""

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embedding_set import SPLIT, EmbeddingSet

OF_NORM, OF_DEVIATION = 1e-5, 1e-3
"""One sample may differ from itself in another batch by so much: of the norm of its embedding, that
rounding goes with; and of a column's standard deviation, by which samples differ."""
TRAIN = "train"


def describe_leakage(embeddings: EmbeddingSet) -> list[str]:
    """A sentence for each way in which the test split is not new; none where it is."""
    lines = []
    divided = np.intersect1d(*(embeddings.groups[embeddings.splits == s] for s in (TRAIN, SPLIT)))
    if divided.size:
        lines.append(
            f"{divided.size} groups stand in both the {TRAIN} and the {SPLIT} split, such as "
            f"{str(divided[0])!r}: what was learned of them is tested on them"
        )
    twins = find_twins(embeddings)
    if len(twins):
        test, train = (str(embeddings.ids[row]) for row in twins[0])
        tested = len(embeddings.rows(SPLIT))
        lines.append(
            f"{len(twins)} of {tested} samples of the {SPLIT} split have the embedding of one of "
            f"the {TRAIN} split in every modality, such as {test!r} that of {train!r}: the same "
            "sample twice, or a model that does not tell them apart"
        )
    return lines


def find_twins(embeddings: EmbeddingSet) -> NDArray[np.int64]:
    """Pairs of rows, (k, 2): one of the test split and one of the training split with the same
    modalities and the same embeddings.

    Twins lie beside each other along a random direction, so that each row is compared with its
    four neighbours there: O(n log n).
    """
    vectors = np.concatenate(
        [_comparable(embeddings, modality) for modality in embeddings.modalities], axis=1
    )
    some = np.any([embeddings.present[m] for m in embeddings.modalities], axis=0)
    test, train = (rows[some[rows]] for rows in map(embeddings.rows, (SPLIT, TRAIN)))
    # numbers alone may be equal by chance
    if not (len(test) and len(train)) or all(v.shape[1] < 2 for v in embeddings.vectors.values()):
        return np.empty((0, 2), dtype=np.int64)
    position = vectors @ np.random.default_rng(0).standard_normal(vectors.shape[1])
    train = train[np.argsort(position[train])]
    behind = np.searchsorted(position[train], position[test])
    found = np.full(len(test), -1)
    limit = np.minimum(
        OF_NORM * np.linalg.norm(vectors[test], axis=1)[:, None],
        OF_DEVIATION * vectors[train].std(axis=0),
    )
    for step in (-2, -1, 0, 1):
        neighbour = train[np.clip(behind + step, 0, len(train) - 1)]
        equal = (np.abs(vectors[test] - vectors[neighbour]) <= limit).all(axis=1)
        found = np.where(equal & (found < 0), neighbour, found)
    return np.stack([test, found], axis=1)[found >= 0]


def _comparable(embeddings: EmbeddingSet, modality: str) -> NDArray[np.float64]:
    """(n, d + 1) of mean norm one, and whether the modality is there."""
    present = embeddings.present[modality]
    vectors = np.where(present[:, None], embeddings.vectors[modality], 0.0).astype(np.float64)
    norms = np.linalg.norm(vectors[present], axis=1) if present.any() else np.ones(1)
    return np.column_stack([vectors / (norms.mean() or 1.0), present])
