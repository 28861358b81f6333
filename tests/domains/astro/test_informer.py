"""The Informer: its attention against the definition, its draws, its padding."""

import math

import pytest
import torch
from torch import Tensor

from domains.astro.encoders.informer import Informer, ProbSparseAttention, sinusoids
from shared.errors import ConfigError

EVERY_QUERY = 20
"""A factor with which all queries attend, so that nothing depends on the draw."""


def make(**settings: object) -> Informer:
    torch.manual_seed(0)
    small = {"input_length": 9, "in_channels": 3, "dim": 8, "depth": 2, "num_heads": 2}
    return Informer(**{**small, "ffn_dim": 12, **settings}).eval()  # type: ignore[arg-type]


def curves(number: int = 4, length: int = 9, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(number, length, 3, generator=generator)
    return {"values": values, "mask": torch.ones(number, length, dtype=torch.bool)}


@torch.no_grad()
def reference_attention(module: ProbSparseAttention, x: Tensor, index_sample: Tensor) -> Tensor:
    """The definition, query by query."""
    batch, length, dim = x.shape
    width = dim // module.num_heads
    query, key, value = (layer(x) for layer in (module.query, module.key, module.value))
    flat = []
    for row in range(batch):
        for head in range(module.num_heads):
            part = slice(head * width, (head + 1) * width)
            q, k, v = query[row, :, part], key[row, :, part], value[row, :, part]
            unevenness = []
            for position in range(length):
                scores = [float(q[position] @ k[other]) for other in index_sample[position]]
                unevenness.append(max(scores) - sum(scores) / length)
            order = sorted(range(length), key=lambda p: -unevenness[p])
            for position in range(length):
                context = v.mean(0)
                if position in order[: index_sample.shape[1]]:
                    context = torch.softmax(k @ q[position] / math.sqrt(width), 0) @ v
                flat.append(context)
    # heads stand before positions, and are read as if they did not
    return module.out(torch.stack(flat).reshape(batch, length, dim))


@pytest.mark.parametrize("number", [1, 3, 7])
def test_attention_is_its_definition(number: int) -> None:
    torch.manual_seed(number)
    module, x = ProbSparseAttention(6, 2), torch.randn(3, 7, 6)
    samples = torch.randint(7, (7, number))
    expected = reference_attention(module, x, samples)
    torch.testing.assert_close(module(x, samples).detach(), expected)


def test_draw_does_not_matter_where_every_query_attends() -> None:
    one, other = make(factor=EVERY_QUERY), make(factor=EVERY_QUERY, eval_seed=7)
    torch.testing.assert_close(one(curves()).tokens, other(curves()).tokens)


def test_draw_matters_elsewhere() -> None:
    assert not torch.allclose(make()(curves()).tokens, make(eval_seed=7)(curves()).tokens)


def test_evaluation_is_reproducible_and_draws_nothing() -> None:
    encoder, state = make(), torch.get_rng_state()
    first = encoder(curves()).pooled
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert torch.equal(encoder(curves()).pooled, first)


def test_training_draws_layer_by_layer_from_the_global_generator() -> None:
    encoder = make().train()
    depth, length, number = encoder.sample_shape
    torch.manual_seed(3)
    drawn = encoder.draw_samples()
    torch.manual_seed(3)
    expected = [torch.randint(0, length, (length, number)) for _ in range(depth)]
    assert torch.equal(drawn, torch.stack(expected))


@pytest.mark.parametrize("heads", [1, 2])
def test_samples_do_not_mix(heads: int) -> None:
    # what upstream's code does with one head
    encoder, batch = make(num_heads=heads), curves()
    together = encoder(batch).pooled
    for row in range(4):
        alone = encoder({name: tensor[row : row + 1] for name, tensor in batch.items()}).pooled
        torch.testing.assert_close(alone[0], together[row])


def test_turning_a_curve_turns_the_tokens() -> None:
    """Without positions all parts treat times alike: the convolution is circular, and with one
    head the reading of the context is no permutation."""
    encoder, batch = make(num_heads=1, factor=EVERY_QUERY), curves()
    encoder.positions.zero_()
    turned = encoder({**batch, "values": batch["values"].roll(2, dims=1)}).tokens
    torch.testing.assert_close(turned, encoder(batch).tokens.roll(2, dims=1))


def test_padding() -> None:
    encoder, batch = make(), curves(length=6)
    found = encoder(batch)
    zeros = {name: torch.zeros(4, 9, *t.shape[2:]) for name, t in batch.items()}
    for name, tensor in batch.items():
        zeros[name][:, :6] = tensor
    padded = encoder(zeros)
    assert torch.equal(found.pooled, padded.pooled)
    assert (found.tokens[:, 6:] == 0).all()
    assert (found.tokens[:, :6] != 0).all()
    assert found.mask.sum() == 4 * 6
    # seen by the attention, though
    batch["values"] = torch.nn.functional.pad(batch["values"], (0, 0, 0, 3), value=1.0)
    batch["mask"] = zeros["mask"]
    assert not torch.allclose(encoder(batch).pooled, found.pooled)


def test_gradient() -> None:
    encoder = make(dim=4, depth=1, input_length=5, factor=EVERY_QUERY).double()
    values = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.ones(2, 5)
    assert torch.autograd.gradcheck(lambda v: encoder({"values": v, "mask": mask}).pooled, values)


def test_no_rows() -> None:
    found = make()(curves(0))
    assert found.pooled.shape == (0, 72)
    assert found.tokens.shape == (0, 9, 8)


def test_sinusoids() -> None:
    table = sinusoids(50, 6)
    assert table[0].tolist() == [0.0, 1.0] * 3
    for position, pair in ((1, 0), (17, 1), (49, 2)):
        phase = position / 10000 ** (2 * pair / 6)
        expected = [math.sin(phase), math.cos(phase)]
        assert table[position, 2 * pair : 2 * pair + 2].tolist() == pytest.approx(expected)


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="dim=7 has to be even"):
        make(dim=7, num_heads=1)
    with pytest.raises(ConfigError, match="divisible by num_heads=3"):
        make(num_heads=3)
    with pytest.raises(ConfigError, match="input_length=1 has to be from 2"):
        make(input_length=1)
    with pytest.raises(ConfigError, match="a light curve of 12 observations, and input_length=9"):
        make()(curves(length=12))
