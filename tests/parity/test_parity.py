"""Our modules, built through the registry, against upstream's recorded numbers.

`adapters/<system>.py`, or the files of the folder `adapters/<system>/`, hold in `ADAPTERS` one
function a component of that system: case → our outputs.
"""

import sys
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

FOLDER = Path(__file__).parent / "adapters"
# a package by hand, so that the files of a folder can import from each other
PACKAGE = ModuleType("parity_adapters")
PACKAGE.__path__ = [str(FOLDER)]
sys.modules[PACKAGE.__name__] = PACKAGE


@cache
def adapters(system: str) -> dict[str, Any]:
    """The adapters of a system by component; none where it has no file."""
    found: dict[str, Any] = {}
    for path in (FOLDER / f"{system}.py", *sorted((FOLDER / system).glob("*.py"))):
        if path.exists():
            name = ".".join((PACKAGE.__name__, *path.relative_to(FOLDER).with_suffix("").parts))
            found |= getattr(import_module(name), "ADAPTERS", {})
    return found


def test_parity(case: Any) -> None:
    system, component = case.component
    if component not in adapters(system):
        pytest.skip(f"no adapter yet for {system}/{component}")
    case.compare(adapters(system)[component](case))
