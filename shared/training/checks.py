"""Values of a training config, held against what there is before anything is read or written."""

from collections.abc import Sequence

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
        "optimizer.lr": config.optimizer.lr >= 0,
        "optimizer.weight_decay": config.optimizer.weight_decay >= 0,
        "optimizer.betas": _are_betas(config.optimizer.betas),
        "optimizer.layer_decay": config.optimizer.layer_decay > 0,
        "schedule.warmup_fraction": 0 <= config.schedule.warmup_fraction <= 1,
        "schedule.warmup_epochs": (config.schedule.warmup_epochs or 0) >= 0,
        "schedule.factor": 0 < config.schedule.factor < 1,
        "schedule.patience": config.schedule.patience >= 0,
    }
    for key, good in ranges.items():
        if not good:
            raise ConfigError(f"{key} is out of range: see `zoo train --dry-run`.")
    if config.schedule.name == "plateau" and config.schedule.warmup_epochs is None:
        raise ConfigError("schedule.name=plateau counts epochs: set schedule.warmup_epochs, or 0.")
    parse_rules(config.optimizer)
    build_passes(config.passes)
    resolve_device(config.trainer.device)
    if config.evaluator is not None:
        registries.evaluators.entry(config.evaluator)


def _are_betas(betas: Sequence[float]) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
