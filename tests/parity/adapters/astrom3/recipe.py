"""Objectives as the config files set them."""

from collections.abc import Sequence

from shared.objectives.base import Objective
from shared.training.build import build_objectives
from shared.training.config import TrainConfig
from zoo.config import compose_config, typed
from zoo.plugins import plugins

LETTERS = {"photometry": "p", "spectra": "s", "metadata": "m"}


def compose(objective: str, overrides: Sequence[str] = ()) -> TrainConfig:
    config = compose_config("train", ["domain=astro", f"objective=[{objective}]", *overrides])
    return typed(TrainConfig, config)


def build_objective(name: str) -> tuple[str, Objective]:
    """An objective as its config file sets it, and the name of its term."""
    node = compose(name).objective
    objectives, _ = build_objectives(node, list(LETTERS), plugins().registries)
    return next(iter(objectives.items()))
