"""Checkpoints that are damaged, missing, or cannot be written."""

import os
import resource
import shutil
import signal
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from killing import differences
from safetensors.torch import load_file, save_file

from shared.checkpoint_file import read_checkpoint, write_checkpoint
from shared.errors import WeightsError, WriteError
from shared.run_folder import Best, leftovers, read_best, read_state, write_best
from shared.training.logs import Curves
from zoo.cli.main import main

pytestmark = pytest.mark.usefixtures("one_thread")


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


@contextmanager
def no_file_above(size: int) -> Iterator[None]:
    """Writing beyond so many bytes of a file fails, as it does on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_checkpoint_is_an_archive_with_its_hash(tmp_path: Path) -> None:
    path, previous = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    for step in (1, 2):
        write_checkpoint(path, {"step": step, "weights": torch.arange(50_000)}, previous)
    assert zipfile.ZipFile(path).testzip() is None
    assert torch.load(path, weights_only=True)["step"] == 2
    assert read_checkpoint(path)["step"] == 2
    assert read_checkpoint(previous)["step"] == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.ckpt", "b.ckpt"]


def test_any_byte_counts(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    write_checkpoint(path, {"weights": torch.arange(100)}, tmp_path / "b.ckpt")
    content = path.read_bytes()
    for position in range(0, len(content), 7):
        flip(path, position)
        with pytest.raises(WeightsError, match=r"a\.ckpt is damaged: (its bytes|it has no hash)"):
            read_checkpoint(path)
        path.write_bytes(content)
    for size in (0, 1, 60, 73, 1000, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(WeightsError, match="no hash at its end, so it is cut off"):
            read_checkpoint(path)
    torch.save({"weights": torch.arange(100)}, path)
    with pytest.raises(WeightsError, match="something else than `zoo train`"):
        read_checkpoint(path)


def test_a_checkpoint_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    path, previous = tmp_path / "a.ckpt", tmp_path / "b.ckpt"
    small, large = {"weights": torch.arange(100)}, {"weights": torch.arange(100_000)}
    write_checkpoint(path, small, previous)
    for size in (1000, 100_000, 800_000):
        with no_file_above(size), pytest.raises(WriteError, match=r"a\.ckpt cannot be written: F"):
            write_checkpoint(path, large, previous)
        assert [p.name for p in tmp_path.iterdir()] == ["a.ckpt"]
        assert len(read_checkpoint(path)["weights"]) == 100


def test_best_weights_know_whose_they_are(tmp_path: Path) -> None:
    path = tmp_path / "best.safetensors"
    tensors = {"a": torch.randn(300, 300), "b": torch.tensor(1.5)}
    write_best(path, tensors, Best(3, 0.1))
    content = path.read_bytes()
    write_best(path, tensors, Best(3, 0.1))
    assert path.read_bytes() == content
    assert path.stat().st_mode & 0o777 == 0o666 & ~current_umask()
    assert read_best(path)[1] == Best(3, 0.1)
    flip(path, len(content) // 2)
    with pytest.raises(WeightsError, match="do not fit the fingerprint"):
        read_best(path)
    save_file(tensors, path)
    with pytest.raises(WeightsError, match="does not say of which epoch"):
        read_best(path)
    with no_file_above(1000), pytest.raises(WriteError, match="File too large"):
        write_best(path, tensors, Best(4, 0.2))
    assert [p.name for p in tmp_path.iterdir()] == ["best.safetensors"]


def current_umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("damage", ["flipped", "cut", "between the renames"])
def test_the_checkpoint_before_takes_over(
    run: Path, copy: Path, capsys: pytest.CaptureFixture[str], damage: str
) -> None:
    last = copy / "checkpoints" / "last.ckpt"
    if damage == "flipped":
        flip(last, 100_000)
        told = "its bytes do not fit the hash that it carries. Going on from previous.ckpt, step 5"
    elif damage == "cut":
        os.truncate(last, 100_000)
        told = "it has no hash at its end"
    else:
        last.rename(last.with_name(".last.ckpt.1234.tmp.ckpt"))
        told = "There is no last.ckpt: going on from previous.ckpt, step 5"
    capsys.readouterr()
    assert main(["train", f"resume={copy}"]) == 0
    assert told in capsys.readouterr().out
    assert differences(run, copy) == []
    assert read_state(last.with_name("previous.ckpt")).step == 5


@pytest.mark.slow
def test_a_damaged_checkpoint_never_replaces_a_whole_one(copy: Path) -> None:
    """Also when writing fails right after the resume."""
    flip(copy / "checkpoints" / "last.ckpt", 1000)
    with no_file_above(2_000_000):
        assert main(["train", f"resume={copy}"]) == 2
    assert read_state(copy / "checkpoints" / "previous.ckpt").step == 5


@pytest.mark.slow
def test_without_a_whole_checkpoint_nothing_is_touched(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flip(copy / "checkpoints" / "last.ckpt", 1000)
    os.truncate(copy / "checkpoints" / "previous.ckpt", 5)
    before = {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()}
    assert main(["train", f"resume={copy}"]) == 2
    told = capsys.readouterr().err
    assert "last.ckpt is damaged" in told
    assert "previous.ckpt is damaged" in told
    assert "No other checkpoint is whole" in told
    assert {p: p.read_bytes() for p in copy.rglob("*") if p.is_file()} == before


@pytest.mark.slow
def test_damaged_best_weights_end_in_no_wrong_model(
    run: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    best, last = copy / "checkpoints" / "best.safetensors", copy / "checkpoints" / "last.ckpt"
    epoch = read_best(best)[1].epoch
    assert read_state(last).best_epoch == epoch
    content = best.read_bytes()
    flip(best, len(content) // 2)
    assert main(["train", f"resume={copy}"]) == 2
    assert f"To go on without them, delete {best}" in capsys.readouterr().err
    # weights of an earlier epoch, as from an old copy of the file
    write_best(best, load_file(run / "checkpoints/best.safetensors"), Best(epoch - 1, 9.0))
    assert main(["train", f"resume={copy}"]) == 2
    assert "older than the weights that the run had kept" in capsys.readouterr().err
    # who deletes them agrees to do without
    best.unlink()
    assert main(["train", f"resume={copy}"]) == 0
    assert f"the weights of epoch {epoch + 1} are lost" in capsys.readouterr().out
    weights = load_file(copy / "model/model.safetensors")
    state = read_checkpoint(last)["state_dict"]
    assert all(torch.equal(state[f"runner.model.{n}"], t) for n, t in weights.items())


@pytest.mark.slow
def test_best_weights_newer_than_the_checkpoint_are_come_to_again(run: Path, copy: Path) -> None:
    """Killed between the best weights of an epoch and its checkpoint."""
    assert read_best(run / "checkpoints/best.safetensors")[1].epoch == 1
    (copy / "checkpoints" / "last.ckpt").unlink()
    assert read_state(copy / "checkpoints" / "previous.ckpt").best_epoch == 0
    assert main(["train", f"resume={copy}"]) == 0
    assert differences(run, copy) == []


@pytest.mark.slow
def test_a_cut_row_of_the_metrics_goes(run: Path, copy: Path) -> None:
    (copy / "checkpoints" / "last.ckpt").unlink()
    metrics = copy / "metrics.csv"
    content = metrics.read_bytes()
    # within the last number: what is left looks like one
    metrics.write_bytes(content[:-5])
    assert main(["train", f"resume={copy}"]) == 0
    assert differences(run, copy) == []


@pytest.mark.slow
@pytest.mark.parametrize("content", [b"", None])
def test_lost_metrics_are_told(
    run: Path, copy: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    (copy / "checkpoints" / "last.ckpt").unlink()
    metrics = copy / "metrics.csv"
    metrics.unlink()
    if content is not None:
        metrics.write_bytes(content)
    assert main(["train", f"resume={copy}"]) == 0
    assert "metrics.csv is missing or empty: the log starts anew at step 5" in (
        capsys.readouterr().out
    )
    head, *rows = metrics.read_text().splitlines()
    assert head == "step,metric,value"
    assert rows == (run / "metrics.csv").read_text().splitlines()[-len(rows) :]
    assert {row.split(",")[0] for row in rows} == {"6"}


@pytest.mark.slow
def test_a_run_without_a_checkpoint_begins_again(
    run: Path, copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.rmtree(copy / "checkpoints")
    assert main(["train", f"resume={copy}"]) == 0
    assert "no checkpoint was written yet: from the beginning" in capsys.readouterr().out
    assert differences(run, copy) == []


@pytest.mark.slow
@pytest.mark.parametrize(("size", "file"), [(2_000_000, "last.ckpt"), (300, "config.yaml")])
def test_a_disk_that_is_full_from_the_start(
    run: Path,
    tiny: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    size: int,
    file: str,
) -> None:
    folder = tmp_path / "full"
    with no_file_above(size):
        assert main(["train", *tiny, f"run_folder={folder}"]) == 2
    told = capsys.readouterr().err
    assert f"{file} cannot be written: File too large. Make room" in told
    assert told.count("\n") == 1
    if file == "last.ckpt":
        assert f"go on with: zoo train resume={folder}." in told
        assert main(["train", f"resume={folder}"]) == 0
        assert differences(run, folder) == []
    else:
        assert "nothing had been written yet" in told
        assert not folder.exists()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "file"),
    [(2_000_000, "last.ckpt"), (1_000_000, "best.safetensors"), (-10, "metrics.csv")],
)
def test_a_disk_that_fills_up(
    run: Path, copy: Path, capsys: pytest.CaptureFixture[str], size: int, file: str
) -> None:
    """A negative size is counted from that of the metrics at the end."""
    size += (run / "metrics.csv").stat().st_size if size < 0 else 0
    if file == "best.safetensors":
        (copy / "checkpoints" / file).unlink()
    (copy / "checkpoints" / "last.ckpt").unlink()
    with no_file_above(size):
        assert main(["train", f"resume={copy}"]) == 2
    told = capsys.readouterr().err
    assert f"{file} cannot be written: " in told
    assert f"go on with: zoo train resume={copy}." in told
    assert told.count("\n") == 1
    assert not leftovers(copy)
    assert read_state(copy / "checkpoints" / "previous.ckpt").step == 5
    assert main(["train", f"resume={copy}"]) == 0
    assert differences(run, copy) == []


@pytest.mark.slow
def test_a_disk_that_is_full_for_the_model(run: Path, copy: Path) -> None:
    with no_file_above(1_000_000):
        assert main(["train", f"resume={copy}"]) == 2
    assert not (copy / "model" / "config.json").exists()
    assert main(["train", f"resume={copy}"]) == 0
    assert differences(run, copy) == []


@pytest.mark.slow
def test_a_real_disk(
    run: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Full, then larger but read-only, then fine."""
    disk = tmp_path / "disk"
    disk.mkdir()

    def mount(options: str) -> bool:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    if shutil.which("mount") is None or not mount("size=8m"):
        pytest.skip("a disk can be mounted by root only")
    try:
        folder = disk / "run"
        assert main(["train", *tiny, f"run_folder={folder}"]) == 2
        assert "last.ckpt cannot be written: No space left on device" in capsys.readouterr().err
        assert read_state(folder / "checkpoints" / "last.ckpt").step == 1
        assert mount("remount,size=64m,ro")
        assert main(["train", f"resume={folder}"]) == 2
        assert "Read-only file system" in capsys.readouterr().err
        assert main(["train", *tiny, f"run_folder={disk / 'other'}"]) == 2
        assert "Read-only file system" in capsys.readouterr().err
        assert mount("remount,size=64m,rw")
        assert main(["train", f"resume={folder}"]) == 0
        assert differences(run, folder) == []
    finally:
        subprocess.run(["umount", str(disk)], check=True)


@pytest.mark.slow
def test_a_folder_without_permission(run: Path) -> None:
    """Of another user: root, who may write anywhere, becomes nobody for it."""
    with TemporaryDirectory() as parent:
        folder, told = Path(parent) / "copy", Path(parent) / "told"
        shutil.copytree(run, folder)
        folder.chmod(0o555)
        told.touch()
        for path in (Path(parent), told):
            path.chmod(0o777)
        if (child := os.fork()) == 0:
            code = 1
            try:
                if os.geteuid() == 0:
                    os.setuid(65534)
                with told.open("w") as file, redirect_stderr(file):
                    code = main(["train", f"resume={folder}"])
            finally:
                os._exit(code)
        _, status = os.waitpid(child, 0)
        folder.chmod(0o755)
        assert os.waitstatus_to_exitcode(status) == 2, told.read_text()
        assert f"The folder {folder} cannot be written to: Permission denied" in told.read_text()


def test_events_that_cannot_be_written_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """TensorBoard writes in a thread, which ends at a full disk."""
    hook = threading.excepthook
    curves = Curves(tmp_path, name="", version="tensorboard")

    def log() -> None:
        # they are written ten at a time at most
        for step in range(1000):
            curves.log_metrics({"loss": 1.0}, step)
        curves.save()

    with no_file_above(200), pytest.raises(WriteError, match="tensorboard cannot be written: F"):
        log()
    with no_file_above(200):
        curves.finalize("failed")
    assert capsys.readouterr().err == ""
    assert threading.excepthook == hook
