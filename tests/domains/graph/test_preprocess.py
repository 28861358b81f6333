"""Random-walk encodings in closed form, augmentation by given draws, what is refused."""

import numpy as np
import pytest
import torch

from domains.graph.preprocess import Subgraph, augment, random_walk_encoding
from shared.errors import ConfigError, DataError


def both_ways(pairs: list[tuple[int, int]]) -> np.ndarray:
    return np.array(pairs + [(b, a) for a, b in pairs])


@pytest.mark.parametrize("length", [3, 4, 7])
def test_walks_on_a_cycle(length: int) -> None:
    edges = both_ways([(i, (i + 1) % length) for i in range(length)])
    # eigenvalues of the walk are cos(2πj/n), and all nodes are alike
    values = np.cos(2 * np.pi * np.arange(length) / length)
    expected = [(values**k).mean() for k in range(1, 13)]
    found = random_walk_encoding(edges, length, 12)
    np.testing.assert_allclose(found, np.tile(expected, (length, 1)), atol=1e-6)


def test_walks_on_a_star() -> None:
    found = random_walk_encoding(both_ways([(0, i) for i in range(1, 6)]), 6, 6)
    np.testing.assert_allclose(found[0], [0, 1, 0, 1, 0, 1])
    np.testing.assert_allclose(found[1:], np.tile([0, 0.2, 0, 0.2, 0, 0.2], (5, 1)), rtol=1e-6)


def test_walks_on_a_path() -> None:
    found = random_walk_encoding(both_ways([(0, 1), (1, 2)]), 3, 4)
    np.testing.assert_allclose(found, [[0, 0.5, 0, 0.5], [0, 1, 0, 1], [0, 0.5, 0, 0.5]])


def test_walks_that_end_stay_and_repeat() -> None:
    # 0 ⇒ 1 twice, 1 → 0, 2 → 2, 3 → 0, 4 alone
    edges = np.array([[0, 1], [0, 1], [1, 0], [2, 2], [3, 0]])
    found = random_walk_encoding(edges, 5, 4)
    expected = [[0, 0.5, 0, 0.25]] * 2 + [[1] * 4] + [[0] * 4] * 2
    np.testing.assert_allclose(found, expected)


def test_walks_are_powers_of_the_step_matrix(make_raw) -> None:
    edges = np.unique(make_raw(30, 90)["edge_index"].T, axis=0)
    step = np.zeros((30, 30))
    for source, target in edges:
        step[source, target] = 1 / (edges[:, 0] == source).sum()
    powers = [np.linalg.matrix_power(step, k).diagonal() for k in range(1, 33)]
    found = random_walk_encoding(edges, 30, 32)
    np.testing.assert_allclose(found, np.stack(powers, axis=1), atol=1e-6)


def test_augment_by_given_draws() -> None:
    nodes, edges = np.ones((2, 3), np.float32), np.array([[0, 1], [1, 0], [1, 1]])
    kept, left = augment(
        nodes, edges, np.array([0.1, 0.3, 0.9]), np.array([0.2, 0.19, 1.0]), 0.3, 0.2
    )
    np.testing.assert_array_equal(kept, [[0, 1, 1]] * 2)
    np.testing.assert_array_equal(left, [[0, 1], [1, 1]])
    assert kept.dtype == np.float32


def test_crop_augments_in_training_only(make_raw, subgraph: Subgraph) -> None:
    prepared = subgraph(make_raw(20, 400))
    assert subgraph.crop(prepared, None) is prepared
    before = prepared["nodes"].copy()
    first, again = (subgraph.crop(prepared, np.random.default_rng(3)) for _ in range(2))
    for name, array in first.items():
        np.testing.assert_array_equal(array, again[name])
    np.testing.assert_array_equal(prepared["nodes"], before)
    assert 0 < len(first["edges"]) < 400
    assert len(first["edge_mask"]) == len(first["edges"])
    dropped = (first["nodes"] == 0).all(axis=0)
    np.testing.assert_array_equal(first["nodes"][:, ~dropped], before[:, ~dropped])
    np.testing.assert_array_equal(first["positional"], prepared["positional"])
    shares = [
        len(subgraph.crop(prepared, np.random.default_rng(seed))["edges"]) for seed in range(50)
    ]
    assert np.mean(shares) == pytest.approx(320, abs=8)


def test_collate_pads(make_raw, subgraph: Subgraph) -> None:
    lonely = {"x": np.ones((1, 6)), "edge_index": np.zeros((2, 0)), "root": 0}
    batch = subgraph.collate([subgraph(make_raw(5, 7)), subgraph(lonely)])
    assert {name: tuple(t.shape) for name, t in batch.items()} == {
        "nodes": (2, 5, 6),
        "mask": (2, 5),
        "edges": (2, 7, 2),
        "edge_mask": (2, 7),
        "positional": (2, 5, 4),
        "root": (2,),
    }
    assert batch["mask"].sum(1).tolist() == [5, 1]
    assert batch["edge_mask"].sum(1).tolist() == [7, 0]
    assert batch["edges"].dtype == batch["root"].dtype == torch.int64
    assert not batch["nodes"][1, 1:].any()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"x": np.ones((4, 5))}, r"shape \(4, 5\), not \(nodes, 6\)"),
        ({"x": np.ones((0, 6))}, "at least one node"),
        ({"x": [["a"] * 6]}, "no array"),
        ({"x": np.full((4, 6), np.nan)}, "features of 4 nodes"),
        ({"edge_index": np.zeros((3, 2), int)}, r"not \(2, edges\)"),
        ({"edge_index": np.array([[0], [4]])}, "names node 4.*0 to 3"),
        ({"edge_index": np.array([[0], [-1]])}, "names node -1"),
        ({"edge_index": np.array([[0.0], [1.0]])}, "not integers"),
        ({"root": 4}, "root names node 4"),
        ({"root": [1, 2]}, "one number"),
    ],
)
def test_refused(make_raw, subgraph: Subgraph, changed: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        subgraph(make_raw(4, 6) | changed)


def test_lacking(subgraph: Subgraph) -> None:
    with pytest.raises(DataError, match="without edge_index, root"):
        subgraph({"x": np.ones((1, 6))})
    with pytest.raises(DataError, match="ndarray without x"):
        subgraph(np.ones((1, 6)))


@pytest.mark.parametrize("settings", [{"in_channels": 0}, {"edge_drop": 1.5}])
def test_settings(subgraph: Subgraph, settings: dict) -> None:
    with pytest.raises(ConfigError, match=next(iter(settings))):
        Subgraph(subgraph.takes, **settings)
