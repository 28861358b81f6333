"""Random subgraphs, through the preprocessor."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from domains.graph.preprocess import Subgraph
from shared.schema import Schema

GRAPH = Schema("graph", ("node", "feature"), dtype="float32")


@pytest.fixture
def make_raw() -> Callable[..., dict[str, Any]]:
    """(nodes, edges, seed) → a raw graph with six features."""

    def make(nodes: int, edges: int, seed: int = 0) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return {
            "x": rng.normal(size=(nodes, 6)).astype(np.float32),
            "edge_index": rng.integers(0, nodes, (2, edges)),
            "root": int(rng.integers(nodes)),
        }

    return make


@pytest.fixture
def subgraph() -> Subgraph:
    return Subgraph(GRAPH, in_channels=6, walk_length=4)
