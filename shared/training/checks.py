"""Values of a training config, held against what there is before anything is read or written."""

import math
from collections.abc import Sequence
from typing import Any

from shared.devices import resolve_device
from shared.errors import ConfigError, suggest
from shared.registry import Registries
from shared.training.build import build_passes
from shared.training.config import TrainConfig
from shared.training.optimization import OPTIMIZERS, parse_rules
from shared.training.schedules import SCHEDULES
from shared.training.trainer import PRECISIONS


def check_config(config: TrainConfig, registries: Registries) -> None:
    """Raise a ConfigError for the first value that cannot be."""
    for key, value, known in (
        ("optimizer.name", config.optimizer.name, OPTIMIZERS),
        ("schedule.name", config.schedule.name, SCHEDULES),
        ("trainer.precision", config.trainer.precision, PRECISIONS),
        ("trainer.strategy", config.trainer.strategy, ("auto", "ddp")),
        ("trainer.gradient_clip_per", config.trainer.gradient_clip_per, ("run", "part")),
        ("trainer.validation_mean", config.trainer.validation_mean, ("samples", "batches")),
        ("selection.mode", config.selection.mode, ("min", "max")),
    ):
        if value not in known:
            raise ConfigError(f"{key}={value!r}. {suggest(value, known)}")
    for key, number in (
        ("loader.batch_size", config.loader.batch_size),
        ("trainer.max_epochs", config.trainer.max_epochs),
        ("trainer.devices", config.trainer.devices),
        ("trainer.num_nodes", config.trainer.num_nodes),
        ("trainer.log_every_n_steps", config.trainer.log_every_n_steps),
    ):
        if number < 1:
            raise ConfigError(f"{key}={number} must be at least 1.")
    ranges = {
        "seed": config.seed >= 0,
        "loader.num_workers": config.loader.num_workers >= 0,
        "optimizer.lr": 0 <= config.optimizer.lr < math.inf,
        "optimizer.weight_decay": 0 <= config.optimizer.weight_decay < math.inf,
        "optimizer.betas": _are_betas(config.optimizer.betas),
        "optimizer.layer_decay": config.optimizer.layer_decay > 0,
        "schedule.warmup_fraction": 0 <= config.schedule.warmup_fraction <= 1,
        "schedule.warmup_epochs": (config.schedule.warmup_epochs or 0) >= 0,
        "schedule.warmup_start": 0 <= (config.schedule.warmup_start or 0) <= 1,
        "schedule.final_ratio": 0 <= config.schedule.final_ratio <= 1,
        "schedule.final_weight_decay": (config.schedule.final_weight_decay or 0) >= 0,
        "schedule.factor": 0 < config.schedule.factor < 1,
        "schedule.patience": config.schedule.patience >= 0,
        "selection.patience": config.selection.patience is None or config.selection.patience >= 1,
        "trainer.gradient_clip_norm": _above(config.trainer.gradient_clip_norm, 0),
        "trainer.checkpoint_every_n_steps": config.trainer.checkpoint_every_n_steps >= 0,
    }
    for key, good in ranges.items():
        if not good:
            given: Any = config
            for part in key.split("."):
                given = getattr(given, part)
            raise ConfigError(f"{key}={given} is out of range.")
    if (config.schedule.warmup_epochs or 0) > config.trainer.max_epochs:
        raise ConfigError(
            f"schedule.warmup_epochs={config.schedule.warmup_epochs} is longer than the run of "
            f"trainer.max_epochs={config.trainer.max_epochs}."
        )
    if config.schedule.name == "plateau" and config.schedule.warmup_epochs is None:
        raise ConfigError("schedule.name=plateau counts epochs: set schedule.warmup_epochs, or 0.")
    parse_rules(config.optimizer)
    build_passes(config.passes)
    resolve_device(config.trainer.device)
    if config.evaluator is not None:
        registries.evaluators.entry(config.evaluator)


def _above(value: float | None, bound: float) -> bool:
    return value is None or value > bound


def _are_betas(betas: Sequence[float]) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
