"""Samples whose embedding is nearest to that of a query."""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from shared.errors import EvaluationError
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats, normalise
from shared.evaluation.neighbours.top_k import top_k


def similar(
    embeddings: EmbeddingSet, query_rows: ArrayLike, modality: str, k: int = 5
) -> tuple[NDArray[np.int64], Floats]:
    """The k samples of any split with the largest cosine to each query, itself left out. Rows that
    repeat an input stand for one sample, the first of them.

    Source: AstroM3, arXiv:2411.08842, similarity search.

    Args:
        embeddings: Of all splits.
        query_rows: (q,) rows of the set that have the modality.
        modality: Whose embeddings are compared.
        k: Neighbours of each query, at least 1.

    Returns:
        (q, k) rows, the most similar first, and (q, k) their cosines; fewer columns where fewer
        other samples have the modality.

    Raises:
        EvaluationError: A query lacks the modality, or k < 1.
    """
    queries = np.atleast_1d(np.asarray(query_rows, dtype=np.int64))
    present = embeddings.present[modality]
    if not present[queries].all():
        absent = embeddings.ids[queries[~present[queries]][0]]
        raise EvaluationError(f"{embeddings.dataset}: {str(absent)!r} has no {modality!r}.")
    own = np.arange(len(embeddings))
    first = embeddings.copies.get(modality, own)
    queries, rows = first[queries], np.flatnonzero(present & (first == own))
    unit = normalise(embeddings.vectors[modality][rows])
    nearest, cosine = top_k(unit[np.searchsorted(rows, queries)], unit, k, exclude=(queries, rows))
    others = min(k, len(rows) - 1)
    return rows[nearest[:, :others]], cosine[:, :others]
