"""What objectives over pairs of modalities have in common."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor

from shared.errors import ConfigError, suggest
from shared.objectives.base import Encoded, Tensors

Pair = tuple[str, str]
Positives = Literal["sample", "group", "label"]


def own_rows(encoded: Encoded, own: slice) -> Encoded:
    """Some of the rows of an answer."""
    mask = None if encoded.mask is None else encoded.mask[own]
    return Encoded(encoded.rows[own], encoded.present[own], mask)


def positive_keys(tensors: Tensors, positives: Positives) -> Tensor:
    """(rows of all ranks,) int64, equal for samples that are positives of each other.

    A sample whose group or label is unknown is a positive of itself alone.
    """
    number = torch.arange(len(tensors.labels), device=tensors.labels.device)
    if positives == "sample":
        return number
    keys = tensors.groups if positives == "group" else tensors.labels
    return torch.where(keys >= 0, keys, -1 - number)


def check_chunk_rows(chunk_rows: int | None, objective: str) -> None:
    """Raise ConfigError unless it is None or at least 1."""
    if chunk_rows is not None and chunk_rows < 1:
        raise ConfigError(f"{objective}: chunk_rows={chunk_rows} must be at least 1, or null.")


def check_choice(objective: str, name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise ConfigError unless a setting is one of its choices."""
    if value not in choices:
        raise ConfigError(f"{objective}: {name}={value!r}. {suggest(value, choices)}")


def parse_pairs(
    objective: str, pairs: Literal["all"] | Mapping[str, float], modalities: Sequence[str]
) -> dict[Pair, float]:
    """Weights by pair of modalities, those of weight 0 left out.

    Args:
        objective: Its name, for messages.
        pairs: `all`, or a mapping `a-b` → weight.
        modalities: Modalities of the model.

    Raises:
        ConfigError: No pair, one that the model does not have, one given twice, a negative weight.
    """
    if isinstance(pairs, str):
        check_choice(objective, "pairs", pairs, ("all",))
        parsed = dict.fromkeys(combinations(modalities, 2), 1.0)
    else:
        parsed = {}
        for text, weight in pairs.items():
            first, second = _parse_pair(objective, text, modalities)
            if (first, second) in parsed or (second, first) in parsed:
                raise ConfigError(f"{objective}: pair {text!r} is given twice.")
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(
                    f"{objective}: the weight of pair {text!r} is {weight:g}; it has to be 0 or "
                    "more."
                )
            if weight > 0:
                parsed[first, second] = float(weight)
    if not parsed:
        raise ConfigError(
            f"{objective}: no pair to train on; the modalities are {', '.join(modalities)}. "
            "Contrast needs two: choose data that give more, or another objective."
        )
    return parsed


def _parse_pair(objective: str, text: str, modalities: Sequence[str]) -> Pair:
    names = tuple(text.split("-"))
    if len(names) == 2 and names[0] != names[1] and set(names) <= set(modalities):
        return names[0], names[1]
    possible = ", ".join(f"{a}-{b}: 1.0" for a, b in combinations(modalities, 2))
    hint = f" Set those it has: 'objective.{objective}.pairs={{{possible}}}'." if possible else ""
    raise ConfigError(
        f"{objective}: pair {text!r} is not 'a-b' with two of the modalities "
        f"{', '.join(modalities)} that this run trains.{hint}"
    )
