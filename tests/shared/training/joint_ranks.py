"""Gathers and a batch norm on this rank's rows; for `run_ranks`."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from shared.distributed import gather_constants, gather_rows, mean_over_ranks, rank
from shared.errors import DataError
from shared.training.batch_norm import join_batch_norms

ROWS = 8


def _inputs() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    rows = torch.randn(ROWS, 3, 5, generator=generator) + 2
    return rows, torch.arange(ROWS) % 3 > 0, torch.randn(ROWS, 3, 5, generator=generator)


def _loss(joined: Tensor, mask: Tensor) -> Tensor:
    flat = joined.flatten(1)
    return ((flat @ flat.T) * mask).logsumexp(1).mean()


def _norm() -> nn.Module:
    norm = nn.BatchNorm1d(3, momentum=0.3)
    with torch.no_grad():
        norm.weight.copy_(torch.tensor([1.0, 2.0, 3.0]))
    return norm


def _without_statistics(rows: Tensor) -> Tensor:
    """In evaluation, where a batch norm that keeps no statistics takes those of the batch."""
    holder = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False)).eval()
    join_batch_norms(holder)
    output: Tensor = holder(rows)
    return output.detach()


def _normed(norm: nn.Module, rows: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """The norm's output and gradients, for a sum of squares over the rows of all ranks."""
    rows = rows.clone().requires_grad_()
    output = norm(rows)
    ((output - targets) ** 3).sum().backward()
    assert rows.grad is not None
    return {
        "normed": output.detach(),
        "normed gradient": rows.grad,
        **{name: p.grad for name, p in norm.named_parameters() if p.grad is not None},
        **{name: buffer.clone() for name, buffer in norm.named_buffers()},
    }


def in_one_process() -> dict[str, Tensor]:
    rows, mask, targets = _inputs()
    whole = rows.clone().requires_grad_()
    _loss(whole, mask).backward()
    assert whole.grad is not None
    found = {"rows": rows, "mask": mask, "gather gradient": whole.grad}
    found |= {"evaluated": _without_statistics(rows)}
    return found | _normed(_norm(), rows, targets)


def on_ranks(layouts: Sequence[Sequence[int]]) -> list[dict[str, Tensor]]:
    """For each layout, what this rank has."""
    rows, mask, targets = _inputs()
    found = []
    for parts in layouts:
        own = rows.split(list(parts))[rank()]
        own_mask = gather_rows(mask.split(list(parts))[rank()])
        results: dict[str, Tensor] = {"mask": own_mask, "evaluated": _without_statistics(own)}
        for name, gather in (("gather", gather_rows), ("constants", gather_constants)):
            leaf = own.clone().requires_grad_()
            joined = gather(leaf)
            _loss(joined, own_mask).backward()
            assert leaf.grad is not None
            results |= {f"{name} gradient": leaf.grad}
            results["gathered" if name == "gather" else name] = joined.detach()
        holder = nn.Sequential(_norm())
        join_batch_norms(holder)
        results |= _normed(holder[0], own, targets.split(list(parts))[rank()])
        for name in ("weight", "bias"):
            # summed: the loss is a sum over the rows of all ranks
            results[name] = mean_over_ranks(results[name]) * len(parts)
        found.append(results)
    lonely = torch.ones(int(rank() == 0), 3)
    try:
        holder[0](lonely)
    except DataError:
        return found
    raise AssertionError("a single row has no variance")
