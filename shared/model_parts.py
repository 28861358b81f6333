"""Parts of a model, built by name."""

import inspect
from collections.abc import Mapping
from typing import Any

from shared.encoders.base import Encoder
from shared.errors import ConfigError
from shared.registry import Registries


def build_part(registry: Any, part: Mapping[str, Any], *args: object) -> Any:
    """A registered part: `name` with its settings beside it.

    Raises:
        ConfigError, UnknownNameError: No name, or one or a setting that there is not.
    """
    settings = {key: value for key, value in part.items() if key != "name"}
    if "name" not in part:
        raise ConfigError(f"A {registry.kind} of the model has no 'name'.")
    return registry.build(part["name"], "model", *args, **settings)


def build_encoder(
    registries: Registries, part: Mapping[str, Any], sizes: Mapping[str, int]
) -> Encoder:
    """The encoder, told the sizes of its inputs that its constructor names.

    Raises:
        ConfigError, UnknownNameError: As `build_part`, or a setting that follows from the data.
    """
    target = registries.encoders.get(part["name"])
    known = inspect.signature(target).parameters
    derived = {name: size for name, size in sizes.items() if name in known}
    clash = sorted(set(derived) & set(part))
    if clash:
        raise ConfigError(
            f"model: encoder {part['name']!r}: {', '.join(clash)} follows from the data "
            "and cannot be set."
        )
    encoder: Encoder = build_part(registries.encoders, {**part, **derived})
    return encoder
