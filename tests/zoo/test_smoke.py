"""`zoo train` of every objective and every way of running a step, on built-in synthetic data."""

import csv
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import zoo
from zoo.cli.main import main
from zoo.config import compose_config
from zoo.plugins import plugins

TOY = Path(__file__).resolve().parents[1] / "toy_domain"
RUNS: dict[str, list[str]] = yaml.safe_load((TOY / "smoke.yaml").read_text())
SHORT = [
    "trainer.max_epochs=2",
    "trainer.device=cpu",
    "trainer.log_every_n_steps=1",
    "loader.batch_size=16",
    "online_probe=false",
    "evaluator=null",
]
# the target of a self-distillation moves with what is trained
MOVING = {"dinov2", "dinov2_sinkhorn", "local_global"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def run(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Trains a run of the table, once; → its folder."""
    runs = tmp_path_factory.mktemp("runs")

    def train(name: str) -> Path:
        folder = runs / name
        settings = [
            text.replace("TEACHER", str(train("contrastive"))) if "TEACHER" in text else text
            for text in RUNS[name]
        ]
        if not folder.exists():
            assert main(["train", *SHORT, *settings, f"run_folder={folder}"]) == 0
        return folder

    return train


def logged(folder: Path, metric: str) -> list[float]:
    with (folder / "metrics.csv").open(newline="") as file:
        return [float(row["value"]) for row in csv.DictReader(file) if row["metric"] == metric]


def test_every_objective_and_every_passes_has_a_run(toy: Path) -> None:
    configs = [compose_config("train", settings) for settings in RUNS.values()]
    objectives = {node["name"] for config in configs for node in config["objective"].values()}
    shared = {e.name for e in plugins().registries.objectives if e.domain == "shared"}
    assert shared <= objectives
    from shared.training.passes import PASSES

    assert {config["passes"]["name"] for config in configs} == set(PASSES)


@pytest.mark.parametrize("name", RUNS)
def test_train(name: str, run: Callable[[str], Path]) -> None:
    folder = run(name)
    assert zoo.load(str(folder)).modalities
    steps, epochs = logged(folder, "train/loss"), logged(folder, "val/loss")
    assert all(map(math.isfinite, [*steps, *epochs]))
    assert len(epochs) == 2
    if name not in MOVING:
        assert epochs[-1] < epochs[0]
