"""Progress of a run: epoch, losses, share of time spent waiting for data, time left."""

import time
from typing import Any

import lightning.pytorch as pl
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class TrainingProgress(pl.Callback):
    """A bar over all steps with an ETA, and a line an epoch (only the lines where no terminal is).

    `data` is the share of the time that the step loop waited for batches.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("step {task.completed:.0f}/{task.total:.0f}"),
            TextColumn("{task.fields[status]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._began = self._waited_before = 0.0
        self._loader: Any = None

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        total = pl_module.guard["total_steps"]
        self._task = self._bar.add_task(
            "training", total=total, completed=trainer.global_step, status=""
        )
        self._bar.start()
        self._loader = trainer.train_dataloader
        # a run resumed inside an epoch gets no on_train_epoch_start
        self._start_epoch()

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self._start_epoch()

    def _start_epoch(self) -> None:
        self._began, self._waited_before = time.perf_counter(), self._loader.wait_seconds

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        if self._console.is_terminal:
            waited = 100 * self._waited()
            self._bar.update(
                self._task,
                completed=trainer.global_step,
                description=f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}",
                status=f"loss {float(pl_module.last_output.loss.detach()):.3f} data {waited:.0f} %",
            )
        self._last_loss = pl_module.last_output.loss.detach()

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        seconds = time.perf_counter() - self._began
        left = seconds * ((trainer.max_epochs or 0) - trainer.current_epoch - 1)
        values = {k: float(v) for k, v in trainer.callback_metrics.items()}
        probes = " ".join(
            f"{name.removeprefix('probe/')} {value:.2f}"
            for name, value in values.items()
            if name.startswith("probe/")
        )
        self._console.print(
            f"epoch {trainer.current_epoch + 1:>3}/{trainer.max_epochs}"
            f"  loss {float(self._last_loss):.3f}  val {values.get('val/loss', float('nan')):.3f}"
            + (f"  probe {probes}" if probes else "")
            + f"  {seconds:.1f} s (data {100 * self._waited():.0f} %)  about {left:.0f} s left",
            highlight=False,
        )

    def teardown(self, trainer: pl.Trainer, pl_module: Any, stage: str) -> None:
        self._bar.stop()

    def on_exception(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException
    ) -> None:
        # a terminal has its cursor back before the message
        self._bar.stop()

    def _waited(self) -> float:
        """Share of this epoch's time so far spent waiting for batches."""
        elapsed = time.perf_counter() - self._began
        return float(self._loader.wait_seconds - self._waited_before) / max(elapsed, 1e-9)
