"""Runs a function in several processes that gloo joins; without Lightning, slow to import.

Loaded with `runpy.run_path`, and run as a script in each of the processes.
"""

import inspect
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import distributed as dist

TIMEOUT = 300
"""Seconds."""


def run_ranks(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What a function gives in each of `world_size` processes, in rank order.

    Args:
        world_size: Number of processes.
        function: Of a file that can be run by itself; it asks `shared.distributed` for its rank.
        *args: Tensors and plain data, as the result has to be.
    """
    with TemporaryDirectory() as folder:
        torch.save(args, Path(folder, "arguments.pt"))
        command = [sys.executable, __file__, inspect.getfile(function), function.__name__, folder]
        processes = [
            subprocess.Popen([*command, str(world_size), str(rank)]) for rank in range(world_size)
        ]
        try:
            assert not any([process.wait(timeout=TIMEOUT) for process in processes])
        finally:
            for process in processes:
                process.kill()
        return [torch.load(Path(folder, f"{rank}.pt")) for rank in range(world_size)]


def main(file: str, name: str, folder: str, world_size: str, rank: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{folder}/store",
        rank=int(rank),
        world_size=int(world_size),
    )
    args = torch.load(Path(folder, "arguments.pt"))
    torch.save(runpy.run_path(file)[name](*args), Path(folder, f"{rank}.pt"))
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
