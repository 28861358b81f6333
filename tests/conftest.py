"""Where the reference cases and the real data lie."""

import os
from pathlib import Path

import pytest
from hypothesis import settings

# the first example pays for imports: no timing is asserted anywhere
settings.register_profile("zoo", deadline=None, derandomize=True)
settings.load_profile("zoo")

ROOT = Path(__file__).resolve().parent.parent


def folder_from(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, ROOT / default))


@pytest.fixture(scope="session")
def data_root() -> Path:
    """The folder of real datasets; the test is skipped where it is absent."""
    folder = folder_from("ZOO_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"no real data: ZOO_DATA or {folder} is needed")
    return folder
