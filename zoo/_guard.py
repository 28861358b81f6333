"""`shared` and `domains` are common names: make sure that the ones found are ours."""

import importlib
import sys
from importlib.machinery import PathFinder
from pathlib import Path

MARK = "domain-zoo"


def check_packages() -> None:
    """Raise an ImportError that names the folder which shadows `shared` or `domains`."""
    parent = Path(__file__).resolve().parent.parent
    for name in ("shared", "domains"):
        ours = parent / name / "__init__.py"
        if name in sys.modules:
            origin = getattr(sys.modules[name], "__file__", None)
        else:
            spec = PathFinder.find_spec(name)
            origin = spec.origin if spec else None
        if origin is None or Path(origin).resolve() != ours:
            raise ImportError(
                f"zoo needs its package {name!r} at {ours.parent}, but {origin or 'nothing'} comes "
                "first on the import path. Rename that folder or file, start Python elsewhere, or "
                "use the `zoo` command or `python -P`."
            )
        if getattr(importlib.import_module(name), "ZOO", None) != MARK:
            raise ImportError(
                f"{ours} was overwritten by another distribution that installs a package "
                f"{name!r}. Uninstall that one and reinstall domain-zoo."
            )
