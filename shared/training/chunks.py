"""How many rows of a part of a model are computed at once, and what that takes."""

from collections.abc import Callable, Iterable

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.checkpoint import checkpoint

from shared.distributed import numbers_of_ranks

Rows = dict[str, Tensor]
"""Named tensors of the same rows."""
Part = Callable[[Rows], Rows]
"""An encoder with its heads, or a fusion: rows → as many rows, each by itself."""
Chunking = Callable[[Part, Rows], Rows]
"""Runs a part over rows."""


def at_once(part: Part, rows: Rows) -> Rows:
    """All rows at once."""
    return part(rows)


class InChunks:
    """A micro-batch at a time; of all but the last one only the output stays, and the backward pass
    computes the rest again (arXiv:1604.06174; with what follows, GradCache, arXiv:2101.06983, in
    one backward pass).

    The last one is kept since it is the first that the backward pass asks for. Each draws from
    torch's generator what it drew before, so the gradients are those of the loss that was computed.

    Args:
        micro_batch: Rows of a part whose activations are held at once.
    """

    def __init__(self, micro_batch: int) -> None:
        self.micro_batch = micro_batch

    def __call__(self, part: Part, rows: Rows) -> Rows:
        device = next(iter(rows.values())).device
        # the same on every rank, since each run of a part gathers weights that are cut up
        number = max(numbers_of_ranks(-(-_number(rows) // self.micro_batch), device))
        if number <= 1:
            return part(rows)
        # chunks of nearly one size: a last one of few rows would be slow, and compiled anew
        cut = {name: tensor.tensor_split(number) for name, tensor in rows.items()}
        chunks = [{name: parts[i] for name, parts in cut.items()} for i in range(number)]
        if torch.is_grad_enabled():
            found = [checkpoint(part, chunk, use_reentrant=False) for chunk in chunks[:-1]]
        else:
            found = [part(chunk) for chunk in chunks[:-1]]
        found.append(part(chunks[-1]))
        return {name: torch.cat([chunk[name] for chunk in found]) for name in found[0]}


class Trial:
    """Runs a few of the rows through each part, to see what its graph keeps of a row; what comes
    out for them stands for the others.

    Args:
        ignored: Tensors that are there anyway, such as parameters.
    """

    SIZES = (2, 4)
    """Rows of the two points that a line is drawn through."""

    def __init__(self, ignored: Iterable[Tensor]) -> None:
        self._ignored = {tensor.untyped_storage().data_ptr() for tensor in ignored}
        self._lines: list[tuple[int, float, float]] = []

    def __call__(self, part: Part, rows: Rows) -> Rows:
        number = _number(rows)
        if number == 0:
            for _ in self.SIZES[1:]:  # as often as ranks that have rows
                part(rows)
            return part(rows)
        (_, small), (out, large) = (self._run(part, rows, size) for size in self.SIZES)
        slope = max(0.0, (large - small) / (self.SIZES[1] - self.SIZES[0]))
        self._lines.append((number, max(0.0, small - slope * self.SIZES[0]), slope))
        again = torch.arange(number) % self.SIZES[1]
        return {name: tensor[again.to(tensor.device)] for name, tensor in out.items()}

    @property
    def rows(self) -> int:
        """The most that any part has."""
        return max((number for number, _, _ in self._lines), default=0)

    def bytes_of(self, micro_batch: int) -> float:
        """What is kept where each part holds the activations of so many of its rows."""
        return sum(a + b * min(micro_batch, number) for number, a, b in self._lines)

    def _run(self, part: Part, rows: Rows, size: int) -> tuple[Rows, int]:
        """What a part gives for the first rows, over again where there are fewer, and the bytes
        that its graph keeps, inputs aside."""
        few = {n: t[(torch.arange(size) % len(t)).to(t.device)] for n, t in rows.items()}
        ignored = self._ignored | {t.untyped_storage().data_ptr() for t in few.values()}
        kept: dict[int, int] = {}

        def count(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in ignored:
                kept[storage.data_ptr()] = storage.nbytes()
            return tensor

        # what the hook returns stays with the graph of `out`: no address is given out twice
        with saved_tensors_hooks(count, lambda tensor: tensor):
            out = part(few)
        return out, sum(kept.values())


def _number(rows: Rows) -> int:
    return len(next(iter(rows.values())))
