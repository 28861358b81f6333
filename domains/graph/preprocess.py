"""Subgraphs as arrays: checks, random-walk encoding, random augmentation."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.sparse import csr_array

from shared.errors import ConfigError, DataError
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Array, Schema


def random_walk_encoding(edges: Array, num_nodes: int, walk_length: int) -> Array:
    """Probabilities that a random walk is back where it started after 1, 2, … steps
    (arXiv:2110.07875), as GraphCLIP's code computes them.

    A step goes along an out-edge with probability 1 / number of out-edges. An edge that stands
    twice counts twice in that number but is one way to go, so such rows do not sum to 1; from a
    node without out-edges there is no step.

    Args:
        edges: (edges, 2) integers, source and target.
        num_nodes: Number of nodes.
        walk_length: Number of steps.

    Returns:
        (num_nodes, walk_length) float32.
    """
    degree = np.bincount(edges[:, 0], minlength=num_nodes)
    source, target = np.unique(edges, axis=0).T
    weights = (1.0 / degree[source]).astype(np.float32)
    step = csr_array((weights, (source, target)), shape=(num_nodes, num_nodes))
    walk = np.eye(num_nodes, dtype=np.float32)
    encoding = np.empty((num_nodes, walk_length), dtype=np.float32)
    for column in encoding.T:
        walk = step @ walk
        column[:] = walk.diagonal()
    return encoding


def augment(
    nodes: Array,
    edges: Array,
    feature_draws: Array,
    edge_draws: Array,
    feature_drop: float,
    edge_drop: float,
) -> tuple[Array, Array]:
    """Features set to 0 in all nodes of a graph, and edges left out (arXiv:2006.04131).

    Args:
        nodes: (nodes, channels).
        edges: (edges, 2); the two directions of an edge are two edges.
        feature_draws: (channels,) uniform in [0, 1).
        edge_draws: (edges,) uniform in [0, 1).
        feature_drop: Probability of a feature to be dropped.
        edge_drop: Probability of an edge to be dropped.

    Returns:
        New nodes and edges.
    """
    return nodes * (feature_draws >= feature_drop), edges[edge_draws >= edge_drop]


class Subgraph(Preprocessor):
    """A subgraph around a centre node, with its random-walk encoding.

    Raw input is a mapping with `x` (nodes, in_channels), `edge_index` (2, edges) of sources and
    targets, and `root`, the centre node. Gives

    - `nodes` (nodes, in_channels) float32 and `mask` (nodes,) bool: True;
    - `edges` (edges, 2) int64 and `edge_mask` (edges,) bool: True;
    - `positional` (nodes, walk_length) float32, of the graph before augmentation;
    - `root` (1,) int64, in a batch (batch,).

    Args:
        schema: Without channels.
        in_channels: Width of the node features; 384 for those of all-MiniLM-L6-v2.
        walk_length: Steps of the random-walk encoding.
        feature_drop: Probability, in training, that a feature is 0 in the whole graph.
        edge_drop: Probability, in training, that an edge is left out.

    Raises:
        ConfigError: A size below 1, or a probability outside [0, 1].
    """

    def __init__(
        self,
        schema: Schema,
        in_channels: int = 384,
        walk_length: int = 32,
        feature_drop: float = 0.3,
        edge_drop: float = 0.2,
    ) -> None:
        sizes = {"in_channels": in_channels, "walk_length": walk_length}
        drops = {"feature_drop": feature_drop, "edge_drop": edge_drop}
        super().__init__(schema, (), {**sizes, **drops})
        for name, size in sizes.items():
            if size < 1:
                raise ConfigError(f"subgraph: {name}={size} has to be at least 1.")
        for name, probability in drops.items():
            if not 0 <= probability <= 1:
                raise ConfigError(f"subgraph: {name}={probability} is no probability.")
        self._sizes = sizes
        self.feature_drop, self.edge_drop = feature_drop, edge_drop

    @property
    def sizes(self) -> Mapping[str, int]:
        return self._sizes

    def __call__(self, raw: Any) -> Prepared:
        nodes, edges, root = self._read(raw)
        return {
            "nodes": nodes,
            "mask": np.ones(len(nodes), dtype=bool),
            "edges": edges,
            "edge_mask": np.ones(len(edges), dtype=bool),
            "positional": random_walk_encoding(edges, len(nodes), self._sizes["walk_length"]),
            "root": np.array(root),
        }

    def _read(self, raw: Any) -> tuple[Array, Array, int]:
        """Nodes, edges and root as they should be.

        Raises:
            DataError: They are not.
        """
        given = raw if isinstance(raw, Mapping) else {}
        lacking = [name for name in ("x", "edge_index", "root") if name not in given]
        if lacking:
            kind = type(raw).__name__
            raise DataError(f"graph: a {kind} without {', '.join(lacking)}; give a mapping.")
        try:
            nodes = np.asarray(raw["x"], dtype=np.float32)
            edges, root = np.asarray(raw["edge_index"]), np.asarray(raw["root"])
        except (TypeError, ValueError) as error:
            raise DataError(f"graph: x, edge_index or root is no array: {error}.") from error
        width = self._sizes["in_channels"]
        if nodes.ndim != 2 or len(nodes) == 0 or nodes.shape[1] != width:
            raise DataError(
                f"graph: x has shape {nodes.shape}, not (nodes, {width}) with at least one node. "
                "Width and in_channels of the preprocessor have to agree."
            )
        if bad := int((~np.isfinite(nodes)).any(axis=1).sum()):
            raise DataError(f"graph: the features of {bad} nodes hold NaN or infinite values.")
        if edges.ndim != 2 or len(edges) != 2:
            raise DataError(f"graph: edge_index has shape {edges.shape}, not (2, edges).")
        _check_ids(edges, len(nodes), "edge_index")
        if root.ndim != 0:
            raise DataError(f"graph: root has shape {root.shape}, not that of one number.")
        _check_ids(root, len(nodes), "root")
        return nodes, edges.T.astype(np.int64), int(root)

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        """The graph augmented (training), or as it is (rng None)."""
        if rng is None:
            return prepared
        nodes, edges = prepared["nodes"], prepared["edges"]
        features, pairs = rng.random(nodes.shape[1:]), rng.random(edges.shape[:1])
        nodes, edges = augment(nodes, edges, features, pairs, self.feature_drop, self.edge_drop)
        return {**prepared, "nodes": nodes, "edges": edges, "edge_mask": np.ones(len(edges), bool)}


def _check_ids(ids: Array, number: int, name: str) -> None:
    """Raise a DataError for what are no places of nodes."""
    if ids.size == 0:
        return
    if ids.dtype.kind not in "iu":
        raise DataError(f"graph: {name} holds {ids.dtype}, not integers.")
    if ids.min() < 0 or ids.max() >= number:
        raise DataError(
            f"graph: {name} names node {ids.min() if ids.min() < 0 else ids.max()}, and the nodes "
            f"are 0 to {number - 1}. Number the nodes of each subgraph from 0."
        )
