"""How large a micro-batch may be: a short trial on the first batch, and the memory there is."""

from pathlib import Path

import torch
from torch.distributed.tensor import DTensor

from shared.data.batch import Batch
from shared.distributed import numbers_of_ranks, world_size
from shared.errors import ConfigError
from shared.objectives.base import Position
from shared.training.chunks import Trial
from shared.training.runner import Runner

GIB = 2**30
SHARE = 0.5
"""Of the free memory, for activations: the rest is for gradients of activations, what a layer
needs while it runs, embeddings and logits, and what the allocator cannot use."""
STATES = 3
"""Tensors as large as the trained weights that the first step makes: gradients and the two moments
of Adam."""
MEMORY = Path("/proc/meminfo")
"""Where Linux says what memory there is."""


def try_out(runner: Runner, batch: Batch, position: Position) -> Trial:
    """What the graph of each part keeps of a row; the runner and all generators stay as they were.

    Every rank has to take part, as in a step.
    """
    buffers = {name: buffer.clone() for name, buffer in runner.named_buffers()}
    trial = Trial([*runner.parameters(), *runner.buffers()])
    device = batch.rows.device
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        runner(runner.make_views(batch), position, trial)
    with torch.no_grad():
        for name, buffer in runner.named_buffers():
            buffer.copy_(buffers[name])
    return trial


def find_micro_batch(
    runner: Runner, batch: Batch, position: Position, memory_gib: float | None
) -> tuple[int, str]:
    """The largest power of two whose activations are within the budget on every rank; no larger
    than it takes to encode everything at once.

    Args:
        runner: On its device.
        batch: What to try it on.
        position: Where in the run.
        memory_gib: The budget of a rank; None: `SHARE` of what is free.

    Returns:
        It, and a line about it.

    Raises:
        ConfigError: Not even one row of each part fits.
    """
    device = batch.rows.device
    trial = try_out(runner, batch, position)
    budget = GIB * memory_gib if memory_gib else SHARE * (free_memory(device) - _to_come(runner))
    found = 0
    if trial.bytes_of(1) <= budget:
        found = 1
        while found < trial.rows and trial.bytes_of(2 * found) <= budget:
            found *= 2
    # all ranks fail, or none: the others would wait for one that has
    found = min(numbers_of_ranks(found, device))
    if not found:
        raise ConfigError(
            f"passes.micro_batch=auto: not even one row fits: {_gib(trial.bytes_of(1))} of "
            f"activations, {_gib(budget)} budget. Take a smaller model, or raise passes.memory_gib."
        )
    return found, (
        f"micro-batch {found}: {_gib(trial.bytes_of(found))} of activations, {_gib(budget)} budget"
    )


def _gib(number: float) -> str:
    return f"{max(0.0, number) / GIB:.3g} GiB"


def _to_come(runner: Runner) -> int:
    """Bytes on this rank of what the first step makes beside activations."""
    trained = [p for p in runner.parameters() if p.requires_grad]
    parts = [p.to_local() if isinstance(p, DTensor) else p for p in trained]
    return STATES * sum(part.nbytes for part in parts)


def free_memory(device: torch.device) -> int:
    """Bytes that nobody uses on a GPU; on a CPU this process's share of those of the machine."""
    if device.type == "cuda":
        # what torch has taken and does not use is free, too
        unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + unused
    for line in MEMORY.read_text().splitlines() if MEMORY.exists() else ():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024 // world_size()
    raise ConfigError(
        f"passes.micro_batch=auto cannot tell how much memory is free on {device.type} here: set "
        "passes.memory_gib, or micro_batch to a number."
    )
