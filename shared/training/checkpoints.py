"""The resume checkpoint and the best weights of a run, written so that nothing is ever lost."""

import operator
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from shared.errors import ConfigError, DataError, WeightsError, first_line, suggest
from shared.files import atomic_path
from shared.training.config import SelectionConfig
from shared.weights import write_tensors


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames: a full disk leaves the previous checkpoint whole."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Raises DataError when the file cannot be written."""
        try:
            with atomic_path(Path(path)) as temporary:
                torch.save(checkpoint, temporary)
        except (DataError, RuntimeError) as error:
            # torch.save reports a full disk as a RuntimeError with the OSError as its context
            cause = error if isinstance(error, DataError) else error.__context__ or error
            raise DataError(
                f"The checkpoint {path} could not be written: {cause} The previous "
                "checkpoint is whole; free space and continue with `zoo train resume=…`."
            ) from error


def saved_step(path: Path) -> int:
    """The optimiser steps behind a resume checkpoint.

    Raises:
        WeightsError: It is damaged.
    """
    try:
        return int(torch.load(path, weights_only=True, map_location="cpu")["global_step"])
    except Exception as error:  # torch raises many kinds on a damaged file
        raise WeightsError(
            f"{path} is damaged ({type(error).__name__}: {first_line(error)}). The best "
            f"weights so far may be in {path.parent}; start the run anew to continue."
        ) from error


class Checkpoints(Checkpoint):
    """`last.ckpt` for resuming, `best.safetensors` for the epoch that the selection prefers.

    A Lightning `Checkpoint`, which is called when all other callbacks have counted the epoch.
    """

    def __init__(self, folder: Path, selection: SelectionConfig, every_n_steps: int) -> None:
        self.last, self.best = folder / "last.ckpt", folder / "best.safetensors"
        self._selection, self._every_n_steps = selection, every_n_steps
        self.best_value: float | None = None
        self.best_epoch: int | None = None

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        due = self._every_n_steps and trainer.global_step % self._every_n_steps == 0
        # resumed after the last step of an epoch, Lightning would leave out its validation
        if due and not trainer.is_last_batch:
            trainer.save_checkpoint(self.last)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self._selection.monitor)
        if value is None:
            raise ConfigError(
                f"selection.monitor={self._selection.monitor} is not logged. "
                f"{suggest(self._selection.monitor, map(str, trainer.callback_metrics))}"
            )
        better = operator.lt if self._selection.mode == "min" else operator.gt
        if self.best_value is None or better(float(value), self.best_value):
            self.best_value, self.best_epoch = float(value), trainer.current_epoch
            if trainer.is_global_zero:
                write_tensors(self.best, pl_module.runner.published.state_dict())  # type: ignore[union-attr,operator]

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self.last)

    def state_dict(self) -> dict[str, Any]:
        return {"best_value": self.best_value, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best_value, self.best_epoch = state["best_value"], state["best_epoch"]
