"""What a run trains: model and objectives from the config."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from shared.data.dataset import Dataset
from shared.errors import ConfigError, suggest
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Objective
from shared.registry import Registries
from shared.schema import Schema
from shared.settings import check_settings, check_value
from shared.training.config import TrainConfig
from shared.training.init import load_init
from shared.training.lora import add_lora, check_not_frozen
from shared.training.optimization import freeze, parameter_scales
from shared.training.passes import PASSES, Passes
from shared.training.runner import Runner


def choose_modalities(config: TrainConfig, dataset: Dataset) -> tuple[str, ...]:
    """Modalities to train: those asked for, or those that both model and data have.

    Raises:
        ConfigError: One asked for is missing on a side, or none is left.
    """
    ours = tuple(ModelConfig.from_dict(config.model).modalities)
    both = tuple(m for m in ours if m in dataset.schemas)
    if config.modalities is None:
        if not both:
            raise ConfigError(
                f"The model takes {', '.join(ours)}; {dataset.name} gives "
                f"{', '.join(dataset.schemas)}: nothing in common."
            )
        return both
    for modality in config.modalities:
        if modality not in both:
            raise ConfigError(
                f"modalities: {modality!r} must be one of the model's ({', '.join(ours)}) and of "
                f"the data's ({', '.join(dataset.schemas)}). {suggest(modality, both)}"
            )
    return tuple(config.modalities)


def build_objectives(
    config: Mapping[str, Any], modalities: Sequence[str], registries: Registries
) -> tuple[dict[str, Objective], dict[str, float]]:
    """Objectives and their weights, by the name of the term in the config."""
    objectives, weights = {}, {}
    for term, node in config.items():
        settings = {k: v for k, v in node.items() if k not in ("name", "weight")}
        where = f"objective.{term}"
        objectives[term] = registries.objectives.build(node["name"], where, modalities, **settings)
        objectives[term].load(registries)
        weight = node.get("weight", 1.0)
        check_value(weight, float, f"{where}.weight")
        if not 0 <= weight < math.inf:
            raise ConfigError(f"{where}.weight={weight} has to be 0 or more.")
        weights[term] = float(weight)
    if not objectives:
        raise ConfigError("objective is empty: choose one, such as objective=[contrastive].")
    return objectives, weights


def build_passes(config: Mapping[str, Any]) -> Passes:
    """How steps are run, from `name` and settings.

    Raises:
        ConfigError: An unknown name or setting.
    """
    name = str(config.get("name"))
    if name not in PASSES:
        raise ConfigError(f"passes.name={name!r}. {suggest(name, PASSES)}")
    settings = {k: v for k, v in config.items() if k != "name"}
    check_settings(PASSES[name], (), settings, "passes")
    return PASSES[name](**settings)


def build_runner(config: TrainConfig, dataset: Dataset, registries: Registries) -> Runner:
    """What a run trains on a dataset, with fresh weights or those of `config.init`."""
    modalities = choose_modalities(config, dataset)
    node = {**config.model, "modalities": {m: config.model["modalities"][m] for m in modalities}}
    if node.get("classifier") is not None:
        node["classifier"] = _with_classes(node["classifier"], dataset)
    return assemble(config, node, dataset.schemas, registries)


def _with_classes(node: Mapping[str, Any], dataset: Dataset) -> dict[str, Any]:
    """A classifier's config with the classes of the data.

    Raises:
        ConfigError: The data have none, or others than the config says.
    """
    if not dataset.classes:
        raise ConfigError(
            f"model.classifier: {dataset.name} has no labels. Set model.classifier=null."
        )
    known = {"num_classes": len(dataset.classes), "classes": list(dataset.classes)}
    for key, value in known.items():
        if node.get(key) not in (None, value):
            raise ConfigError(
                f"model.classifier.{key}={node[key]}, and {dataset.name} has "
                f"{len(dataset.classes)} classes ({', '.join(dataset.classes)}). Leave it out."
            )
    return {**node, **known}


def assemble(
    config: TrainConfig,
    model: Mapping[str, Any],
    schemas: Mapping[str, Schema],
    registries: Registries,
) -> Runner:
    """Model and objectives of a run; weights are a function of the seed, or those of `config.init`.

    Args:
        config: Of the run.
        model: Config of the model, with the modalities to train.
        schemas: What the data give, by modality.
        registries: Where names are found.
    """
    parsed = ModelConfig.from_dict(dict(model))
    objectives, weights = build_objectives(config.objective, tuple(parsed.modalities), registries)
    scalars = merge_scalars(objectives)
    torch.manual_seed(config.seed)
    built = Model.build(parsed, schemas, registries, scalars)
    start = load_init(built, config.init)
    if config.lora is not None:
        add_lora(built, config.lora)
    runner = Runner(built, objectives, weights, start)
    freeze(runner, config.optimizer.frozen)
    if config.lora is not None:
        check_not_frozen(built, config.lora)
    # a rule that matches nothing speaks before anything is written
    parameter_scales(runner, config.optimizer)
    return runner


def merge_scalars(objectives: Mapping[str, Objective]) -> dict[str, float]:
    """Learned scalars of all objectives with their initial values.

    Raises:
        ConfigError: Two want the same one to start differently.
    """
    scalars: dict[str, float] = {}
    for term, objective in objectives.items():
        for name, value in objective.model_scalars().items():
            if scalars.setdefault(name, value) != value:
                raise ConfigError(
                    f"objective.{term} starts {name} at {math.exp(value):g}, and another objective "
                    f"of this run shares it and starts at {math.exp(scalars[name]):g}. Give both "
                    "the same initial_scale, or one of them scale=pair."
                )
    return scalars
