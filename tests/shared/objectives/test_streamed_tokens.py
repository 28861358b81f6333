"""Streamed token-wise contrast against the definition in float64, and what it keeps in memory."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from shared.objectives.base import Encoded, Tensors
from shared.objectives.filip import FILIP
from shared.objectives.pairs import Positives
from shared.objectives.streamed_tokens import streamed_sums, token_rows

NAMES = ("a", "b")
LENGTHS = {"a": 3, "b": 5}


def make(seed: int, batch: int, share: float = 1.0, dim: int = 4, scale: float = 14.0) -> Tensors:
    """Raw tokens, ragged; a sample that stands for data has at least one."""
    generator = torch.Generator().manual_seed(seed)
    encoded = {}
    for name, length in LENGTHS.items():
        present = torch.rand(batch, generator=generator) < share
        mask = torch.rand(batch, length, generator=generator) < 0.6
        mask[torch.arange(batch), torch.randint(length, (batch,), generator=generator)] = True
        mask &= present[:, None]
        tokens = torch.randn(batch, length, dim, generator=generator)
        encoded[FILIP(NAMES).request(name)] = Encoded(tokens.requires_grad_(), present, mask)
    scalars = {"logit_scale": torch.tensor(math.log(scale), requires_grad=True)}
    keys = [torch.randint(-1, 3, (batch,), generator=generator) for _ in range(2)]
    return Tensors(encoded, scalars, *keys)


def leaves(tensors: Tensors) -> list[Tensor]:
    return [*(e.rows for e in tensors.encoded.values()), *tensors.scalars.values()]


def defined(tensors: Tensors, positives: Positives) -> Tensor:
    """§3.1's loss in float64: mean over positives of −log softmax of the mean best matches."""
    found = torch.zeros((), dtype=torch.float64)
    keys = {"sample": torch.arange(len(tensors.labels)), "label": tensors.labels}
    key = keys.get(positives, tensors.groups)
    same = (key[:, None] == key) & (key >= 0) | torch.eye(len(key), dtype=torch.bool)
    for x, y in (tuple(tensors.encoded.values()), tuple(tensors.encoded.values())[::-1]):
        u, v = (normalize(e.rows.double(), dim=-1) for e in (x, y))
        best = torch.einsum("nkd,mrd->nkmr", u, v).masked_fill(~y.mask, -2.0).amax(3)
        similarity = (best * x.mask[..., None]).sum(1) / x.mask.sum(1, keepdim=True).clamp(min=1)
        z = tensors.scalars["logit_scale"].double().exp() * similarity
        shares = z.masked_fill(~y.present, -torch.inf).log_softmax(1)
        hits = same & x.present[:, None] & y.present
        losses = -torch.where(hits, shares, 0.0).sum(1) / hits.sum(1).clamp(min=1)
        counts = hits.any(1)
        found = found + 0.5 * losses[counts].sum() / counts.sum().clamp(min=1)
    return found


def check(tensors: Tensors, chunk_rows: int, positives: Positives) -> None:
    expected = defined(tensors, positives)
    loss = FILIP(NAMES, positives=positives, chunk_rows=chunk_rows)(tensors).loss
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss.double(), expected, rtol=1e-6, atol=2e-6)
    wanted = torch.autograd.grad(expected, leaves(tensors))
    for found, gradient in zip(torch.autograd.grad(loss, leaves(tensors)), wanted, strict=True):
        size = float(gradient.abs().max())
        torch.testing.assert_close(found, gradient.float(), rtol=0, atol=2e-5 * size + 1e-7)


@settings(max_examples=30)
@given(
    seed=st.integers(0, 10_000),
    batch=st.integers(1, 9),
    chunk_rows=st.integers(1, 9),
    share=st.sampled_from([1.0, 0.6]),
    positives=st.sampled_from(["sample", "group", "label"]),
    scale=st.sampled_from([1.0, 14.0, 100.0]),
)
def test_equals_the_definition(
    seed: int, batch: int, chunk_rows: int, share: float, positives: Positives, scale: float
) -> None:
    check(make(seed, batch, share, scale=scale), chunk_rows, positives)


@pytest.mark.parametrize("positives", ["sample", "group", "label"])
def test_nothing_that_is_present(positives: Positives) -> None:
    tensors = make(0, 5, share=0.0)
    loss = FILIP(NAMES, positives=positives, chunk_rows=2)(tensors).loss
    assert float(loss.detach()) == 0.0
    assert all(not g.any() for g in torch.autograd.grad(loss, leaves(tensors)))


def test_opposite_and_equal_tokens() -> None:
    """Logits of ±100: nothing overflows, and what is found costs nothing."""
    tokens = torch.eye(3)[:, None].repeat(1, 2, 1)
    present, mask = torch.ones(3, dtype=torch.bool), torch.ones(3, 2, dtype=torch.bool)
    for sign in (1.0, -1.0):
        rows = [t.requires_grad_() for t in (tokens.clone(), sign * tokens)]
        requests = [FILIP(NAMES).request(name) for name in NAMES]
        encoded = {r: Encoded(t, present, mask) for r, t in zip(requests, rows, strict=True)}
        scalars = {"logit_scale": torch.tensor(math.log(100.0), requires_grad=True)}
        numbers = torch.arange(3)
        tensors = Tensors(encoded, scalars, numbers, numbers)
        loss = FILIP(NAMES, chunk_rows=1)(tensors).loss
        # −log(1 / (1 + 2 e^−z)) of the positive's z = ±100 among others of 0
        wanted = 2 * math.exp(-100.0) if sign > 0 else 100.0 + math.log(2.0)
        assert float(loss.detach()) == pytest.approx(wanted, rel=1e-5)
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, leaves(tensors)))


def test_repeated_tokens_share_no_gradient_twice() -> None:
    """Equal best matches: one of them gets the gradient."""
    generator = torch.Generator().manual_seed(0)
    token = torch.randn(4, 1, 3, generator=generator)
    a = Encoded(token.requires_grad_(), torch.ones(4, dtype=torch.bool), torch.ones(4, 1) > 0)
    sums = []
    for times in (1, 3):
        rows = torch.randn(4, 1, 3, generator=torch.Generator().manual_seed(1))
        rows = rows.repeat(1, times, 1).requires_grad_()
        b = Encoded(rows, a.present, torch.ones(4, times) > 0)
        keys = torch.arange(4)
        given_rows = token_rows(a, keys), token_rows(b, keys)
        found, _ = streamed_sums(*given_rows, torch.tensor(5.0), 2, exclusive=True)
        sums.append(torch.autograd.grad(found.lse.sum(), rows)[0].sum(dim=1))
    torch.testing.assert_close(sums[0], sums[1])


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_tokens_are_compared_in_float32(dtype: torch.dtype) -> None:
    tensors = make(2, 6)
    losses = []
    for cast in (dtype, torch.float32):
        encoded = {
            r: Encoded(e.rows.detach().to(dtype).to(cast).requires_grad_(), e.present, e.mask)
            for r, e in tensors.encoded.items()
        }
        given_rows = Tensors(encoded, tensors.scalars, tensors.labels, tensors.groups)
        with torch.autocast("cpu", torch.bfloat16):
            loss = FILIP(NAMES, chunk_rows=2)(given_rows).loss
        assert loss.dtype == torch.float32
        assert torch.autograd.grad(loss, leaves(given_rows)[0])[0].dtype == cast
        losses.append(float(loss.detach()))
    assert losses[0] == losses[1]


def test_no_matrix_of_all_samples_is_made(largest: Any) -> None:
    batch, chunk_rows, dim = 128, 16, 2
    tensors = make(0, batch, dim=dim)
    with largest:
        FILIP(NAMES, chunk_rows=chunk_rows)(tensors).loss.backward()
    block = chunk_rows**2 * math.prod(LENGTHS.values())
    assert largest.elements <= block < batch**2 / 4
