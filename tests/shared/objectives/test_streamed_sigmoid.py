"""The streamed sum of sigmoid losses: against the definition in float64, extremes, memory."""

import math
from typing import Any

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize, softplus

from shared.objectives.base import Encoded
from shared.objectives.blocks import Rows, present_rows
from shared.objectives.streamed_sigmoid import streamed_sigmoid_sum


def make(n: int, m: int, dim: int, kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Unit rows: in all directions, all the same, or all opposite."""
    generator = torch.Generator().manual_seed(seed)
    a, b = (normalize(torch.randn(k, dim, generator=generator), dim=-1) for k in (n, m))
    if kind != "random":
        a, b = a[:1].repeat(n, 1), (1 if kind == "same" else -1) * a[:1].repeat(m, 1)
    return a.requires_grad_(), b.requires_grad_()


def definition(a: Rows, b: Rows, scale: float, bias: float) -> tuple[Tensor, tuple[Tensor, ...]]:
    """In float64: the sum, its gradients, and after them the largest sums of absolute values that
    those are differences of."""
    x, y = (rows.rows.detach().double() for rows in (a, b))
    cosine = x @ y.T
    signs = 1 - 2 * (a.keys[:, None] == b.keys).double()
    z = scale * cosine + bias
    slopes = signs * (signs * z).sigmoid()
    gradients = (scale * slopes @ y, scale * slopes.T @ x, (slopes * cosine).sum(), slopes.sum())
    size = slopes.abs()
    sizes = (scale * size.sum(1), scale * size.sum(0), size.sum(), size.sum())
    largest = tuple(s.max() if s.numel() else s.new_zeros(()) for s in sizes)
    return softplus(signs * z, threshold=1e9).sum(), (*gradients, *largest)


@given(
    st.integers(0, 20),
    st.integers(0, 20),
    st.integers(1, 9),
    st.integers(1, 6),
    st.sampled_from(["random", "same", "opposite"]),
    st.sampled_from([1.0, 10.0, 100.0]),
    st.sampled_from([-10.0, 0.0, 3.0]),
    st.integers(1, 30),
)
@example(20, 20, 3, 1, "opposite", 100.0, -10.0, 1)
@example(1, 1, 1, 1, "same", 100.0, -10.0, 1)
def test_equals_the_definition(
    n: int, m: int, side: int, dim: int, kind: str, scale: float, bias: float, classes: int
) -> None:
    rows = make(n, m, dim, kind if n else "random", n + 31 * m)
    a, b = (Rows(r, torch.arange(len(r)) % classes) for r in rows)
    s, c = (torch.tensor(value, requires_grad=True) for value in (scale, bias))
    found = streamed_sigmoid_sum(a, b, s, c, side)
    expected, (*gradients, by_a, by_b, by_scale, by_bias) = definition(a, b, scale, bias)
    torch.testing.assert_close(found.double(), expected, rtol=2e-6, atol=1e-30)
    sizes = (by_a, by_b, by_scale, by_bias)
    leaves = (a.rows, b.rows, s, c)
    for gradient, wanted, size in zip(
        torch.autograd.grad(found, leaves), gradients, sizes, strict=True
    ):
        # z itself is off by its rounding, scale · 1e-7, which the losses' slopes amplify
        atol = float(size) * max(scale, 10.0) * 2e-7 + 1e-30
        torch.testing.assert_close(gradient.double(), wanted, rtol=1e-5, atol=atol)


@pytest.mark.parametrize("logit", [-80.0, -20.0, 0.0, 20.0, 200.0])
@pytest.mark.parametrize("match", [True, False])
def test_one_pair_is_exact(logit: float, match: bool) -> None:
    """A match's loss is no difference of large numbers, and nothing overflows."""
    one, scale = torch.ones(1, 1), torch.tensor(1.0)
    keys = torch.zeros(1, dtype=torch.int64)
    bias = torch.tensor(logit - 1.0, requires_grad=True)
    found = streamed_sigmoid_sum(Rows(one, keys), Rows(one, keys + (not match)), scale, bias, 4)
    signed = -logit if match else logit
    assert float(found.detach()) == pytest.approx(
        max(signed, 0) + math.log1p(math.exp(-abs(signed)))
    )
    (slope,) = torch.autograd.grad(found, bias)
    expected = math.exp(min(signed, 0)) / (1 + math.exp(-abs(signed)))
    assert float(slope) == pytest.approx(-expected if match else expected)


@pytest.mark.parametrize("classes", [3, 200])
def test_nothing_is_as_large_as_the_matrix(largest: Any, classes: int) -> None:
    rows = make(200, 150, 4, "random", 0)
    a, b = (Rows(r, torch.arange(len(r)) % classes) for r in rows)
    scale, bias = (torch.tensor(v, requires_grad=True) for v in (10.0, -10.0))
    with largest:
        streamed_sigmoid_sum(a, b, scale, bias, 16).backward()
    # three blocks, or the rows
    assert largest.elements <= max(3 * 16**2, 200 * 4)


def test_low_precision_rows() -> None:
    """As float32 rows of the same values; gradients come in the rows' own type."""
    exact = make(9, 7, 5, "random", 1)
    low = [r.detach().bfloat16().requires_grad_() for r in exact]
    same = [r.detach().float().requires_grad_() for r in low]
    scale, bias, keys = torch.tensor(10.0), torch.tensor(-10.0), torch.arange(9)
    with torch.autocast("cpu", torch.bfloat16):
        sums = [
            streamed_sigmoid_sum(Rows(a, keys), Rows(b, keys[:7]), scale, bias, 4)
            for a, b in (low, same)
        ]
    assert torch.equal(*sums)
    assert sums[0].dtype == torch.float32
    for total in sums:
        total.backward()
    for half, full in zip(low, same, strict=True):
        assert torch.equal(half.grad, full.grad.bfloat16())


def test_only_what_is_learned_gets_a_gradient() -> None:
    a, b = make(5, 5, 3, "random", 2)
    scale, bias, keys = torch.tensor(10.0), torch.tensor(-10.0), torch.arange(5)
    found = streamed_sigmoid_sum(Rows(a.detach(), keys), Rows(b, keys), scale, bias, 2)
    found.backward()
    assert b.grad is not None
    assert a.grad is scale.grad is None
    with torch.no_grad():
        value = streamed_sigmoid_sum(Rows(a, keys), Rows(b, keys), scale, bias, 2)
    assert torch.equal(value, found.detach())
    assert not value.requires_grad


def test_absent_rows_are_left_out() -> None:
    rows, keys = torch.randn(4, 2), torch.arange(4)
    everything = present_rows(Encoded(rows, torch.ones(4, dtype=torch.bool)), keys)
    assert everything.rows is rows
    some = present_rows(Encoded(rows, torch.tensor([True, False, True, False])), keys)
    assert torch.equal(some.rows, rows[::2])
    assert some.keys.tolist() == [0, 2]
