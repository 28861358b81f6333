"""Packages that only some parts need, each brought by an extra of pip."""

from importlib import import_module
from typing import Any

from shared.errors import DependencyError


def import_optional(module: str, extra: str, who: str) -> Any:
    """A module that may not be installed.

    Args:
        module: Its import name, such as `torchvision.transforms.v2`.
        extra: What brings it: `vision` in `pip install 'domain-zoo[vision]'`.
        who: What needs it, for the message.

    Raises:
        DependencyError: It cannot be imported.
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise DependencyError(
            f"{who} needs {module.partition('.')[0]}: pip install 'domain-zoo[{extra}]' ({error})"
        ) from error
