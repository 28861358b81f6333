"""`zoo doctor`."""

import argparse
import json
import os
import platform
import shutil
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = {
    "torch": "base", "lightning": "base", "hydra-core": "base", "numpy": "base",
    "scikit-learn": "base", "astropy": "base", "pyarrow": "base", "matplotlib": "base",
    "timm": "[vision]", "torchvision": "[vision]", "open_clip_torch": "[vision]",
    "transformers": "[text]", "sentencepiece": "[text]", "peft": "[lora]",
    "rasterio": "[geotiff]", "opencv-python-headless": "[remote-sensing]",
}  # fmt: skip


EXAMPLES = """examples:
  zoo doctor                what this machine and this installation offer
  zoo doctor runs/RUN       what a run has left, and whether it is whole
  zoo doctor runs/RUN --json"""


def run(argv: Sequence[str]) -> int:
    """Print packages, domains, devices and folders; or what a run or model folder holds."""
    parser = argparse.ArgumentParser(
        prog="zoo doctor",
        description="What is installed, what a domain lacks, what the machine offers; or, of a run "
        "or model folder, what is there and whether it is whole (exit code 2 if not).",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="?", metavar="FOLDER", help="a run or model folder")
    parser.add_argument("--json", action="store_true", help="print FOLDER's state as JSON")
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    options = parser.parse_args(argv)
    if options.folder is not None:
        return _examine(options.folder, options.json)
    if options.json:
        parser.error("--json goes with a folder")
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


def _examine(folder: str, as_json: bool) -> int:
    from zoo.inspection import DAMAGED, inspect_folder

    inspection = inspect_folder(Path(folder))
    if as_json:
        print(json.dumps(inspection.to_dict(), indent=2, ensure_ascii=False))
        return 0 if inspection.whole else 2
    from rich.table import Table
    from rich.text import Text

    from zoo.progress import console

    table = Table(title=inspection.folder, title_justify="left", show_header=False)
    for finding in inspection.findings:
        style = "bold red" if finding.state == DAMAGED else ""
        table.add_row(finding.name, Text(finding.state, style=style), Text(finding.detail))
    console().print(table)
    console().print(inspection.detail, highlight=False, markup=False)
    if inspection.next:
        console().print(f"next: {inspection.next}", highlight=False, markup=False)
    return 0 if inspection.whole else 2


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
