"""How the processes of a run work together."""

from datetime import timedelta
from pathlib import Path
from typing import Any

from lightning.pytorch.strategies import (
    DDPStrategy,
    ModelParallelStrategy,
    ParallelStrategy,
    Strategy,
)
from torch import Tensor

from shared.training.config import TrainerConfig
from shared.training.launcher import Launcher
from shared.training.sharding import average_whole_gradients


class _Joined(ParallelStrategy):
    """Processes of a run, in `folder`, that end together."""

    folder: Path

    def _configure_launcher(self: Any) -> None:
        self._launcher = Launcher(
            self.cluster_environment, self.num_processes, self.num_nodes, self.folder
        )


class JoinedDDP(_Joined, DDPStrategy):
    """DDP."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        super().__init__(**settings)
        self.folder = folder


class Sharded(_Joined, ModelParallelStrategy):
    """FSDP over all processes; checkpoints are whole, as of one process."""

    def __init__(self, folder: Path, processes: int, **settings: Any) -> None:
        super().__init__(
            data_parallel_size=processes,
            tensor_parallel_size=1,
            save_distributed_checkpoint=False,
            **settings,
        )
        self.folder = folder

    def post_backward(self, closure_loss: Tensor) -> None:
        assert self.lightning_module is not None
        average_whole_gradients(self.lightning_module)


def build_strategy(options: TrainerConfig, folder: Path) -> str | Strategy:
    """What Lightning's trainer takes as `strategy`.

    Args:
        options: Of the trainer; `auto` is `ddp` for several processes.
        folder: Of the run.
    """
    if options.strategy == "auto" and options.devices * options.num_nodes == 1:
        return "auto"
    timeout = timedelta(seconds=options.timeout)
    if options.strategy == "fsdp":
        return Sharded(folder, options.devices * options.num_nodes, timeout=timeout)
    return JoinedDDP(folder, timeout=timeout)
