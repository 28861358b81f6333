"""The same sample under two names: by content, by embedding, and nearly by embedding."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.content import UNKNOWN_CONTENT
from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import normalise
from shared.files import atomic_path

TRAIN = "train"
PAIRS_OF_SPLITS = ((SPLIT, TRAIN), (SPLIT, "val"), ("val", TRAIN))
SAME_CONTENT, SAME_EMBEDDING, NEAR_EMBEDDING = "content", "embedding", "near"

OF_NORM, OF_DEVIATION = 1e-5, 1e-3
"""One sample may differ from itself in another batch by so much: of the norm of its embedding, that
rounding goes with; and of a column's standard deviation, by which samples differ."""

NEAR_COSINE = 0.99
"""Of centred embeddings; necessary, and by far not sufficient."""
NEIGHBOURS = 5
MOST_DIMENSIONS = 10.0
"""Above, small differences of density would count as much as copies."""
CHANCE = 0.001
"""Probability that a set without duplicates has any pair that is called near."""
LARGEST_SEARCH = 10**12
"""Products of the search for near pairs, about a minute on two cores; it is left out above."""

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Duplicate:
    """Two rows that may be one sample.

    Attributes:
        first, second: Rows of the set.
        kind: `content` (equal bytes), `embedding` (equal up to rounding) or `near`.
        cosine: Of the embeddings, centred for `near`; the mean over the modalities.
    """

    first: int
    second: int
    kind: str
    cosine: float


def find_duplicates(embeddings: EmbeddingSet) -> list[Duplicate]:
    """Pairs that stand in two splits, one a row at most for each two splits: by content for all of
    them; by embedding, and near ones up to `LARGEST_SEARCH`, of the test and the training split."""
    found = []
    for first, second in PAIRS_OF_SPLITS:
        pairs = _same_content(embeddings, embeddings.rows(first), embeddings.rows(second))
        found += [Duplicate(int(a), int(b), SAME_CONTENT, 1.0) for a, b in pairs]
    seen = {pair.first for pair in found if embeddings.splits[pair.second] == TRAIN}
    twins = [Duplicate(int(a), int(b), SAME_EMBEDDING, 1.0) for a, b in find_twins(embeddings)]
    found += [twin for twin in twins if twin.first not in seen]
    seen |= {twin.first for twin in twins}
    test, train = embeddings.rows(SPLIT), embeddings.rows(TRAIN)
    if too_many_to_search(embeddings, len(test), len(train)):
        return found
    near = find_near(embeddings, test, train)
    return found + [pair for pair in near if pair.first not in seen]


def save_duplicates(path: Path, duplicates: Sequence[Duplicate], embeddings: EmbeddingSet) -> None:
    """Write CSV: `id`, `split`, `other_id`, `other_split`, `kind`, `cosine`."""
    ids, splits = embeddings.ids, embeddings.splits
    with atomic_path(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["id", "split", "other_id", "other_split", "kind", "cosine"])
        for pair in duplicates:
            a, b = pair.first, pair.second
            cosine = f"{pair.cosine:.6f}"
            writer.writerow([ids[a], splits[a], ids[b], splits[b], pair.kind, cosine])


def group_duplicates(embeddings: EmbeddingSet) -> NDArray[np.str_]:
    """Groups in which duplicates stand together, to split anew by them:

        groups = group_duplicates(embeddings)
        splits = assign_splits(groups, embeddings.labels)
        embeddings = dataclasses.replace(embeddings, groups=groups, splits=splits)

    Rows of one group, of equal content and of (nearly) equal embeddings are joined, and what is
    joined to them in turn. Every pair of rows is compared: minutes for 10^5 rows.

    Returns:
        (n,) the first name, in alphabetical order, among the groups that were joined.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    rows = np.arange(len(embeddings))
    names, group = np.unique(embeddings.groups, return_inverse=True)
    near = [(d.first, d.second) for d in find_near(embeddings, rows, rows)]
    pairs = np.concatenate(
        [
            _same_content(embeddings, rows, rows),
            _twins(embeddings, rows, rows),
            np.asarray(near, dtype=np.int64).reshape(-1, 2),
        ]
    )
    a, b = group[pairs].T
    graph = coo_array((np.ones(len(a)), (a, b)), shape=(len(names), len(names)))
    component = connected_components(graph, directed=False)[1]
    first = np.unique(component, return_index=True)[1]
    joined: NDArray[np.str_] = names[first][component][group]
    return joined


def find_twins(embeddings: EmbeddingSet) -> Rows:
    """Pairs of rows, (k, 2): one of the test split and one of the training split with the same
    modalities and the same embeddings up to rounding."""
    return _twins(embeddings, embeddings.rows(SPLIT), embeddings.rows(TRAIN))


def _twins(embeddings: EmbeddingSet, rows: Rows, others: Rows) -> Rows:
    """Twins lie beside each other along a random direction, so that each row is compared with its
    six neighbours there: O(n log n)."""
    vectors = np.concatenate(
        [_comparable(embeddings, modality) for modality in embeddings.modalities], axis=1
    )
    some = np.any([embeddings.present[m] for m in embeddings.modalities], axis=0)
    rows, others = rows[some[rows]], others[some[others]]
    # numbers alone may be equal by chance
    if not (len(rows) and len(others)) or all(v.shape[1] < 2 for v in embeddings.vectors.values()):
        return np.empty((0, 2), dtype=np.int64)
    position = vectors @ np.random.default_rng(0).standard_normal(vectors.shape[1])
    others = others[np.argsort(position[others])]
    behind = np.searchsorted(position[others], position[rows])
    found = np.full(len(rows), -1)
    limit = np.minimum(
        OF_NORM * np.linalg.norm(vectors[rows], axis=1)[:, None],
        OF_DEVIATION * vectors[others].std(axis=0),
    )
    for step in (-3, -2, -1, 0, 1, 2):
        neighbour = others[np.clip(behind + step, 0, len(others) - 1)]
        equal = (np.abs(vectors[rows] - vectors[neighbour]) <= limit).all(axis=1)
        found = np.where(equal & (found < 0) & (neighbour != rows), neighbour, found)
    return np.stack([rows, found], axis=1)[found >= 0]


def _comparable(embeddings: EmbeddingSet, modality: str) -> NDArray[np.float64]:
    """(n, d + 1) of mean norm one, and whether the modality is there."""
    present = embeddings.present[modality]
    vectors = np.where(present[:, None], embeddings.vectors[modality], 0.0).astype(np.float64)
    norms = np.linalg.norm(vectors[present], axis=1) if present.any() else np.ones(1)
    return np.column_stack([vectors / (norms.mean() or 1.0), present])


def _same_content(embeddings: EmbeddingSet, rows: Rows, others: Rows) -> Rows:
    """(k, 2) each of `rows` with the first of `others` that has its content, itself left out."""
    if embeddings.content is None:
        return np.empty((0, 2), dtype=np.int64)
    first: dict[str, int] = {}
    for row in others.tolist():
        first.setdefault(str(embeddings.content[row]), row)
    contents = [(row, str(embeddings.content[row])) for row in rows.tolist()]
    pairs = [
        (row, first[content])
        for row, content in contents
        if content != UNKNOWN_CONTENT and first.get(content, row) != row
    ]
    return np.asarray(pairs, dtype=np.int64).reshape(-1, 2)


def too_many_to_search(embeddings: EmbeddingSet, n_rows: int, n_others: int) -> bool:
    """Whether the search for near pairs would take longer than is worth it."""
    width = sum(vectors.shape[1] for vectors in embeddings.vectors.values())
    return bool(n_rows * n_others * width > LARGEST_SEARCH)


def find_near(embeddings: EmbeddingSet, rows: Rows, others: Rows) -> list[Duplicate]:
    """Rows with their nearest one among others of another group that have the same modalities,
    where that is nearer than neighbours are (see `near_pairs`)."""
    group = np.unique(embeddings.groups, return_inverse=True)[1]
    found = []
    for modalities in _presence_patterns(embeddings):
        pattern = np.all(
            [embeddings.present[m] == (m in modalities) for m in embeddings.modalities], axis=0
        )
        mine, theirs = rows[pattern[rows]], others[pattern[others]]
        if len(mine) and len(theirs) > NEIGHBOURS:
            parts = [
                _centred(embeddings.vectors[m][mine], embeddings.vectors[m][theirs])
                for m in modalities
            ]
            queries, candidates = (np.concatenate(p, axis=1) for p in zip(*parts, strict=True))
            pairs, cosines = near_pairs(queries, candidates, (group[mine], group[theirs]))
            for (a, b), cosine in zip(pairs.tolist(), cosines.tolist(), strict=True):
                found.append(Duplicate(int(mine[a]), int(theirs[b]), NEAR_EMBEDDING, cosine))
    return found


def _presence_patterns(embeddings: EmbeddingSet) -> list[tuple[str, ...]]:
    """Sets of modalities that samples may have, none left out."""
    names = embeddings.modalities
    return [s for size in range(1, len(names) + 1) for s in combinations(names, size)]


def _centred(
    queries: NDArray[np.float32], candidates: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Unit vectors about the mean of the candidates: models that give every sample a large part in
    common would otherwise find all of them alike."""
    mean = candidates.mean(axis=0, dtype=np.float64).astype(np.float32)
    query, candidate = normalise(queries - mean), normalise(candidates - mean)
    return query.astype(np.float32), candidate.astype(np.float32)


def near_pairs(
    queries: NDArray[np.float32],
    candidates: NDArray[np.float32],
    groups: tuple[Rows, Rows] | None = None,
) -> tuple[Rows, NDArray[np.float64]]:
    """Queries whose nearest candidate is nearer than neighbours come to lie by chance.

    Samples that are locally spread evenly over m dimensions have a nearest neighbour at less than
    ρ times the distance of the k-th with probability at most (k - 1) ρ^m. A pair is called near
    where that, times the number of queries, is at most `CHANCE`, and its cosine at least
    `NEAR_COSINE`. So sparse and dense regions are judged alike, and a model that has collapsed
    calls no pair near. m is the maximum-likelihood estimate of Levina & Bickel 2004 (Maximum
    likelihood estimation of intrinsic dimension, eq. 8) from the k distances of each query, of
    which the median is taken, over its expectation, and at most `MOST_DIMENSIONS`.

    Args:
        queries: (q, d), all of equal norm.
        candidates: (n, d), of the same norm; n > k = `NEIGHBOURS`.
        groups: Codes of the queries and candidates; equal ones are not compared.

    Returns:
        (p, 2) query and candidate, and (p,) their cosines.
    """
    from scipy.special import gammaincinv

    from shared.evaluation.neighbours.top_k import top_k

    k = NEIGHBOURS
    nearest, scores = top_k(queries, candidates, k, exclude=groups)
    whole = np.flatnonzero(nearest[:, -1] >= 0)
    squared_norm = float((queries[:1].astype(np.float64) ** 2).sum()) or 1.0
    cosine = scores[whole, 0] / squared_norm
    distance = np.stack(
        [_distances(queries[whole], candidates, nearest[whole, j]) for j in range(k)]
    )
    apart = distance[0] > 0
    if not apart.any():
        return np.empty((0, 2), dtype=np.int64), np.empty(0)
    ratio = distance[:-1, apart] / distance[-1, apart]
    # the mean of k - 1 exponentials over m is a gamma distribution of shape k - 1
    spread = float(np.median(-np.log(ratio).mean(axis=0)))
    dimension = float(gammaincinv(k - 1, 0.5)) / (k - 1) / max(spread, 1e-12)
    dimension = min(dimension, MOST_DIMENSIONS)
    log_chance = np.log((k - 1) * len(queries)) + dimension * np.log(ratio[0])
    near = np.flatnonzero(apart)[log_chance <= np.log(CHANCE)]
    near = near[cosine[near] >= NEAR_COSINE]
    return np.stack([whole[near], nearest[whole[near], 0]], axis=1), cosine[near]


def _distances(
    queries: NDArray[np.float32], candidates: NDArray[np.float32], chosen: Rows, block: int = 8192
) -> NDArray[np.float64]:
    """(q,) distance of each query to its chosen candidate; differences keep what cosines round."""
    parts = [
        np.linalg.norm(queries[i : i + block] - candidates[chosen[i : i + block]], axis=1)
        for i in range(0, len(queries), block)
    ]
    return np.concatenate([np.empty(0), *parts])
