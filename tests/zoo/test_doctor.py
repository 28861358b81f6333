"""`zoo doctor FOLDER`: what is there, whether it is whole, what to type next."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from zoo.cli.main import main

pytestmark = pytest.mark.slow


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    return folder


def examine(folder: Path, capsys: pytest.CaptureFixture[str]) -> tuple[int, dict[str, Any]]:
    """Exit code and what `--json` says; findings by name."""
    capsys.readouterr()
    code = main(["doctor", str(folder), "--json"])
    told = json.loads(capsys.readouterr().out)
    return code, {**told, "findings": {f["name"]: f for f in told["findings"]}}


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def test_a_finished_run(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = examine(run, capsys)
    assert (code, told["state"], told["whole"]) == (0, "finished", True)
    assert told["next"] == f"zoo eval model={run}"
    found = told["findings"]
    assert found["checkpoints/last.ckpt"]["detail"].startswith("hash fits; epoch 2, step 6;")
    assert found["checkpoints/previous.ckpt"]["detail"].startswith("hash fits; epoch 2, step 5;")
    assert found["checkpoints/best.safetensors"]["detail"].startswith("fingerprint fits; epoch 2,")
    assert found["model/model.safetensors"]["detail"].startswith("fingerprint fits;")
    assert found["model/"]["detail"] == "loads; photometry, spectra, metadata"
    assert found["metrics.csv"]["detail"].endswith("last step 6")
    assert found["results.jsonl"]["state"] == "not there"


def test_a_run_that_stopped(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy / "model")
    code, told = examine(copy, capsys)
    assert (code, told["state"]) == (0, "resumable")
    assert told["detail"] == "resumable from epoch 2, step 6 of 6."
    assert told["next"] == f"zoo train resume={copy}"
    left = copy / "checkpoints" / ".last.ckpt.123.tmp.ckpt"
    left.write_bytes(b"half")
    (copy / "checkpoints" / "last.ckpt").unlink()
    code, told = examine(copy, capsys)
    assert code == 0
    assert told["detail"].startswith("resumable from epoch 2, step 5 of 6. There is no last.ckpt")
    assert told["findings"]["checkpoints/.last.ckpt.123.tmp.ckpt"]["state"] == "left over"
    shutil.rmtree(copy / "checkpoints")
    code, told = examine(copy, capsys)
    assert (code, told["state"]) == (0, "not begun")
    assert told["next"] == f"zoo train resume={copy}"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("checkpoints/last.ckpt", "do not fit the hash"),
        ("checkpoints/previous.ckpt", "do not fit the hash"),
        ("checkpoints/best.safetensors", "do not fit the fingerprint"),
        ("model/model.safetensors", "do not fit the fingerprint"),
    ],
)
def test_a_flipped_bit(copy: Path, capsys: pytest.CaptureFixture[str], name: str, why: str) -> None:
    flip(copy / name)
    code, told = examine(copy, capsys)
    assert code == 2
    assert not told["whole"]
    damaged = [n for n, finding in told["findings"].items() if finding["state"] == "DAMAGED"]
    # what does not load is no model either
    assert damaged == [name, *(["model/"] if name.startswith("model/") else [])]
    assert why in told["findings"][name]["detail"]


def test_other_damage(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cut = ("config.yaml", "environment.json", "preprocessing.json", "metrics.csv",
           "model/config.json", "checkpoints/best.safetensors")  # fmt: skip
    for name in cut:
        path = copy / name
        content = path.read_bytes()
        path.write_bytes(b"[" + content[: len(content) // 2])
        code, told = examine(copy, capsys)
        assert (code, told["findings"][name]["state"]) == (2, "DAMAGED"), name
        path.write_bytes(content)
    assert examine(copy, capsys)[0] == 0
    (copy / "model" / "schema.json").unlink()
    assert examine(copy, capsys)[1]["findings"]["model/schema.json"]["detail"] == "missing"


def test_nothing_to_go_on_from(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.rmtree(copy / "model")
    for name in ("last", "previous"):
        flip(copy / "checkpoints" / f"{name}.ckpt")
    code, told = examine(copy, capsys)
    assert (code, told["state"], told["next"]) == (2, "lost", "")
    assert "No other checkpoint is whole" in told["detail"]
    (copy / "config.yaml").unlink()
    shutil.rmtree(copy / "checkpoints")
    (copy / "checkpoints").mkdir()
    code, told = examine(copy, capsys)
    assert (code, told["state"]) == (2, "lost")
    assert told["findings"]["config.yaml"]["detail"] == "missing"


def test_a_resume_is_only_promised_where_it_can_be_kept(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "model")
    statistics = (copy / "preprocessing.json").read_bytes()
    for content in (b"{", None):
        (copy / "preprocessing.json").unlink()
        if content:
            (copy / "preprocessing.json").write_bytes(content)
        code, told = examine(copy, capsys)
        assert (code, told["state"], told["next"]) == (2, "lost", "")
        assert "start the run anew" in told["detail"]
    (copy / "preprocessing.json").write_bytes(statistics)
    config = copy / "config.yaml"
    config.write_text(config.read_text().replace("max_epochs", "max_epoch"))
    code, told = examine(copy, capsys)
    assert (code, told["state"], told["next"]) == (2, "lost", "")
    assert "put it right" in told["detail"]
    assert main(["embed", f"model={copy}", f"out={copy / 'x.npz'}"]) == 2
    assert "is a run that has not ended" in capsys.readouterr().err


def test_a_folder_that_is_trained_in(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What the run is just writing is no damage."""
    holding = (
        "import sys; from pathlib import Path; from shared.run_folder import FolderLock\n"
        "lock = FolderLock(Path(sys.argv[1])); lock.take(); print(flush=True); sys.stdin.read()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", holding, str(copy)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdin
        assert holder.stdout
        holder.stdout.readline()
        flip(copy / "checkpoints" / "last.ckpt")
        (copy / "checkpoints" / ".last.ckpt.1.tmp.ckpt").touch()
        code, told = examine(copy, capsys)
        holder.stdin.close()
    assert (code, told["state"]) == (0, "training")
    assert told["findings"]["checkpoints/last.ckpt"]["detail"] == "is being written"
    assert not any(finding["state"] == "left over" for finding in told["findings"].values())


def test_a_model_folder(copy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, told = examine(copy / "model", capsys)
    assert (code, told["state"]) == (0, "model")
    assert told["next"] == f"zoo info {copy / 'model'}"
    flip(copy / "model" / "model.safetensors")
    assert examine(copy / "model", capsys)[0] == 2


def test_what_is_no_folder_of_ours(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    for folder, why in (
        (tmp_path, f"{tmp_path} is no run folder and no model folder"),
        (tmp_path / "none", f"There is no folder {tmp_path / 'none'}."),
        (tmp_path / "file", f"There is no folder {tmp_path / 'file'}."),
    ):
        assert main(["doctor", str(folder)]) == 2
        assert why in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_code:
        main(["doctor", "--json"])
    assert exit_code.value.code == 2


def test_the_table_fits_a_terminal_and_needs_no_lightning(run: Path) -> None:
    code = (
        "import sys; from zoo.cli.main import main; assert main(sys.argv[1:]) == 0; "
        "assert 'lightning' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "doctor", str(run)],
        env={**os.environ, "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[-2:] == ["finished", f"next: zoo eval model={run}"]
    assert max(map(len, lines[1:-2])) <= 80


def test_a_sweep_is_called_one(tmp_path, capsys):
    (tmp_path / "sweep.json").write_text('{"verb": "eval", "jobs": []}')
    assert main(["doctor", str(tmp_path)]) == 2
    assert "is a sweep: name one of the runs in it" in capsys.readouterr().err
