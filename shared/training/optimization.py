"""Optimisers and their parameter groups from the config."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from shared.errors import ConfigError
from shared.objectives.base import Position
from shared.settings import check_fields
from shared.training.config import OptimizerConfig, ParameterRule, ScheduleConfig
from shared.training.runner import Runner
from shared.training.schedules import decay_at

OPTIMIZERS: dict[str, type[torch.optim.Optimizer]] = {
    "adamw": torch.optim.AdamW,
    "adam": torch.optim.Adam,
    "sgd": torch.optim.SGD,
}


@dataclass(frozen=True)
class Scales:
    """What distinguishes a group: its factors over the run's learning rate and weight decay."""

    lr: float
    weight_decay: float
    freeze_epochs: int


def parse_rules(config: OptimizerConfig) -> list[ParameterRule]:
    """The rules of a config.

    Raises:
        ConfigError: A key or value that is none of a rule's.
    """
    rules = []
    for number, node in enumerate(config.rules):
        where = f"optimizer.rules[{number}]"
        check_fields(ParameterRule, node, where)
        rules.append(ParameterRule(**node))
        if min(rules[-1].lr_scale, rules[-1].weight_decay_scale, rules[-1].freeze_epochs) < 0:
            raise ConfigError(f"{where}: scales and epochs cannot be negative.")
    return rules


def freeze(runner: nn.Module, patterns: list[str]) -> None:
    """Take the matching parameters out of training; before the optimiser and DDP see them.

    Raises:
        ConfigError: A pattern that matches nothing.
    """
    names = [name for name, _ in runner.named_parameters()]
    for pattern in patterns:
        _require_match(pattern, names, "optimizer.frozen")
    for name, parameter in runner.named_parameters():
        if any(fnmatchcase(name, pattern) for pattern in patterns):
            parameter.requires_grad_(False)
    runner.train(runner.training)


def parameter_scales(runner: Runner, config: OptimizerConfig) -> dict[str, Scales]:
    """By name of each trainable parameter.

    Matrices and kernels decay; biases, norms and scalars (fewer than two dimensions) do not, unless
    `decay_all`.

    Raises:
        ConfigError: A rule that matches nothing.
    """
    named = [(n, p) for n, p in runner.named_parameters() if p.requires_grad]
    rules = parse_rules(config)
    for rule in rules:
        _require_match(rule.match, [name for name, _ in named], "optimizer.rules")
    layered = any(hasattr(encoder, "layer_id") for encoder in runner.model.encoders.values())
    if config.layer_decay != 1 and not layered:
        raise ConfigError(
            f"optimizer.layer_decay={config.layer_decay}: no encoder of the model numbers its "
            "layers, as vit does."
        )
    scales = {}
    for name, parameter in named:
        lr = _layer_scale(runner, name, config.layer_decay)
        decay = 1.0 if config.decay_all or parameter.ndim >= 2 else 0.0
        frozen = 0
        for rule in rules:
            if fnmatchcase(name, rule.match):
                lr, decay = lr * rule.lr_scale, decay * rule.weight_decay_scale
                frozen = max(frozen, rule.freeze_epochs)
        scales[name] = Scales(lr, decay, frozen)
    return scales


def _require_match(pattern: str, names: list[str], where: str) -> None:
    if not any(fnmatchcase(name, pattern) for name in names):
        raise ConfigError(
            f"{where}: no parameter matches {pattern!r}. There are, for example, "
            f"{', '.join(names[:: max(1, len(names) // 5)])}."
        )


def _layer_scale(runner: Runner, name: str, layer_decay: float) -> float:
    """layer_decay to the power of how far a layer is below the end of its encoder."""
    for modality, encoder in runner.model.encoders.items():
        prefix = f"model.encoders.{modality}."
        if layer_decay != 1 and name.startswith(prefix) and hasattr(encoder, "layer_id"):
            layer = cast(Any, encoder).layer_id(name.removeprefix(prefix))
            return float(layer_decay ** (cast(Any, encoder).depth + 1 - layer))
    return 1.0


def parameter_groups(runner: Runner, config: OptimizerConfig) -> list[dict[str, Any]]:
    """Trainable parameters by their scales, as torch's optimisers take them."""
    groups: dict[tuple[Scales, bool], list[nn.Parameter]] = {}
    parameters = dict(runner.named_parameters())
    for name, scales in parameter_scales(runner, config).items():
        parameter = parameters[name]
        # an optimiser cannot take what is cut up over ranks and what is whole at once
        groups.setdefault((scales, isinstance(parameter, DTensor)), []).append(parameter)
    return [
        {
            "params": params,
            "weight_decay": config.weight_decay * scales.weight_decay,
            "lr": config.lr * scales.lr,
            "scales": (scales.lr, scales.weight_decay, scales.freeze_epochs),
        }
        for (scales, _), params in groups.items()
    ]


def build_optimizer(runner: Runner, config: OptimizerConfig) -> torch.optim.Optimizer:
    """The optimiser of a run."""
    groups = parameter_groups(runner, config)
    if not groups:
        raise ConfigError("optimizer.frozen leaves no parameter to train.")
    settings: dict[str, Any] = {"lr": config.lr}
    if config.name != "sgd":
        settings |= {"betas": tuple(config.betas), "eps": config.eps}
    # one kernel a group of weights instead of one an operation; on CPUs torch's default stays
    settings["fused"] = all(p.is_cuda for group in groups for p in group["params"]) or None
    return OPTIMIZERS[config.name](groups, **settings)


def set_rates(
    optimizer: torch.optim.Optimizer,
    rate: float,
    position: Position,
    config: OptimizerConfig,
    schedule: ScheduleConfig,
) -> None:
    """Write the learning rate and weight decay of a step into every group.

    Args:
        optimizer: From `build_optimizer`.
        rate: Learning rate over its peak.
        position: Of the step.
        config: Of the optimiser.
        schedule: Of the run.
    """
    decay = decay_at(position, config.weight_decay, schedule)
    for group in optimizer.param_groups:
        lr_scale, decay_scale, freeze_epochs = group["scales"]
        frozen = position.step < freeze_epochs * position.steps_per_epoch
        group["lr"] = 0.0 if frozen else config.lr * rate * lr_scale
        group["weight_decay"] = decay * decay_scale
