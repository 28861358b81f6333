"""Where and with what something was computed, for the record beside it."""

import os
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from typing import Any

FILE = "environment.json"


def environment(packages: Sequence[str]) -> dict[str, Any]:
    """Command, machine and versions, as plain JSON values."""
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "versions": package_versions(packages),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
    }


def package_versions(packages: Sequence[str]) -> dict[str, str]:
    """Versions of those that are installed; a checkout that is not has none."""
    found = {}
    for name in packages:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
