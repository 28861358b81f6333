"""`zoo doctor`."""

import argparse
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

PACKAGES = {
    "torch": "base", "lightning": "base", "hydra-core": "base", "numpy": "base",
    "scikit-learn": "base", "astropy": "base", "pyarrow": "base", "matplotlib": "base",
    "timm": "[vision]", "torchvision": "[vision]", "transformers": "[text]",
}  # fmt: skip


def run(argv: Sequence[str]) -> int:
    """Print packages, domains, devices and folders."""
    parser = argparse.ArgumentParser(
        prog="zoo doctor",
        description="What is installed, what a domain lacks, what the machine offers.",
        epilog="examples:\n  zoo doctor",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    parser.parse_args(argv)
    from rich.table import Table

    from zoo.progress import console

    for title, rows in (
        ("installation", _packages()),
        ("domains", _domains()),
        ("machine", _machine()),
        ("folders", _folders()),
    ):
        table = Table(title=title, title_justify="left", show_header=False)
        for row in rows:
            table.add_row(*row)
        console().print(table)
    return 0


def _packages() -> list[tuple[str, str]]:
    rows = [("domain-zoo", version("domain-zoo")), ("python", platform.python_version())]
    for name, extra in PACKAGES.items():
        try:
            rows.append((name, version(name)))
        except PackageNotFoundError:
            remedy = (
                "reinstall domain-zoo" if extra == "base" else f"pip install 'domain-zoo{extra}'"
            )
            rows.append((name, f"not installed: {remedy}"))
    return rows


def _domains() -> list[tuple[str, str]]:
    from zoo.plugins import plugins

    return [(p.name, p.problem or f"ready ({p.distribution})") for p in plugins().found]


def _machine() -> list[tuple[str, str]]:
    import torch

    rows = [
        ("system", platform.platform()),
        ("processor", f"{os.cpu_count()} cores, torch uses {torch.get_num_threads()} threads"),
    ]
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        memory = f"{properties.total_memory / 2**30:.0f} GiB"
        rows.append((f"cuda:{index}", f"{properties.name}, {memory}"))
    if torch.backends.mps.is_available():
        rows.append(("mps", "available"))
    rows.append(("device=auto", _automatic_device()))
    return rows


def _automatic_device() -> str:
    from shared.devices import resolve_device

    return resolve_device("auto").type


def _folders() -> list[tuple[str, str]]:
    from zoo.paths import data_folder, offline, zoo_home

    home = zoo_home()
    existing = next(p for p in (home, *home.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 2**30
    good = existing.is_dir() and os.access(existing, os.W_OK)
    writable = "writable" if good else "NOT a writable folder: set ZOO_HOME"
    return [
        ("ZOO_HOME (weights, embeddings)", f"{home} ({writable}, {free:.0f} GiB free)"),
        ("ZOO_OFFLINE", "yes: no network is asked" if offline() else "no"),
        ("configs", str(data_folder("configs"))),
    ]
