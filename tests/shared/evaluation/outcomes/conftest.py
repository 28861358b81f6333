import numpy as np
import pytest

from shared.evaluation.outcomes import (
    ClassOutcome,
    ClusterOutcome,
    MeanOutcome,
    MeanRecallOutcome,
    RankOutcome,
    SeededOutcome,
    TagOutcome,
    ValueOutcome,
)

CLASSES = ("a", "b", "c", "d")


def softmax(logits):
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def class_outcome(rng, n=40, n_classes=4):
    """Logits on a grid of halves: scores tie."""
    truth = rng.integers(n_classes, size=n)
    logits = np.round(2 * (rng.normal(size=(n, n_classes)) + np.eye(n_classes)[truth])) / 2
    p = softmax(logits)
    return ClassOutcome(truth, p.argmax(axis=1), CLASSES[:n_classes], p, softmax(logits / 2))


def tag_outcome(rng, n=40):
    truth = (rng.random((n, 3)) < 0.4).astype(float)
    truth[rng.random((n, 3)) < 0.1] = np.nan
    scores = np.round(rng.random((n, 3)) * 0.7 + 0.3 * np.nan_to_num(truth), 1)
    return TagOutcome(truth, scores, ("x", "y", "z"))


def value_outcome(rng, n=40):
    truth = np.round(rng.normal(size=n), 1) + 100
    return ValueOutcome(truth, np.round(truth + rng.normal(size=n), 1))


def rank_outcome(rng, n=40):
    return RankOutcome(rng.integers(1, 31, size=n), 30, rng.random(n), rng.integers(1, 4, size=n))


def cluster_outcome(rng, n=40):
    truth = rng.integers(3, size=n)
    clusters = np.where(rng.random(n) < 0.5, truth, rng.integers(5, size=n)) * 7 - 1
    return ClusterOutcome(truth, clusters, CLASSES)


def mean_outcome(rng, n=40):
    return MeanOutcome({"rsu": np.round(rng.random(n), 1), "ras": np.round(rng.random(n), 1)})


def mean_recall_outcome(rng, n=40):
    queries = rng.integers(1, 6, size=(n, 2))
    hits = np.sort(rng.integers(0, queries[:, :, None] + 1, size=(n, 2, 3)), axis=2)
    return MeanRecallOutcome(queries, hits, 50)


def seeded_outcome(rng, n=40):
    truth = rng.integers(4, size=n)
    return SeededOutcome(
        tuple(ClassOutcome(truth, rng.integers(4, size=n), CLASSES) for _ in range(3)), (0, 1, 7)
    )


MAKERS = {
    "classes": class_outcome,
    "tags": tag_outcome,
    "values": value_outcome,
    "ranks": rank_outcome,
    "clusters": cluster_outcome,
    "means": mean_outcome,
    "mean_recall": mean_recall_outcome,
    "seeded": seeded_outcome,
}


@pytest.fixture(scope="session", params=list(MAKERS))
def make(request):
    """A function of a generator and n that makes an outcome of one kind."""
    return MAKERS[request.param]
