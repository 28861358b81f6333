"""`zoo train` end to end on a tiny simulation: what it leaves, that it repeats, how it stops."""

import csv
import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import Forked
from safetensors.torch import load_file

import zoo
from shared.encoders.base import Embedding
from shared.evaluation.results.result import load_results
from shared.model import Model
from zoo.cli.main import main

pytestmark = pytest.mark.slow

TINY = [
    "domain=astro",
    "data.n_stars=90",
    "loader.batch_size=16",
    "trainer.max_epochs=3",
    "trainer.device=cpu",
    "trainer.log_every_n_steps=1",
    "trainer.checkpoint_every_n_steps=1",
]
QUICK = [*TINY, "evaluator=null"]
"""Without scores and pictures, which take longer than the training."""


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", *TINY, f"run_folder={folder}"]) == 0
    return folder


def metrics(folder: Path) -> list[list[str]]:
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.reader(file))


def test_what_a_run_leaves(run: Path) -> None:
    environment = json.loads((run / "environment.json").read_text())
    assert environment["synthetic"] is True
    assert environment["versions"]["torch"] == torch.__version__.split("+")[0]
    assert len(environment["data_fingerprint"]) == 16
    assert "seed: 0" in (run / "config.yaml").read_text()
    names = {row[1] for row in metrics(run)}
    assert {"train/loss", "val/loss", "probe/spectra", "train/logit_scale"} <= names
    assert "val/contrastive/in_batch_accuracy" in names
    assert list((run / "tensorboard").glob("events*"))
    results = load_results(run)
    judged_by = {r.protocol for r in results}
    assert judged_by >= {"linear_probe", "nearest_centroid", "retrieval"}
    assert all(r.synthetic for r in results)
    assert {p.suffix for p in (run / "pictures").iterdir()} == {".png"}
    drawn = {p.stem for p in (run / "pictures").iterdir()}
    assert {"thumbnails_map", "similarity_photometry", "outliers_spectra"} <= drawn
    assert (run / "outliers.csv").read_text().startswith("id,label,candidate,distance_photometry")
    model = zoo.load(str(run))
    assert model.modalities == ("photometry", "spectra", "metadata")
    card = (run / "model" / "README.md").read_text()
    assert "synthetic data" in card
    assert "flux [mJy]" in card


def test_the_same_command_gives_the_same_numbers(run: Path, tmp_path: Path) -> None:
    settings = [*QUICK, "trainer.checkpoint_every_n_steps=0", "loader.num_workers=1"]
    assert main(["train", *settings, f"run_folder={tmp_path / 'again'}"]) == 0
    assert metrics(tmp_path / "again") == metrics(run)
    for name in ("model/model.safetensors", "checkpoints/best.safetensors"):
        one, two = load_file(run / name), load_file(tmp_path / "again" / name)
        assert all(torch.equal(one[key], two[key]) for key in one)


def test_a_run_that_stopped_early_stays_stopped(tmp_path: Path) -> None:
    folder = tmp_path / "early"
    settings = ["optimizer.lr=0.0", "selection.patience=1", "trainer.max_epochs=6"]
    assert main(["train", *QUICK, *settings, f"run_folder={folder}"]) == 0
    before = metrics(folder)
    assert len({row[0] for row in before if row[1] == "val/loss"}) == 2
    assert main(["train", f"resume={folder}"]) == 0
    assert metrics(folder) == before


def test_divergence_is_told_and_keeps_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "run"
    settings = ["optimizer.lr=1e30", "trainer.log_every_n_steps=100", "optimizer.name=sgd"]
    assert main(["train", *TINY, *settings, f"run_folder={folder}"]) == 2
    assert "training has diverged" in capsys.readouterr().err
    assert not (folder / "checkpoints" / "best.safetensors").exists()


def test_micro_batches_hold_in_validation_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    numbers, encode = [], Model.encode

    def counted(model: Model, modality: str, inputs: dict[str, torch.Tensor]) -> Embedding:
        numbers.append(len(next(iter(inputs.values()))))
        return encode(model, modality, inputs)

    monkeypatch.setattr(Model, "encode", counted)
    settings = [*QUICK, "trainer.max_epochs=1", "passes=cached", "passes.micro_batch=3"]
    assert main(["train", *settings, f"run_folder={tmp_path / 'run'}"]) == 0
    assert 0 < max(numbers) <= 3


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "stopped"
    # long enough not to be done before the signal
    settings = [*TINY, f"run_folder={folder}", "trainer.max_epochs=10000"]
    process = Forked(["train", *settings], tmp_path / "out")
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert f"go on with: zoo train resume={folder}" in told
    assert "Traceback" not in told


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds children in /proc")
def test_a_signal_to_one_process_stops_all(tmp_path: Path) -> None:
    """To one that was started by another: both save and leave after the same step."""
    folder = tmp_path / "stopped"
    settings = [*QUICK, "trainer=ddp", "trainer.max_epochs=10000", f"run_folder={folder}"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = Forked(["train", *settings], tmp_path / "out", environment=environment)
    deadline = time.monotonic() + 120
    while not (folder / "checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.002)
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    os.kill(int(child), signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 143
    assert told.count("zoo: preempted by SIGTERM; go on with: zoo train resume=") == 1
    # it may wait to be reaped, where no init does that
    status = Path(f"/proc/{child}/stat")
    assert not status.exists() or status.read_text().rpartition(")")[2].split()[0] == "Z"


def test_resume_refuses_what_it_cannot_continue(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", f"resume={tmp_path}"]) == 2
    assert "is no run folder" in capsys.readouterr().err
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("n_stars: 90", "n_stars: 91"))
    assert main(["train", f"resume={copy}"]) == 2
    assert "data fingerprint was" in capsys.readouterr().err
    assert main(["train", f"resume={copy}", "seed=1"]) == 2
    assert "goes alone" in capsys.readouterr().err


def test_early_stopping_and_other_settings(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """No learning, so nothing improves: it stops after `patience` epochs and keeps the first."""
    folder = tmp_path / "run"
    settings = ["optimizer.lr=0", "selection.patience=1", "optimizer.name=adam",
                "schedule.name=constant", "trainer.max_epochs=9", "trainer.precision=bfloat16",
                "objective=[astrom3]", "modalities=[spectra,metadata,photometry]"]  # fmt: skip
    assert main(["train", *QUICK, *settings, f"run_folder={folder}"]) == 0
    epochs = {row[0] for row in metrics(folder)[1:] if row[1] == "val/loss"}
    assert len(epochs) == 2
    assert not (folder / "results.jsonl").exists()
    assert "of epoch 1 of" in " ".join((folder / "model/README.md").read_text().split())
    # selection.monitor on something that is never logged is a message, not a silent run to the end
    settings = ["selection.monitor=val/lss", "run_folder=" + str(tmp_path / "wrong")]
    assert main(["train", *TINY, *settings]) == 2
    assert "val/lss" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


def test_eval_and_embed(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
                        monkeypatch: pytest.MonkeyPatch) -> None:  # fmt: skip
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    out = tmp_path / "stars.parquet"
    assert main(["embed", f"model={run}", f"out={out}"]) == 0
    cached = list((tmp_path / "home" / "embeddings").iterdir())
    assert len(cached) == 1
    from_file = tmp_path / "from-file"
    settings = ["n_resamples=50", "protocols=[linear_probe,retrieval]"]
    assert main(["eval", f"embeddings={out}", f"run_folder={from_file}", *settings]) == 0
    from_model = tmp_path / "from-model"
    assert main(["eval", f"model={run}", f"run_folder={from_model}", *settings]) == 0
    assert list((tmp_path / "home" / "embeddings").iterdir()) == cached
    values = [
        {(r.protocol, r.inputs, r.metric): r.value for r in load_results(folder)}
        for folder in (from_file, from_model)
    ]
    assert values[0] == values[1]
    capsys.readouterr()
    assert main(["eval", f"model={run}", f"run_folder={from_model}"]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    single = tmp_path / "single.npz"
    assert main(["embed", f"model={run}", f"out={single}", "modalities=[spectra]"]) == 0
    assert np.load(single).files
