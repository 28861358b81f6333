"""Transformer blocks: attention masks, widths, stochastic depth, position tables."""

import math

import pytest
import torch
from torch import nn

from shared.encoders.transformer import (
    Attention,
    Block,
    SwiGLU,
    add_residual,
    draw_rows,
    init_xavier,
    sincos_positions,
)
from shared.errors import ConfigError


def test_attention_is_softmax_of_scaled_products() -> None:
    torch.manual_seed(0)
    attention, x = Attention(12, 3), torch.randn(2, 5, 12)
    query, key, value = attention.qkv(x).view(2, 5, 3, 3, 4).unbind(2)
    weights = (torch.einsum("bqhd,bkhd->bhqk", query, key) / math.sqrt(4)).softmax(-1)
    expected = attention.proj(torch.einsum("bhqk,bkhd->bqhd", weights, value).flatten(2))
    torch.testing.assert_close(attention(x), expected)


def test_masked_tokens_do_not_count() -> None:
    torch.manual_seed(0)
    block, x = Block(16, 2), torch.randn(3, 6, 16)
    mask = torch.ones(3, 6, dtype=torch.bool)
    mask[:, 4:] = False
    torch.testing.assert_close(block(x, mask)[:, :4], block(x[:, :4]))


def test_heads_have_to_divide_the_width() -> None:
    with pytest.raises(ConfigError, match="num_heads=5"):
        Attention(12, 5)


@pytest.mark.parametrize(("dim", "hidden"), [(1536, 4096), (32, 88)])
def test_swiglu_width(dim: int, hidden: int) -> None:
    with torch.device("meta"):
        assert SwiGLU(dim, 4 * dim).w3.in_features == hidden


def test_stochastic_depth_is_right_on_average() -> None:
    torch.manual_seed(0)
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    draws = [
        add_residual(x, lambda part, _: 2 * part, draw_rows(5, 0.4, x.device)) for _ in range(4000)
    ]
    torch.testing.assert_close(torch.stack(draws).mean(0), 3 * x, rtol=0.05, atol=0.05)


@pytest.mark.parametrize(("batch", "rate", "kept"), [(10, 0.3, 7), (1, 0.9, 1), (6, 0.4, 3)])
def test_number_of_rows_that_keep_their_residual(batch: int, rate: float, kept: int) -> None:
    rows = draw_rows(batch, rate, torch.device("cpu"))
    assert len(set(rows.tolist())) == kept


def test_rows_that_are_dropped_stay() -> None:
    torch.manual_seed(0)
    block, x = Block(8, 2, drop_path=0.5).train(), torch.randn(4, 3, 8)
    rows = torch.tensor([2, 0])
    out = block(x, kept=(rows, rows))
    assert torch.equal(out[[1, 3]], x[[1, 3]])
    assert not torch.isclose(out[rows], x[rows]).any()
    torch.testing.assert_close(block.eval()(x), block(x, kept=(None, None)))


def test_stochastic_depth_of_masked_rows() -> None:
    torch.manual_seed(0)
    block, x = Block(8, 2), torch.randn(4, 3, 8)
    mask = torch.rand(4, 3) < 0.7
    mask[:, 0] = True
    everybody = torch.tensor([3, 1, 0, 2])
    torch.testing.assert_close(block(x, mask, (everybody, everybody)), block(x, mask))


def test_an_empty_batch_reaches_every_parameter() -> None:
    block = Block(8, 2, drop_path=0.5, layer_scale=1.0, ffn="swiglu").train()
    block(torch.zeros(0, 3, 8)).sum().backward()
    assert all(p.grad is not None for p in block.parameters())


def test_sincos_table() -> None:
    table = sincos_positions(8, 2, 3)
    # row 1, column 2: [sin, cos](column · ω), [sin, cos](row · ω) with ω = 1 and 0.01
    expected = [f(c * w) for c in (2, 1) for f in (math.sin, math.cos) for w in (1.0, 0.01)]
    torch.testing.assert_close(table[5], torch.tensor(expected))
    with pytest.raises(ConfigError, match="multiple of 4"):
        sincos_positions(6, 2, 2)


def test_xavier_bounds_a_patch_convolution_as_a_linear() -> None:
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 20, 4).apply(init_xavier)
    bound = math.sqrt(6 / (20 + 3 * 16))
    assert 0.9 * bound < float(conv.weight.detach().abs().max()) <= bound
