"""Where tensors live and in what precision forward passes run."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any, Literal

import torch

from shared.errors import ConfigError, first_line, suggest

Precision = Literal["float32", "bfloat16"]


def resolve_device(device: str) -> torch.device:
    """`auto` → cuda, mps or cpu; anything else must be there.

    Raises:
        ConfigError: No such device on this machine.
    """
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda")
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(
            f"device={device} cannot be used here: {first_line(error)}. `zoo doctor` shows the "
            "devices."
        ) from error
    return torch.device(device)


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[Any]:
    """The autocast context of a precision.

    Raises:
        ConfigError: An unknown precision.
    """
    if precision not in ("float32", "bfloat16"):
        raise ConfigError(f"precision={precision!r}. {suggest(precision, ('float32', 'bfloat16'))}")
    return torch.autocast(device.type, torch.bfloat16) if precision == "bfloat16" else nullcontext()
