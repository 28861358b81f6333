"""The sum of SigLIP's losses over all pairs of rows, a block of the matrix of logits at a time.

The loss is a plain sum over pairs, so a block's part of the gradients is known as soon as its
logits are: one pass makes the sum and the gradients, three products of matrices in all, as many as
the whole matrix needs, and the backward pass only scales them.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from shared.objectives.blocks import Blocks, Rows

_FOLDS = 3
"""Halvings before logarithms are taken: one for every 2³ pairs. Each factor is at most 2."""


def streamed_sigmoid_sum(a: Rows, b: Rows, scale: Tensor, bias: Tensor, side: int) -> Tensor:
    """Σ −log σ(z) over pairs with equal keys + Σ −log σ(−z) over all others.

    z = scale · ⟨a, b⟩ + bias (SigLIP, arXiv:2303.15343, §3.2).
    Computed in float32, whatever the rows hold. Has first derivatives only.

    Args:
        a: n rows.
        b: m rows of the same width.
        scale: 0-d.
        bias: 0-d.
        side: Largest side of a block of logits. Memory beside rows and gradients: three blocks.

    Returns:
        0-d float32.
    """
    inputs = (a.rows, b.rows, scale, bias)
    with_grad = torch.is_grad_enabled() and any(t.requires_grad for t in inputs)
    with torch.autocast(a.rows.device.type, enabled=False):
        total: Tensor = _SigmoidSum.apply(*inputs, a.keys, b.keys, side, with_grad)  # type: ignore[no-untyped-call]
    return total


class _SigmoidSum(torch.autograd.Function):
    """Makes the gradients in the forward pass."""

    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        bias: Tensor,
        a_keys: Tensor,
        b_keys: Tensor,
        side: int,
        with_grad: bool,
    ) -> Tensor:
        blocks = Blocks(Rows(a, a_keys), Rows(b, b_keys), scale.float(), side, with_matches=True)
        total, *gradients = _sum_and_gradients(blocks, bias.float(), with_grad)
        if with_grad:
            ctx.save_for_backward(*gradients)
            ctx.dtypes = (a.dtype, b.dtype, scale.dtype, bias.dtype)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        found = zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        return (*((gradient * saved).to(dtype) for saved, dtype in found), None, None, None, None)


def _sum_and_gradients(blocks: Blocks, bias: Tensor, with_grad: bool) -> tuple[Tensor, ...]:
    """The sum of losses, and with gradient those by a, b, scale and bias, float32."""
    zero = bias.new_zeros(())
    # sums over blocks are added up at the end, pairwise
    totals, by_bias = [zero], [zero]
    by_a, by_b = (torch.zeros_like(side, dtype=torch.float32) for side in (blocks.a, blocks.b))
    memory = blocks.memory(), blocks.memory()
    for block in blocks:
        z = block.logits.add_(bias)
        sigma, odds = (m[: z.numel()].view_as(z) for m in memory)
        # −log σ(z) of a match is softplus(−z): no difference of large numbers
        signs = None if block.matches is None else 1.0 - 2.0 * block.matches
        if signs is not None:
            z.mul_(signs)
        torch.sigmoid(z, out=sigma)
        totals.append(_softplus_sum(z, sigma, odds))
        if with_grad:
            slopes = sigma if signs is None else sigma.mul_(signs)
            by_bias.append(slopes.sum())
            by_a[block.here].addmm_(slopes, block.b)
            by_b[block.there].addmm_(slopes.T, block.a)
    total = torch.stack(totals).sum()
    if not with_grad:
        return (total,)
    by_scale = torch.linalg.vecdot(by_a, blocks.a.float()).sum()
    return total, by_a.mul_(blocks.scale), by_b, by_scale, torch.stack(by_bias).sum()


def _softplus_sum(z: Tensor, sigma: Tensor, odds: Tensor) -> Tensor:
    """Σ log(1 + eᶻ) = Σ max(z, 0) + log Π(1 + e^−|z|), exact for large and small z.

    Args:
        z: Overwritten.
        sigma: σ(z).
        odds: Overwritten.
    """
    above = z.clamp_min_(0.0).sum()
    # e^−|z| is the ratio of σ(z) and σ(−z), the smaller by the larger: no second exponential
    other = torch.sub(1.0, sigma, out=z)
    torch.minimum(sigma, other, out=odds)
    odds.div_(torch.maximum(sigma, other, out=other))
    factors = odds.flatten()
    for _ in range(_FOLDS):
        # (1 + x)(1 + y) − 1, which keeps small numbers
        half = len(factors) // 2
        head, tail = factors[:half], factors[len(factors) - half :]
        head.addcmul_(head, tail).add_(tail)
        factors = factors[: len(factors) - half]
    return above + factors.log1p_().sum()
