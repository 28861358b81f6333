"""Every objective on two and three gloo processes beside one process on the joint batch.

Usage: python benchmarks/reliability/ranks.py

Prints a Markdown table of the largest relative differences of the loss, of the gradients, and of
what a training step changes in weights and buffers (optimiser, teacher, centres, running
statistics). Steps, rows and layouts are those of `tests/shared/training/test_every_objective.py`.
Data are synthetic. Takes two minutes on two cores.
"""

import importlib.util
import sys
import warnings
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any

import torch
from toy import ROOT, SMOKE, install_toy


def load(name: str) -> ModuleType:
    """A module of the tests, which are no package."""
    spec = importlib.util.spec_from_file_location(name, ROOT / f"tests/shared/training/{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def rows(steps: Any, runs: dict[str, list[str]], run_ranks: Any) -> dict[str, list[str]]:
    """By run, a cell for every layout."""
    cells: dict[str, list[str]] = {name: [] for name in runs}
    for ranks, layouts in steps.LAYOUTS.items():
        found = run_ranks(ranks, steps.rank_steps, runs)
        for name, settings in runs.items():
            for number, joint in enumerate(steps.joint_steps(settings, layouts)):
                of_ranks = [steps.differences(rank[name][number], joint) for rank in found]
                worst = [max(values) for values in zip(*of_ranks, strict=True)]
                cells[name].append(" ".join(f"{value:.0e}" if value else "0" for value in worst))
    return cells


def main() -> None:
    torch.set_num_threads(1)
    warnings.filterwarnings("ignore")
    with TemporaryDirectory() as site, TemporaryDirectory() as teacher:
        install_toy(Path(site))
        steps, ranks = load("objective_ranks"), load("ranks")
        steps.make_run(SMOKE["contrastive"])[0].model.save(Path(teacher), "")
        runs = {
            name: [text.replace("TEACHER", teacher) for text in settings]
            for name, settings in steps.matrix(SMOKE).items()
        }
        columns = [str(layout) for layouts in steps.LAYOUTS.values() for layout in layouts]
        print(f"| loss, gradients, change of the state | {' | '.join(columns)} |")
        print("| --- |" + " --- |" * len(columns))
        for name, cells in rows(steps, runs, ranks.run_ranks).items():
            print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main()
