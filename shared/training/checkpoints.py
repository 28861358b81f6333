"""The resume checkpoint and the best weights of a run, written so that nothing is ever lost."""

import operator
import os
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.callbacks import Checkpoint

from shared.checkpoint_file import write_checkpoint
from shared.errors import ConfigError, suggest
from shared.run_folder import BEST, LAST, PREVIOUS, STATE_KEY, Best, ResumePoint, write_best
from shared.training.config import SelectionConfig
from shared.training.preemption import Preempted, Preemption
from shared.training.sharding import whole_state


class AtomicCheckpointIO(TorchCheckpointIO):
    """Writes beside the target and renames; the checkpoint before stays, under another name."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        """Raises WriteError when the file cannot be written."""
        write_checkpoint(Path(path), checkpoint, Path(path).with_name(PREVIOUS))


class Checkpoints(Checkpoint):
    """`last.ckpt` for resuming, `best.safetensors` for the epoch that the selection prefers.

    Also stops a run that was asked to by a signal, since that is when a checkpoint is written: all
    ranks after the same step; at the end of an epoch after its validation, which Lightning would
    leave out of a run that is resumed before it.

    A Lightning `Checkpoint`, which is called when all other callbacks have counted the epoch.
    """

    def __init__(
        self,
        folder: Path,
        selection: SelectionConfig,
        every_n_steps: int,
        preemption: Preemption,
        resumed: ResumePoint | None = None,
    ) -> None:
        self.best: Best | None = resumed.best if resumed else None
        self._last, self._best_file = folder / LAST, folder / BEST
        self._selection, self._every_n_steps = selection, every_n_steps
        self._preemption = preemption
        self._damaged = resumed.damaged if resumed else None

    @property
    def state_key(self) -> str:
        return STATE_KEY

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        # Lightning has put handlers of its own before ours, which talk to other ranks on the spot
        self._preemption.install()
        if self._damaged and trainer.is_global_zero:
            # it must not take the place of the whole one when the next is written
            self._damaged.unlink(missing_ok=True)

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        if trainer.is_last_batch:
            return
        signum = self._signal(trainer)
        due = self._every_n_steps and trainer.global_step % self._every_n_steps == 0
        if due or signum:
            trainer.save_checkpoint(self._last)
        if signum:
            raise Preempted(signum)

    def on_validation_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        value = trainer.callback_metrics.get(self._selection.monitor)
        if value is None:
            raise ConfigError(
                f"selection.monitor={self._selection.monitor} is not logged. "
                f"{suggest(self._selection.monitor, map(str, trainer.callback_metrics))}"
            )
        better = operator.lt if self._selection.mode == "min" else operator.gt
        if self.best is None or better(float(value), self.best.value):
            self.best = Best(trainer.current_epoch, float(value))
            weights = whole_state(pl_module.runner.published)  # type: ignore[union-attr,arg-type]
            if trainer.is_global_zero:
                write_best(self._best_file, weights, self.best)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        trainer.save_checkpoint(self._last)
        if signum := self._signal(trainer):
            raise Preempted(signum)

    def _signal(self, trainer: pl.Trainer) -> int:
        """The signal that any rank got, or 0."""
        signum = self._preemption.signum
        if trainer.world_size == 1:
            return signum
        mine = torch.tensor(signum, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(mine, reduce_op="max"))

    def state_dict(self) -> dict[str, Any]:
        # the value is in the file of the weights, which a run that is resumed believes
        return {"best_epoch": self.best.epoch if self.best else None}
