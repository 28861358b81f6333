"""Rows that repeat an input, as an image does that stands once a caption."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import SAMPLE
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

OF_NORM = 1e-5
"""Of the norm of an embedding: by so much an input may differ from itself in another batch, where
sums are rounded in another order."""


def with_copies(embeddings: EmbeddingSet) -> EmbeddingSet:
    """The same set with `copies`: what protocols of one modality count once."""
    found = {m: copies_of(embeddings, m) for m in embeddings.modalities}
    own = np.arange(len(embeddings))
    return replace(embeddings, copies={m: c for m, c in found.items() if (c != own).any()})


def copies_of(embeddings: EmbeddingSet, modality: str) -> NDArray[np.int64]:
    """(n,) first row of the same sample (where it is not said: group) and split with the same
    vector up to rounding; a row that lacks the modality or repeats none is its own.

    Equal vectors lie beside each other along a random direction, so that each row is held against
    the one before it there: O(n log n).
    """
    first = np.arange(len(embeddings))
    unit = np.stack(
        [embeddings.annotations.get(SAMPLE, embeddings.groups), embeddings.splits], axis=1
    )
    _, group, size = np.unique(unit, axis=0, return_inverse=True, return_counts=True)
    rows = np.flatnonzero(embeddings.present[modality] & (size[group] > 1))
    if len(rows) < 2:
        return first
    vectors = embeddings.vectors[modality][rows].astype(np.float64)
    direction = np.random.default_rng(0).standard_normal(vectors.shape[1])
    order = np.lexsort((vectors @ direction, group[rows]))
    rows, vectors = rows[order], vectors[order]
    distance = np.linalg.norm(np.diff(vectors, axis=0), axis=1)
    equal = distance <= OF_NORM * np.linalg.norm(vectors[1:], axis=1)
    equal &= group[rows[1:]] == group[rows[:-1]]
    run = np.concatenate([[0], np.cumsum(~equal)])
    first[rows] = np.minimum.reduceat(rows, np.flatnonzero(np.diff(run, prepend=-1)))[run]
    return first
