"""The Lightning trainer of a run and the loaders it is fed from."""

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from lightning.pytorch.callbacks import Checkpoint, EarlyStopping

from shared.data.prepared import PreparedDataset
from shared.devices import resolve_device
from shared.distributed import started_rank
from shared.training.checkpoints import AtomicCheckpointIO
from shared.training.config import SelectionConfig, TrainConfig
from shared.training.loader import CountedLoader
from shared.training.logs import Curves, MetricsCSV
from shared.training.strategies import build_strategy

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
ACCELERATORS = {"cuda": "gpu"}


class Loaders(pl.LightningDataModule):
    """The two loaders, made when the trainer knows its rank."""

    def __init__(self, config: TrainConfig, data: PreparedDataset, splits: Mapping[str, Any]):
        super().__init__()
        self._config, self._data, self._splits = config, data, splits
        self.train_loader = self._loader("train")

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_loader)

    def setup(self, stage: str) -> None:
        self.train_loader = self._loader("train")

    def train_dataloader(self) -> CountedLoader:
        return self.train_loader

    def val_dataloader(self) -> CountedLoader:
        return self._loader("val")

    def _loader(self, split: str) -> CountedLoader:
        config, trainer = self._config, self.trainer
        return CountedLoader(
            self._data,
            self._splits[split],
            config.loader.batch_size,
            position=self._position if split == "train" else None,
            seed=config.seed,
            num_workers=config.loader.num_workers,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )

    def _position(self) -> tuple[int, int]:
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        return self.trainer.current_epoch, progress.current.ready


class Stopping(EarlyStopping):
    """Early stopping that holds for a run that is resumed after it stopped."""

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.should_stop |= self.wait_count >= self.patience


class FirstEpochCounts(Stopping):
    """Early stopping that counts the first epoch as one without improvement, as AstroM3's code."""

    # where Lightning judges when every epoch has one validation
    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        first = not self.best_score.isfinite()
        super().on_train_epoch_end(trainer, pl_module)
        if first:
            self.wait_count = 1
            trainer.should_stop |= self.wait_count >= self.patience


def early_stopping(config: SelectionConfig) -> list[pl.Callback]:
    """The callback that stops a run, or none."""
    if config.patience is None:
        return []
    kind = FirstEpochCounts if config.first_epoch_counts else Stopping
    # always the loss: what selects an epoch may be a coarser figure
    return [kind("val/loss", patience=config.patience, mode="min", verbose=False)]


def build_trainer(
    config: TrainConfig, folder: Path, callbacks: list[pl.Callback], step: int | None = None
) -> pl.Trainer:
    """The trainer of a run.

    Args:
        config: Of the run.
        folder: Where logs are written.
        callbacks: What else acts in the loop.
        step: The optimiser steps behind the checkpoint that the run resumes; logs after them go.
    """
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning's own use of torch's pytree, which its user can do nothing about
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*", FutureWarning)
    # teachers are in eval mode for good
    warnings.filterwarnings("ignore", "Found .* module.* in eval mode at the start")
    # terms are averaged over ranks, so every rank logs the same value
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")
    options = config.trainer
    device = resolve_device(options.device).type
    metrics = MetricsCSV(folder / "metrics.csv")
    if step is not None and started_rank(options.devices, options.num_nodes) == 0:
        metrics.rewind(step)
    return pl.Trainer(
        # where Lightning looks for checkpoints of its own making, before it takes ours
        default_root_dir=folder,
        max_epochs=options.max_epochs,
        accelerator=ACCELERATORS.get(device, device),
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=build_strategy(options, folder),
        precision=PRECISIONS[options.precision],  # type: ignore[arg-type]
        logger=[
            metrics,
            Curves(
                folder,
                name="",
                version="tensorboard",
                # the first step that TensorBoard hides
                purge_step=None if step is None else step + 1,
            ),
        ],
        callbacks=[*callbacks, *early_stopping(config.selection)],
        plugins=[AtomicCheckpointIO()],
        # without one of ours, Lightning would add its own
        enable_checkpointing=any(isinstance(callback, Checkpoint) for callback in callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # the module decides; Lightning only warns
        use_distributed_sampler=False,
    )
