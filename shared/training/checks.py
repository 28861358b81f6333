"""Values of a training config, held against what there is before anything is read or written."""

import math
import os
from collections.abc import Sequence
from typing import Any

import torch

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
        ("trainer.strategy", config.trainer.strategy, ("auto", "ddp", "fsdp")),
        ("trainer.gradient_clip_per", config.trainer.gradient_clip_per, ("run", "part")),
        ("trainer.validation_mean", config.trainer.validation_mean, ("samples", "batches")),
        ("selection.mode", config.selection.mode, ("min", "max")),
    ):
        if value not in known:
            raise ConfigError(f"{key}={value!r}. {suggest(value, known)}")
    for key, number in (
        ("loader.batch_size", config.loader.batch_size),
        ("loader.first_samples", config.loader.first_samples),
        ("trainer.max_epochs", config.trainer.max_epochs),
        ("trainer.devices", config.trainer.devices),
        ("trainer.num_nodes", config.trainer.num_nodes),
        ("trainer.log_every_n_steps", config.trainer.log_every_n_steps),
    ):
        if number < 1:
            raise ConfigError(f"{key}={number} must be at least 1.")
    schedule, optimizer, trainer = config.schedule, config.optimizer, config.trainer
    for key, good, allowed in (
        ("seed", config.seed >= 0, "0 or more"),
        ("loader.num_workers", config.loader.num_workers >= 0, "0 or more"),
        ("loader.label_fraction", 0 < config.loader.label_fraction <= 1, "above 0, at most 1"),
        ("optimizer.lr", 0 <= optimizer.lr < math.inf, "0 or more, finite"),
        ("optimizer.weight_decay", 0 <= optimizer.weight_decay < math.inf, "0 or more, finite"),
        ("optimizer.betas", _are_betas(optimizer.betas), "two numbers from 0 to below 1"),
        ("optimizer.eps", 0 < optimizer.eps < 1, "above 0 and below 1"),
        ("optimizer.layer_decay", optimizer.layer_decay > 0, "above 0"),
        ("schedule.warmup_fraction", 0 <= schedule.warmup_fraction <= 1, "from 0 to 1"),
        ("schedule.warmup_epochs", (schedule.warmup_epochs or 0) >= 0, "0 or more"),
        ("schedule.warmup_steps", (schedule.warmup_steps or 0) >= 0, "0 or more"),
        ("schedule.warmup_start", 0 <= (schedule.warmup_start or 0) <= 1, "from 0 to 1"),
        ("schedule.final_ratio", 0 <= schedule.final_ratio <= 1, "from 0 to 1"),
        ("schedule.final_weight_decay", (schedule.final_weight_decay or 0) >= 0, "0 or more"),
        ("schedule.factor", 0 < schedule.factor < 1, "between 0 and 1"),
        ("schedule.patience", schedule.patience >= 0, "0 or more"),
        ("selection.patience", _above(config.selection.patience, 0), "1 or more, or null"),
        (
            "trainer.gradient_clip_norm",
            _above(config.trainer.gradient_clip_norm, 0),
            "above 0, or null",
        ),
        ("trainer.timeout", 0 < trainer.timeout < 1e9, "above 0, in seconds"),
        (
            "trainer.checkpoint_every_n_steps",
            config.trainer.checkpoint_every_n_steps >= 0,
            "0 or more",
        ),
    ):
        if not good:
            given: Any = config
            for part in key.split("."):
                given = getattr(given, part)
            raise ConfigError(f"{key}={given} has to be {allowed}.")
    if (config.schedule.warmup_epochs or 0) > config.trainer.max_epochs:
        raise ConfigError(
            f"schedule.warmup_epochs={config.schedule.warmup_epochs} is longer than the run of "
            f"trainer.max_epochs={config.trainer.max_epochs}."
        )
    if schedule.warmup_steps is not None and schedule.warmup_epochs is not None:
        raise ConfigError(
            f"schedule.warmup_steps={schedule.warmup_steps} and schedule.warmup_epochs="
            f"{schedule.warmup_epochs} both say how long the warm-up is: set one to null."
        )
    if config.schedule.name == "plateau" and config.schedule.warmup_epochs is None:
        raise ConfigError("schedule.name=plateau counts epochs: set schedule.warmup_epochs, or 0.")
    parse_rules(config.optimizer)
    build_passes(config.passes)
    check_processes(config)
    if config.lora is not None:
        _check_lora(config)
    if config.evaluator is not None:
        registries.evaluators.entry(config.evaluator)


def check_processes(config: TrainConfig) -> None:
    """Raise a ConfigError for more processes than devices, samples of a batch or, by torchrun,
    processes that were started; for FSDP without GPUs."""
    trainer = config.trainer
    processes = trainer.devices * trainer.num_nodes
    device = resolve_device(trainer.device).type
    if trainer.strategy == "fsdp" and trainer.channels_last:
        raise ConfigError(
            "trainer.channels_last and trainer.strategy=fsdp do not go together: FSDP cuts up "
            "weights in torch's own memory format only. Leave one of them out."
        )
    if trainer.strategy == "fsdp" and device != "cuda":
        raise ConfigError(
            f"trainer.strategy=fsdp needs GPUs, one a process, and this run is on {device}. Use "
            "trainer=ddp, or a machine with GPUs (`zoo doctor` shows them)."
        )
    there = {"cuda": torch.cuda.device_count(), "mps": 1}.get(device, trainer.devices)
    if trainer.devices > there:
        raise ConfigError(
            f"trainer.devices={trainer.devices}: this machine has {there} of {device}. Choose at "
            "most as many, or trainer.device=cpu."
        )
    if config.loader.batch_size < processes:
        raise ConfigError(
            f"loader.batch_size={config.loader.batch_size} counts the samples of all {processes} "
            "processes (trainer.devices · trainer.num_nodes) together: it has to be as large."
        )
    started = os.environ.get("WORLD_SIZE")
    if "TORCHELASTIC_RUN_ID" in os.environ and started != str(processes):
        raise ConfigError(
            f"torchrun has started {started} processes, and trainer.devices={trainer.devices} "
            f"trainer.num_nodes={trainer.num_nodes} are {processes}. Set them to torchrun's "
            "--nproc-per-node and --nnodes."
        )


def _check_lora(config: TrainConfig) -> None:
    """Raise a ConfigError for what LoRA cannot be told, or where there is nothing to adapt."""
    lora = config.lora
    assert lora is not None
    for key, good, allowed in (
        ("rank", lora.rank >= 1, "at least 1"),
        ("alpha", 0 < lora.alpha < math.inf, "above 0 and finite"),
        ("dropout", 0 <= lora.dropout < 1, "from 0 to below 1"),
        ("modalities", lora.modalities != [], "null, or name at least one"),
    ):
        if not good:
            raise ConfigError(f"lora.{key}={getattr(lora, key)} has to be {allowed}.")
    if config.init.weights is None:
        raise ConfigError(
            "lora adapts weights that stand still otherwise: name them by init.weights=RUN, or set "
            "lora=null."
        )
    if config.trainer.strategy == "fsdp":
        raise ConfigError("lora and trainer.strategy=fsdp do not go together: use trainer=ddp.")


def _above(value: float | None, bound: float) -> bool:
    return value is None or value > bound


def _are_betas(betas: Sequence[float]) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)
