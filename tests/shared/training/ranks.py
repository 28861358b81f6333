"""Runs a function in several processes that gloo joins.

They are forked from the one that asks, as the workers of a loader are: torch takes seconds to
import.
"""

import multiprocessing
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed as dist

TIMEOUT = 300
"""Seconds."""

FORK = multiprocessing.get_context("fork")


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What a function gives in each of `world_size` processes, in rank order.

    Args:
        world_size: Number of processes.
        function: It asks `shared.distributed` for its rank.
        *args: What the function takes.

    Returns:
        Tensors and plain data.
    """
    with TemporaryDirectory() as folder:
        processes = [
            FORK.Process(target=_run, args=(function, args, folder, world_size, rank))
            for rank in range(world_size)
        ]
        try:
            for process in processes:
                process.start()
            for process in processes:
                process.join(TIMEOUT)
            assert [process.exitcode for process in processes] == [0] * world_size
        finally:
            for process in processes:
                process.kill()
        return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(world_size)]


def _run(
    function: Callable[..., Any], args: tuple[Any, ...], folder: str, world_size: int, rank: int
) -> None:
    # a fork cannot use the threads of the process it comes from
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=world_size
    )
    torch.save(function(*args), Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()
