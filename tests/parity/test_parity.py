"""Our modules, built through the registry, against upstream's recorded numbers.

`adapters/<system>.py` holds one function a component of that system: case → our outputs.
"""

import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import pytest


@cache
def adapters(system: str) -> dict[str, Any]:
    """The adapters of a system by component; none where it has no file."""
    path = Path(__file__).parent / "adapters" / f"{system}.py"
    if not path.exists():
        return {}
    spec = importlib.util.spec_from_file_location(f"parity_{system}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: dict[str, Any] = module.ADAPTERS
    return found


def test_parity(case: Any) -> None:
    system, component = case.component
    if component not in adapters(system):
        pytest.skip(f"no adapter yet for {system}/{component}")
    case.compare(adapters(system)[component](case))
