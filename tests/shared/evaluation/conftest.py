import numpy as np
import pytest

from shared.data.splits import assign_splits
from shared.evaluation.embeddings.embedding_set import EmbeddingSet


def make_set(n=240, n_classes=4, widths=(8, 8), noise=1.0, absent=0.2, seed=0, **changes):
    """Made-up embeddings: modalities share a latent vector a sample, the second one is sparse."""
    rng = np.random.default_rng(seed)
    labels = np.arange(n) % n_classes
    centres = 3 * rng.normal(size=(n_classes, max(widths)))
    latent = centres[labels] + rng.normal(size=(n, max(widths)))
    vectors, present = {}, {}
    for i, width in enumerate(widths):
        rows = latent[:, :width] + noise * rng.normal(size=(n, width))
        there = rng.random(n) >= (absent if i == 1 else 0)
        rows[~there] = np.nan
        vectors[f"m{i}"], present[f"m{i}"] = rows.astype(np.float32), there
    ids = np.array([f"star{i}" for i in range(n)])
    columns = {
        "ids": ids,
        "vectors": vectors,
        "present": present,
        "labels": labels.astype(np.int64),
        "classes": tuple(f"class{i}" for i in range(n_classes)),
        "splits": assign_splits(ids, labels),
        "groups": ids,
        "dataset": "made_up",
        "model": "nobody",
        "synthetic": True,
        "fingerprint": "0123",
    }
    return EmbeddingSet(**{**columns, **changes})


@pytest.fixture(scope="session")
def made_up():
    return make_set()


@pytest.fixture(name="make_set", scope="session")
def make_set_fixture():
    return make_set
