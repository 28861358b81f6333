"""Many files with some broken in ten ways: each is listed with its file, the rest is used."""

import json
import re
from pathlib import Path

import pytest
from many import write_stars

from zoo.cli.main import main


def reasons(path: Path) -> dict[str, str]:
    """File → why it was left out."""
    return {entry["file"]: entry["reason"] for entry in json.loads(path.read_text())}


@pytest.mark.slow
def test_training_and_what_follows_go_on(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    broken = write_stars(tmp_path / "stars", 200, every=20)
    run = tmp_path / "run"
    data = ["data=star_folder", f"data.root={tmp_path / 'stars'}"]
    train = ["train", "domain=astro", *data, "trainer.max_epochs=1", "trainer.device=cpu"]
    train += ["evaluator=null", f"run_folder={run}", "loader.batch_size=64"]

    assert main(train) == 2
    assert str(broken[0]) in capfd.readouterr().err
    assert not run.exists()

    assert main([*train, "data.on_error=skip"]) == 0
    said = capfd.readouterr()
    text = re.sub(r"\s+", " ", said.out + said.err)
    assert "cannot be used (data.on_error=skip): photometry 10" in text
    assert said.out.count("\n") < 60
    assert "Warning" not in said.err
    listed = reasons(run / "skipped.json")
    assert sorted(listed) == sorted(map(str, broken))
    assert all(file in reason for file, reason in listed.items())

    device = ["device=cpu", "cache=false"]
    out = tmp_path / "stars.npz"
    assert main(["embed", f"model={run}", f"out={out}", *device]) == 0
    assert reasons(out.with_suffix(".skipped.json")) == listed
    results = tmp_path / "results"
    evaluate = ["eval", f"model={run}", f"run_folder={results}", "n_resamples=20"]
    assert main([*evaluate, "protocols=[nearest_centroid]", *device]) == 0
    assert reasons(next(results.rglob("skipped.json"))) == listed
