"""A citation graph with texts: TF-IDF alone and averaged over neighbours."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from benchmarks.real.sets import make_set
from benchmarks.real.texts import tf_idf
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

N_WORDS = 2000


def cane_cora(root: Path) -> EmbeddingSet:
    """Topic of 1663 papers (Tu et al. 2017), 36 of them unlabelled; the numbers of nodes in
    `graph.txt` are those of `nodes.txt`, and links count both ways."""
    folder = root / "graph/cane_cora"
    files = [folder / f"{name}.txt" for name in ("nodes", "data", "group", "graph")]
    nodes, texts, topics, links = (
        path.read_text(encoding="utf-8", errors="replace").split("\n") for path in files
    )
    n = sum(1 for node in nodes if node)
    row = {node: number for number, node in enumerate(nodes[:n])}
    pairs = np.array([[row[node] for node in line.split("\t")] for line in links if line])
    words = tf_idf(texts[:n], N_WORDS)
    return make_set(
        "cane_cora",
        files,
        nodes[:n],
        {"text": words, "two_hops": _averaged(words, pairs, hops=2)},
        labels=[topic.strip() for topic in topics[:n]],
        content=texts[:n],
    )


def _averaged(
    features: NDArray[np.float32], pairs: NDArray[np.int64], hops: int
) -> NDArray[np.float32]:
    """Each row and its neighbours averaged, `hops` times (Wu et al. 2019, arXiv:1902.07153, with
    the row-normalised adjacency)."""
    n = len(features)
    ones = np.ones(len(pairs), np.float32)
    adjacency = sparse.csr_array((ones, (pairs[:, 0], pairs[:, 1])), shape=(n, n))
    linked = ((adjacency + adjacency.T + sparse.eye_array(n)) > 0).astype(np.float32)
    average = sparse.diags_array(1 / linked.sum(axis=1)) @ linked
    for _ in range(hops):
        features = average @ features
    return np.asarray(features, np.float32)
