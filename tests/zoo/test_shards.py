"""`zoo train` on shards: killed with kill -9 in the middle of an epoch and resumed."""

import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
from killing import SHORT, Instant, Killer, differences
from PIL import Image
from toy import SMOKE

pytestmark = pytest.mark.slow

# its data set aside
MODEL = [text for text in SMOKE["mae"] if not text.startswith("data")]


def shard(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    with tarfile.open(path, "w") as tar:
        for key in range(24):
            file = io.BytesIO()
            Image.fromarray(rng.integers(0, 256, (26, 24, 3), np.uint8)).save(file, "PNG")
            about = tarfile.TarInfo(f"{key}.png")
            about.size = file.tell()
            tar.addfile(about, io.BytesIO(file.getvalue()))


def test_killed_in_the_middle_of_an_epoch_and_resumed(toy: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    data.mkdir()
    for seed, name in enumerate(("train-0", "train-1", "train-2", "val-0", "test-0")):
        shard(data / f"{name}.tar", seed)
    settings = [
        *(*SHORT, *MODEL, "data=webdataset", f"data.root={data}", "data.members.text=null"),
        *("data.lanes=2", "data.shuffle_window=16", "loader.first_samples=5"),
        *("trainer.max_epochs=2", "trainer.checkpoint_every_n_steps=1"),
    ]
    killer, whole, folder = Killer(tmp_path), tmp_path / "whole", tmp_path / "run"
    killer.run([*settings, f"run_folder={whole}"], whole)
    assert "15 samples are read" in whole.with_suffix(".log").read_text()
    assert killer.run([*settings, f"run_folder={folder}"], folder, Instant("step", 2, 20)) == "step"
    assert killer.run([f"resume={folder}"], folder) == "ended"
    assert differences(whole, folder) == []
