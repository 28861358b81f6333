"""Trainings of two processes on the CPU, replicated or cut up over both; for `run_ranks`.

`zoo train` refuses FSDP without GPUs, so the trainer is put together here as `run.py` does it.
"""

import os
import signal
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
from torch.distributed.tensor import DTensor

from shared.data.build import build_dataset
from shared.data.prepared import PreparedDataset
from shared.distributed import rank, world_size
from shared.run_folder import resume_point
from shared.training.build import build_passes, build_runner
from shared.training.checkpoints import Checkpoints
from shared.training.config import TrainConfig
from shared.training.module import PretrainModule
from shared.training.preemption import Preempted, Preemption
from shared.training.run import choose_rows
from shared.training.trainer import Loaders, build_trainer
from zoo.config import compose_config, typed
from zoo.plugins import plugins


class StopAt(pl.Callback):
    """Sends the signal of a cluster that wants its machines back."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.global_step == self.step and rank() == 1:
            os.kill(os.getpid(), signal.SIGTERM)


def train(settings: list[str], folder: Path, stop: int | None = None, resume: bool = False) -> bool:
    """Train; the checkpoints are in the folder. → whether the weights were cut up."""
    config = typed(TrainConfig, compose_config("train", settings))
    registries = plugins().registries
    dataset = build_dataset(config.data, registries)
    runner = build_runner(config, dataset, registries)
    splits = choose_rows(dataset, config)
    data = PreparedDataset(dataset, runner.model.preprocessors, config.seed)
    data.fit_preprocessors(splits["train"].tolist())
    data.load(sorted(np.concatenate(list(splits.values())).tolist()))
    loaders = Loaders(config, data, splits)
    guard = {"total_steps": loaders.steps_per_epoch * config.trainer.max_epochs}
    module = PretrainModule(runner, build_passes(config.passes), config, guard)
    point = resume_point(folder) if resume else None
    callbacks = [] if stop is None else [StopAt(stop)]
    path = str(point.path) if point else None
    with Preemption() as preemption:
        checkpoints = Checkpoints(folder / "checkpoints", config.selection, 0, preemption, point)
        trainer = build_trainer(config, folder, [*callbacks, checkpoints])
        preemption.defer(True)
        try:
            trainer.fit(module, datamodule=loaders, ckpt_path=path, weights_only=True)
            assert stop is None
        except Preempted:
            assert stop is not None
    return any(isinstance(p, DTensor) for p in runner.parameters())


def train_all(runs: Mapping[str, list[str]], folder: str) -> list[bool]:
    """Every run replicated (`NAME-ddp`), cut up (`NAME-fsdp`), and cut up, stopped after two steps
    and resumed (`NAME-resumed`). → which of them were cut up."""
    os.environ |= {"LOCAL_RANK": str(rank()), "WORLD_SIZE": str(world_size()), "NODE_RANK": "0"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"}
    warnings.filterwarnings("ignore")
    cut = []
    for name, settings in runs.items():
        replicated, sharded = ([*settings, f"trainer.strategy={s}"] for s in ("ddp", "fsdp"))
        stopped = Path(folder, f"{name}-resumed")
        cut.append(train(replicated, Path(folder, f"{name}-ddp")))
        cut.append(train(sharded, Path(folder, f"{name}-fsdp")))
        train(sharded, stopped, stop=2)
        cut.append(train(sharded, stopped, resume=True))
    return cut
