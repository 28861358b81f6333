"""The tests' domain, whose runs cover every objective."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "toy_domain"
SMOKE: dict[str, list[str]] = yaml.safe_load((TOY / "smoke.yaml").read_text(encoding="utf-8"))
"""Settings of a short run of each kind, by its name."""


def install_toy(site: Path) -> None:
    """Install it into a folder, for this process and those it starts."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    place = ["--no-build-isolation", "--disable-pip-version-check", "--target", str(site)]
    subprocess.run([*pip, *place, str(TOY)], check=True)
    sys.path.insert(0, str(site))
    os.environ["PYTHONPATH"] = os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")])
    importlib.invalidate_caches()
