"""The Informer: its attention against the definition, its draws, its padding."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from domains.astro.encoders.informer import Informer, ProbSparseAttention, sinusoids
from shared.errors import ConfigError

EVERY_QUERY = 20
"""A factor with which all queries attend, so that nothing depends on the draw."""


def make(**changes: object) -> Informer:
    torch.manual_seed(0)
    small = {"input_length": 9, "in_channels": 3, "dim": 8, "depth": 2, "num_heads": 2}
    return Informer(**{**small, "ffn_dim": 12, **changes}).eval()  # type: ignore[arg-type]


def curves(number: int = 4, length: int = 9, seed: int = 1) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(number, length, 3, generator=generator)
    return {"values": values, "mask": torch.ones(number, length, dtype=torch.bool)}


@torch.no_grad()
def reference_attention(module: ProbSparseAttention, x: Tensor, index_sample: Tensor) -> Tensor:
    """The definition for one sample, query by query: (length, dim) → (heads, length, width)."""
    length, dim = x.shape
    width = dim // module.num_heads
    query, key, value = (layer(x) for layer in (module.query, module.key, module.value))
    contexts = []
    for head in range(module.num_heads):
        part = slice(head * width, (head + 1) * width)
        q, k, v = query[:, part], key[:, part], value[:, part]
        unevenness = []
        for position in range(length):
            scores = [float(q[position] @ k[other]) for other in index_sample[position]]
            unevenness.append(max(scores) - sum(scores) / length)
        order = sorted(range(length), key=lambda p: -unevenness[p])
        for position in range(length):
            context = v.mean(0)
            if position in order[: index_sample.shape[1]]:
                context = torch.softmax(k @ q[position] / math.sqrt(width), 0) @ v
            contexts.append(context)
    return torch.stack(contexts).reshape(module.num_heads, length, width)


@pytest.mark.parametrize("number", [1, 3, 7])
def test_attention_is_its_definition(number: int) -> None:
    torch.manual_seed(number)
    module, x = ProbSparseAttention(6, 2), torch.randn(3, 7, 6)
    samples = torch.randint(7, (7, number))
    contexts = torch.stack([reference_attention(module, row, samples) for row in x])
    # heads stand before positions, and are read as if they did not
    expected = module.out(contexts.reshape(3, 7, 6))
    torch.testing.assert_close(module(x, samples), expected)
    whole = module(x, samples, torch.ones(3, 7, dtype=torch.bool))
    torch.testing.assert_close(whole, module.out(contexts.transpose(1, 2).reshape(3, 7, 6)))


@pytest.mark.parametrize("number", [1, 3, 6])
def test_masked_attention_is_that_of_the_real_positions(number: int) -> None:
    torch.manual_seed(number)
    module, x = ProbSparseAttention(6, 2), torch.randn(4, 8, 6)
    samples = torch.randint(8, (8, number))
    masks = ["11111111", "11100000", "01011010", "00000001"]
    mask = torch.tensor([[char == "1" for char in row] for row in masks])
    found = module(x, samples, mask)
    for row, real in enumerate(mask):
        # each query takes the same share of the way through the keys there are
        own = samples[real] * int(real.sum()) // 8
        context = reference_attention(module, x[row, real], own)
        expected = module.out(context.transpose(0, 1).flatten(1))
        torch.testing.assert_close(found[row, real], expected)


def test_masked_attention_of_all_queries_is_multi_head_attention() -> None:
    torch.manual_seed(0)
    module, x = ProbSparseAttention(8, 2), torch.randn(3, 5, 8)
    mask = torch.tensor([[True] * 5, [True, True, False, True, False], [True] + [False] * 4])
    other = torch.nn.MultiheadAttention(8, 2, batch_first=True)
    parts = (module.query, module.key, module.value)
    with torch.no_grad():
        other.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        other.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    other.out_proj = module.out  # type: ignore[assignment]
    found = module(x, torch.randint(5, (5, 5)), mask)
    expected = other(x, x, x, key_padding_mask=~mask, need_weights=False)[0]
    torch.testing.assert_close(found[mask], expected[mask])


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


@pytest.mark.parametrize("mask_padding", [True, False])
def test_padding(mask_padding: bool) -> None:
    encoder, batch = make(mask_padding=mask_padding), curves(length=6)
    found = encoder(batch)
    zeros = {name: torch.zeros(4, 9, *t.shape[2:]) for name, t in batch.items()}
    for name, tensor in batch.items():
        zeros[name][:, :6] = tensor
    padded = encoder(zeros)
    assert torch.equal(found.pooled, padded.pooled)
    assert (found.tokens[:, 6:] == 0).all()
    assert (found.tokens[:, :6] != 0).all()
    assert found.mask.sum() == 4 * 6
    batch["values"] = torch.nn.functional.pad(batch["values"], (0, 0, 0, 3), value=1.0)
    batch["mask"] = zeros["mask"]
    assert torch.equal(encoder(batch).pooled, found.pooled) == mask_padding


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.sampled_from([1, 2, EVERY_QUERY]))
def test_masked_positions_never_matter(seed: int, factor: int) -> None:
    """Wherever they are, whatever they hold, also in the gradient."""
    encoder, batch = make(factor=factor), curves(seed=seed)
    batch["mask"] = torch.rand(4, 9, generator=torch.Generator().manual_seed(seed)) < 0.6
    batch["values"].requires_grad_()
    found = encoder(batch)
    found.pooled.square().sum().backward()
    assert (batch["values"].grad[~batch["mask"]] == 0).all()
    assert torch.isfinite(batch["values"].grad).all()
    other = batch["values"].detach().masked_fill(~batch["mask"][..., None], float("nan"))
    assert torch.equal(encoder({**batch, "values": other}).pooled, found.pooled)


def test_more_padding_changes_nothing() -> None:
    batch, encoders = curves(length=6), [make(factor=EVERY_QUERY, input_length=n) for n in (7, 20)]
    short, long = (encoder(batch).tokens[:, :6] for encoder in encoders)
    torch.testing.assert_close(short, long)


def test_without_padding_one_head_reads_alike_with_and_without_mask() -> None:
    one, other = (make(num_heads=1, mask_padding=value) for value in (True, False))
    torch.testing.assert_close(one(curves()).pooled, other(curves()).pooled)
    one, other = (make(num_heads=2, mask_padding=value) for value in (True, False))
    assert not torch.allclose(one(curves()).pooled, other(curves()).pooled)


def test_weights_are_the_same_with_and_without_mask() -> None:
    one, other = (make(mask_padding=value).state_dict() for value in (True, False))
    assert {n: t.shape for n, t in one.items()} == {n: t.shape for n, t in other.items()}


@pytest.mark.parametrize("mask_padding", [True, False])
def test_gradient(mask_padding: bool) -> None:
    encoder = make(
        dim=4, depth=1, input_length=5, factor=EVERY_QUERY, mask_padding=mask_padding
    ).double()
    values = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    mask = torch.tensor([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]])
    assert torch.autograd.gradcheck(lambda v: encoder({"values": v, "mask": mask}).pooled, values)


@pytest.mark.parametrize("mask_padding", [True, False])
def test_no_rows(mask_padding: bool) -> None:
    found = make(mask_padding=mask_padding)(curves(0))
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
