"""Joining and averaging over the processes of a run; in one process everything is left alone."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist


def started_rank(devices: int, num_nodes: int) -> int:
    """Number of this process as whoever started it says in the environment (torchrun, srun, or the
    first process of a machine), before the processes are joined."""
    if devices * num_nodes == 1:
        return 0
    for name in ("RANK", "SLURM_PROCID"):
        if name in os.environ:
            return int(os.environ[name])
    node = int(os.environ.get("NODE_RANK", os.environ.get("GROUP_RANK", "0")))
    return node * devices + int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    """Number of processes."""
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


def rank() -> int:
    """Number of this process."""
    return dist.get_rank() if world_size() > 1 else 0


def sum_over_ranks(values: Tensor) -> Tensor:
    """Element-wise sum of every rank's tensor, without gradient; shapes have to agree."""
    if world_size() == 1:
        return values
    total = values.detach().clone().contiguous()
    dist.all_reduce(total)
    return total


def mean_over_ranks(values: Tensor) -> Tensor:
    """Element-wise mean of every rank's tensor, without gradient; shapes have to agree."""
    return sum_over_ranks(values) / world_size()


def numbers_of_ranks(number: int, device: torch.device) -> list[int]:
    """A whole number of every rank, such as its row count, in rank order."""
    if world_size() == 1:
        return [number]
    own = torch.tensor([number], device=device)
    found = [torch.empty_like(own) for _ in range(world_size())]
    dist.all_gather(found, own)
    return torch.cat(found).tolist()


class _GatherRows(torch.autograd.Function):
    """all_gather whose backward sums the gradients of all ranks for the own rows."""

    @staticmethod
    def forward(ctx: Any, rows: Tensor) -> Tensor:
        ctx.rows = len(rows)
        parts = [torch.empty_like(rows) for _ in range(world_size())]
        dist.all_gather(parts, rows.contiguous())
        return torch.cat(parts)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:  # type: ignore[override]
        own = gradient.new_empty(ctx.rows, *gradient.shape[1:])
        dist.reduce_scatter_tensor(own, gradient.contiguous())
        return own


def gather_rows(rows: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """(rows, …) of this rank → (rows of all ranks, …) in rank order, with gradient.

    With every rank computing the whole loss on gathered rows, or its own rows of it, the mean of
    the ranks' parameter gradients is the gradient of the loss on the joint batch.

    Args:
        rows: Ranks may have different numbers of rows; the other axes have to agree.
        counts: Number of rows of every rank, where it is known already.
    """
    if world_size() == 1:
        return rows
    counts = counts or numbers_of_ranks(len(rows), rows.device)
    longest = max(counts)
    padding = rows.new_zeros(longest - len(rows), *rows.shape[1:])
    padded = rows if len(rows) == longest else torch.cat([rows, padding])
    joined: Tensor = _GatherRows.apply(padded)  # type: ignore[no-untyped-call]
    if min(counts) == longest:
        return joined
    return torch.cat([joined[i * longest : i * longest + count] for i, count in enumerate(counts)])


def stack_over_ranks(values: Tensor) -> Tensor:
    """(ranks, …): every rank's tensor, with gradient; shapes have to agree."""
    return gather_rows(values[None], [1] * world_size())


def gather_constants(rows: Tensor, counts: Sequence[int] | None = None) -> Tensor:
    """As `gather_rows`, but only this rank's own rows carry a gradient.

    The mean of the ranks' gradients is then 1 / ranks of the joint batch's for what made the rows,
    as open_clip's default is.
    """
    if world_size() == 1:
        return rows
    counts = counts or numbers_of_ranks(len(rows), rows.device)
    joined = gather_rows(rows.detach(), counts)
    start = sum(counts[: rank()])
    return torch.cat([joined[:start], rows, joined[start + len(rows) :]])
