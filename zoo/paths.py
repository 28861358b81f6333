"""Where the package's data files and the user's cache are."""

import os
import re
from pathlib import Path
from typing import Any

import zoo
from shared.errors import UnknownNameError
from shared.home import zoo_home as zoo_home


def data_folder(kind: str) -> Path:
    """`configs` or `model_cards`: inside an installed wheel, or beside the package in a checkout.

    Raises:
        FileNotFoundError: The installation is incomplete.
    """
    here = Path(zoo.__file__).resolve().parent
    for folder in (here / "_data" / kind, here.parent / kind):
        if folder.is_dir():
            return folder
    raise FileNotFoundError(f"domain-zoo is installed without its {kind}: reinstall it.")


def make_paths_absolute(data: dict[str, Any]) -> None:
    """Change the paths in a `data` node, which is read from other folders too."""
    from zoo.plugins import plugins

    name, datasets = data.get("name"), plugins().registries.datasets
    chosen = datasets.get(name) if isinstance(name, str) and name in datasets else None
    for key in getattr(chosen, "paths", ("root",)):
        if isinstance(path := data.get(key), str):
            data[key] = absolute(path)


def absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())


def cache_folder(family: str, variant: str) -> Path:
    """Where the weights of a named model lie on this machine.

    Raises:
        UnknownNameError: A name that would lead to another folder.
    """
    for name in (family, variant):
        if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*", name):
            raise UnknownNameError(
                f"{family}:{variant}: {name!r} is no name of a model or variant; letters, digits "
                "and _ . + - make one."
            )
    return zoo_home() / "weights" / family / variant


def offline() -> bool:
    """Whether `ZOO_OFFLINE` forbids the network."""
    return os.environ.get("ZOO_OFFLINE", "") not in ("", "0")
