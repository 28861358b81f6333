"""The LightningModule: thin glue between the runner and the trainer."""

import random
from collections.abc import Callable, Mapping
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch.distributed.fsdp import FSDPModule

from shared.data.batch import Batch
from shared.errors import ConfigError
from shared.objectives.base import Position, Term
from shared.training.config import TrainConfig
from shared.training.optimization import build_optimizer, set_rates
from shared.training.passes import Passes
from shared.training.runner import Runner, StepOutput
from shared.training.schedules import Plateau, rate_at
from shared.training.sharding import clip_gradients, shard


class TermSums:
    """Adds up terms over batches, so that means weigh every sample the same."""

    def __init__(self) -> None:
        self._sums: dict[str, tuple[float, float]] = {}

    def add(self, terms: Mapping[str, Term]) -> None:
        for name, term in terms.items():
            total, count = self._sums.get(name, (0.0, 0.0))
            self._sums[name] = (total + float(term.total), count + float(term.count))

    def means(self) -> dict[str, float]:
        """By name; a term in which nothing counted is left out."""
        return {name: total / count for name, (total, count) in self._sums.items() if count}


class PretrainModule(pl.LightningModule):
    """Runs the passes, steps the optimiser and logs.

    What a step draws for the batch or inside the model comes from a state set by (seed, epoch,
    batch, rank), so what validation, logging or probes draw cannot disturb training. What it draws
    for a sample is a function of `batch.seeds`.
    """

    def __init__(
        self,
        runner: Runner,
        passes: Passes,
        config: TrainConfig,
        guard: Mapping[str, Any],
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        """`guard` holds what a checkpoint must agree on with the run that resumes it; among them
        `total_steps`, over which the schedules run. `say` shows a line."""
        super().__init__()
        self.automatic_optimization = False
        self.runner, self.passes, self.config, self.guard = runner, passes, config, dict(guard)
        self._say = say
        self.last_output: StepOutput | None = None
        self._plateau = Plateau(config.schedule) if config.schedule.name == "plateau" else None
        self._validation = TermSums()
        self._batch_losses: list[float] = []
        self._term_weights: dict[str, float] = {}

    def configure_model(self) -> None:
        # where a strategy of several processes wants the weights cut up
        if self.device_mesh is not None and not isinstance(self.runner, FSDPModule):
            shard(self.runner, self.device_mesh["data_parallel"])

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return build_optimizer(self.runner, self.config.optimizer)

    @property
    def position(self) -> Position:
        """Where in the run the next step is."""
        total = self.guard["total_steps"]
        return Position(self.global_step, total, total // self.config.trainer.max_epochs)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        self._seed(self.current_epoch, batch_idx)

    def on_validation_batch_start(
        self, batch: Batch, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        # views and dropout-like draws are the same in every validation
        self._seed(batch_idx)

    def _seed(self, *keys: int) -> None:
        keys = (self.config.seed, *keys, self.global_rank)
        seed = int(np.random.SeedSequence(keys).generate_state(1)[0])
        torch.manual_seed(seed)
        # whatever an encoder of others draws from
        np.random.seed(seed)
        random.seed(seed)

    def training_step(self, batch: Batch, batch_idx: int) -> None:
        optimizer = self.optimizers()
        assert not isinstance(optimizer, list)
        position = self.position
        rate = rate_at(position, self.config.schedule)
        rate *= self._plateau.rate if self._plateau else 1.0
        set_rates(optimizer.optimizer, rate, position, self.config.optimizer, self.config.schedule)
        optimizer.zero_grad()
        self._prepare(batch, position)
        output = self.passes(self.runner, batch, position, self.manual_backward)
        if self.last_output is None and self.trainer.world_size > 1:
            self._check_reached()
        self._clip_gradients()
        optimizer.step()
        self.runner.after_step(position)
        self.last_output = output
        if self.global_step % self.config.trainer.log_every_n_steps == 0:
            self._log_step(output, self.config.optimizer.lr * rate)

    def _prepare(self, batch: Batch, position: Position) -> None:
        """Let the passes find out what only a batch can tell them; keep and show it."""
        if found := self.passes.prepare(self.runner, batch, position):
            self._say(found)
            for logger in self.loggers:
                logger.log_metrics(dict(self.passes.state_dict()), self.global_step)

    def _check_reached(self) -> None:
        """Raise a ConfigError for what DDP would wait for in the next step, in words of its own."""
        named = self.runner.named_parameters()
        unreached = [name for name, p in named if p.requires_grad and p.grad is None]
        if unreached:
            raise ConfigError(
                f"No objective's loss depends on {', '.join(unreached[:3])}"
                f"{', …' if len(unreached) > 3 else ''} ({len(unreached)} parameters), which "
                "several processes cannot train. Leave them out of the model, or freeze them: "
                f"'optimizer.frozen=[{unreached[0]}]'."
            )

    def _clip_gradients(self) -> None:
        norm = self.config.trainer.gradient_clip_norm
        if norm is None:
            return
        parts: list[torch.nn.Module] = [self.runner]
        if self.config.trainer.gradient_clip_per == "part":
            parts = self.runner.parts()
        for part in parts:
            clip_gradients(part.parameters(), norm)

    def _log_step(self, output: StepOutput, rate: float) -> None:
        values = {"train/loss": output.value, "train/lr": rate}
        values |= {f"train/{name}": float(term.mean) for name, term in output.terms.items()}
        for name, value in self.runner.model.scalars.items():
            values[f"train/{name}"] = float(value.detach())
        for logger in self.loggers:
            logger.log_metrics(values, self.global_step)
        self._check_finite(values["train/loss"])

    def _check_finite(self, loss: float) -> None:
        if not np.isfinite(loss):
            raise ConfigError(
                f"The loss is {loss} at step {self.global_step}: training has diverged. Lower "
                "optimizer.lr, or set trainer.gradient_clip_norm."
            )

    def on_validation_epoch_start(self) -> None:
        self._validation, self._batch_losses = TermSums(), []

    def validation_step(self, batch: Batch, batch_idx: int) -> None:
        batch = self.runner.make_views(batch)
        chunking = self.passes.chunking
        output: StepOutput = self.runner(batch, self.position, chunking, with_metrics=True)
        self._validation.add({**output.terms, **output.metrics})
        self._batch_losses.append(output.value)
        self._term_weights = {name: term.weight for name, term in output.terms.items()}
        self.last_output = output

    def on_validation_epoch_end(self) -> None:
        means = self._validation.means()
        loss = sum(means.get(name, 0.0) * weight for name, weight in self._term_weights.items())
        if self.config.trainer.validation_mean == "batches":
            loss = float(np.mean(self._batch_losses))
        # before any weights are kept: not every step's loss is looked at
        self._check_finite(loss)
        if self._plateau and self.current_epoch >= (self.config.schedule.warmup_epochs or 0):
            self._plateau.step(loss)
        values = {"val/loss": loss, **{f"val/{name}": mean for name, mean in means.items()}}
        for name, value in values.items():
            self.log(name, value, logger=False)
        for logger in self.loggers:
            logger.log_metrics(values, self.global_step)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        # a resumed run logs what comes after the checkpoint, and nothing before it
        for logger in self.loggers:
            logger.save()
        checkpoint["guard"] = self.guard
        checkpoint["passes"] = self.passes.state_dict()
        if self._plateau:
            checkpoint["plateau"] = self._plateau.state_dict()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["guard"]
        for key in {**saved, **self.guard}:
            was, now = saved.get(key), self.guard.get(key)
            if was != now:
                raise ConfigError(
                    f"The checkpoint cannot be continued exactly: {key} was {was!r} and is {now!r} "
                    "now. Go on with what it was, or start a new run from its weights: "
                    "init.weights=RUN."
                )
        # what other versions of this package wrote has none
        self.passes.load_state_dict(checkpoint.get("passes", {}))
        if self._plateau:
            self._plateau.load_state_dict(checkpoint["plateau"])
