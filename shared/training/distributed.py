"""Joining rows across ranks, with gradient."""

from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


class _GatherRows(torch.autograd.Function):
    """all_gather whose backward sums the gradients of all ranks for the own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        gradient = gradient.contiguous()
        dist.all_reduce(gradient)
        start = dist.get_rank() * ctx.rows
        return gradient[start : start + ctx.rows]


def gather_rows(rows: Tensor) -> Tensor:
    """(batch, …) of this rank → (sum of batches, …) of all ranks in rank order; in one process, the
    rows themselves. Ranks may have different numbers of rows.

    With every rank computing the whole loss on gathered rows, the mean of the ranks' parameter
    gradients is the gradient of the loss on the joint batch.
    """
    if not (dist.is_available() and dist.is_initialized()) or dist.get_world_size() == 1:
        return rows
    own = torch.tensor([len(rows)], device=rows.device)
    sizes = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(sizes, own)
    counts = [int(size) for size in sizes]
    longest = max(counts)
    if min(counts) == longest:
        joined: Tensor = _GatherRows.apply(rows)  # type: ignore[no-untyped-call]
        return joined
    padding = rows.new_zeros(longest - len(rows), *rows.shape[1:])
    joined = _GatherRows.apply(torch.cat([rows, padding]))  # type: ignore[no-untyped-call]
    return torch.cat([joined[i * longest : i * longest + count] for i, count in enumerate(counts)])
