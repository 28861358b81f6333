"""GPS: symmetries, padding, statistics of batch norm, gradients, small and empty batches."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from domains.graph.encoders.gps import GPS, Graphs, NeighbourMean
from domains.graph.preprocess import Subgraph
from shared.errors import ConfigError, DataError

Inputs = dict[str, Tensor]


@pytest.fixture
def encoder() -> GPS:
    torch.manual_seed(0)
    return GPS(6, 4, dim=5, hidden_dim=16, depth=2, num_heads=4, positional_dim=4)


@pytest.fixture
def make_batch(make_raw, subgraph: Subgraph) -> Callable[..., Inputs]:
    """Numbers of nodes and edges → a padded batch."""

    def make(*sizes: tuple[int, int]) -> Inputs:
        raws = [make_raw(*size, seed=seed) for seed, size in enumerate(sizes)]
        return subgraph.collate([subgraph(raw) for raw in raws])

    return make


def add_padding(inputs: Inputs) -> Inputs:
    """More room for nodes and edges, with numbers in it that must not count."""
    noise = {"nodes": 1e3, "positional": 1e3, "edges": 1, "mask": False, "edge_mask": False}
    room = {
        name: pad(inputs[name], (0, 0, 0, 3) if inputs[name].ndim == 3 else (0, 3), value=value)
        for name, value in noise.items()
    }
    return {**inputs, **room}


def test_order_of_nodes_and_edges_is_free(encoder: GPS, make_batch) -> None:
    inputs = make_batch((9, 20))
    nodes, edges = torch.randperm(9), torch.randperm(20)
    place = nodes.argsort()
    shuffled = {
        "nodes": inputs["nodes"][:, nodes],
        "positional": inputs["positional"][:, nodes],
        "mask": inputs["mask"],
        "edges": place[inputs["edges"][:, edges]],
        "edge_mask": inputs["edge_mask"],
        "root": place[inputs["root"]],
    }
    for module in (encoder.eval(), encoder.train()):
        one, other = module(inputs), module(shuffled)
        torch.testing.assert_close(one.pooled, other.pooled)
        torch.testing.assert_close(one.tokens[:, nodes], other.tokens)


def test_a_graph_is_encoded_alone(encoder: GPS, make_batch) -> None:
    encoder.eval()
    inputs = make_batch((7, 12), (15, 40), (1, 0), (3, 0))
    whole = encoder(inputs).pooled
    for row in range(4):
        alone = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
        torch.testing.assert_close(encoder(alone).pooled[0], whole[row])


def test_padding_counts_nowhere(encoder: GPS, make_batch) -> None:
    inputs = make_batch((7, 12), (4, 5), (1, 1))
    state = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    plain = encoder.train()(inputs)
    statistics = dict(encoder.state_dict())
    encoder.load_state_dict(state)
    padded = encoder(add_padding(inputs))
    torch.testing.assert_close(padded.pooled, plain.pooled)
    torch.testing.assert_close(padded.tokens[:, :7], plain.tokens)
    assert not padded.tokens[:, 7:].any()
    torch.testing.assert_close(dict(encoder.state_dict()), statistics)


def test_batch_norm_sees_the_nodes(encoder: GPS, make_batch) -> None:
    inputs = make_batch((7, 12), (4, 5), (1, 1))
    encoder.train()(inputs)
    real = inputs["positional"][inputs["mask"]]
    assert len(real) == 12
    norm = encoder.positional_norm
    torch.testing.assert_close(norm.running_mean, 0.1 * real.mean(0))
    torch.testing.assert_close(norm.running_var, 0.9 + 0.1 * real.var(0))


def test_neighbour_mean_by_hand() -> None:
    # 0 → 2 twice, 1 → 2, 2 → 0
    edges = torch.tensor([[[0, 2], [0, 2], [1, 2], [2, 0], [1, 0]]])
    counts = torch.tensor([[True, True, True, True, False]])
    graphs = Graphs.from_edges(torch.ones(1, 3, dtype=torch.bool), edges, counts, torch.float32)
    layer, states = NeighbourMean(4), torch.randn(3, 4)
    means = torch.stack([states[2], torch.zeros(4), (2 * states[0] + states[1]) / 3])
    expected = layer.neighbours(means) + layer.itself(states)
    torch.testing.assert_close(layer(states, graphs), expected)


def test_the_centre_counts(encoder: GPS, make_batch) -> None:
    inputs = make_batch((7, 12))
    other = {**inputs, "root": (inputs["root"] + 1) % 7}
    one, two = encoder.eval()(inputs), encoder(other)
    torch.testing.assert_close(one.tokens, two.tokens)
    assert (one.pooled - two.pooled).abs().max() > 1e-3


@pytest.mark.parametrize("training", [True, False])
def test_no_rows(encoder: GPS, make_batch, training: bool) -> None:
    encoder.train(training)
    state = {name: tensor.clone() for name, tensor in encoder.named_buffers()}
    output = encoder({name: tensor[:0] for name, tensor in make_batch((7, 12)).items()})
    assert output.pooled.shape == (0, 5)
    assert output.tokens.shape == (0, 7, 16)
    output.pooled.sum().backward()
    for parameter in encoder.parameters():
        assert parameter.grad is not None
        assert not parameter.grad.any()
    for name, buffer in encoder.named_buffers():
        if "num_batches" not in name:
            torch.testing.assert_close(buffer, state[name])


def test_one_node_in_all(encoder: GPS, make_batch) -> None:
    inputs = make_batch((1, 1))
    assert encoder.eval()(inputs).pooled.isfinite().all()
    with pytest.raises(DataError, match="larger batches"):
        encoder.train()(inputs)


def test_small_graphs_train(encoder: GPS, make_batch) -> None:
    output = encoder.train()(make_batch((1, 0), (1, 1), (2, 0)))
    output.pooled.square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("training", [True, False])
def test_gradients(make_batch, training: bool) -> None:
    torch.manual_seed(0)
    encoder = GPS(6, 4, dim=2, hidden_dim=6, depth=1, num_heads=2, positional_dim=2).double()
    encoder.train(training)
    inputs = make_batch((4, 6), (2, 1))
    inputs["positional"] = inputs["positional"].double()
    nodes = inputs["nodes"].double().requires_grad_()
    parameters = dict(encoder.named_parameters())
    chosen = {n: p for n, p in parameters.items() if "qkv.weight" in n or "neighbours.weight" in n}

    def pooled(nodes: Tensor, *values: Tensor) -> Tensor:
        named: dict[str, Any] = dict(zip(chosen, values, strict=True))
        output = torch.func.functional_call(encoder, named, ({**inputs, "nodes": nodes},))
        return output.pooled

    assert torch.autograd.gradcheck(pooled, (nodes, *chosen.values()), fast_mode=True)


def test_bfloat16(encoder: GPS, make_batch) -> None:
    inputs = make_batch((30, 200), (4, 5))
    exact = encoder.eval()(inputs).pooled
    with torch.autocast("cpu", torch.bfloat16):
        rough = encoder(inputs).pooled
        encoder.train()(inputs).pooled.float().square().sum().backward()
    assert (rough.float() - exact).abs().max() < 0.03 * exact.abs().max()
    assert all(p.grad.isfinite().all() for p in encoder.parameters())


@pytest.mark.parametrize("settings", [{"num_heads": 3}, {"positional_dim": 16}])
def test_widths(settings: dict) -> None:
    with pytest.raises(ConfigError, match="hidden_dim=16"):
        GPS(6, 4, hidden_dim=16, **settings)
