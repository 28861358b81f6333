"""Optimisers and learning-rate schedules from their configs."""

import math
from typing import Any

import torch
from torch import nn

from shared.training.config import OptimizerConfig, ScheduleConfig

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}
SCHEDULES = ("cosine", "constant")


def parameter_groups(module: nn.Module, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Trainable parameters in two groups: matrices and kernels decay; biases, norms and scalars
    (fewer than two dimensions) do not, unless `decay_all`."""
    decayed: list[nn.Parameter] = []
    kept: list[nn.Parameter] = []
    for parameter in module.parameters():
        if parameter.requires_grad:
            (decayed if config.decay_all or parameter.ndim >= 2 else kept).append(parameter)
    groups = [(decayed, config.weight_decay), (kept, 0.0)]
    return [{"params": params, "weight_decay": decay} for params, decay in groups if params]


def build_optimizer(module: nn.Module, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of a module."""
    settings: dict[str, Any] = {"lr": config.lr}
    if config.name != "sgd":
        settings["betas"] = tuple(config.betas)
    return OPTIMIZERS[config.name](parameter_groups(module, config), **settings)


def rate_at(step: int, total_steps: int, config: ScheduleConfig) -> float:
    """Learning rate over its peak at a step, a pure function, so that a resumed run needs no state.

    Linear warm-up, then half a cosine (SGDR, arXiv:1608.03983, eq. 5, one period) or constant.
    """
    warmup = round(total_steps * config.warmup_fraction)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.name == "constant":
        return 1.0
    progress = min(1.0, (step - warmup) / max(1, total_steps - warmup))
    return config.final_ratio + (1 - config.final_ratio) * (1 + math.cos(math.pi * progress)) / 2
