"""Runs that a signal stops: with a checkpoint, from which they go on to the same bits."""

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from killing import differences

import zoo
from shared.run_folder import read_state
from shared.training.module import PretrainModule
from shared.training.preemption import Preempted
from zoo.cli.main import main
from zoo.cli.parsing import run_job

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]


class Sender:
    """Sends this process a real signal in the n-th call of a method of the module."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def send(
        self, signum: int, method: str, call: int, to_workers: bool = False, twice: bool = False
    ) -> None:
        original: Callable[..., Any] = getattr(PretrainModule, method)
        calls = 0

        def sending(module: PretrainModule, *arguments: Any, **options: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls == call:
                for worker in multiprocessing.active_children() if to_workers else []:
                    assert worker.pid is not None
                    os.kill(worker.pid, signum)
                for _ in range(1 + twice):
                    os.kill(os.getpid(), signum)
            return original(module, *arguments, **options)

        self._patch.setattr(PretrainModule, method, sending)


@pytest.fixture
def sender(monkeypatch: pytest.MonkeyPatch) -> Sender:
    return Sender(monkeypatch)


@pytest.mark.parametrize(
    ("signum", "method", "call", "step"),
    [
        (signal.SIGTERM, "training_step", 2, 2),  # inside an epoch
        (signal.SIGUSR1, "training_step", 3, 3),  # at its last step, whose validation comes first
        (signal.SIGTERM, "validation_step", 1, 3),
        (signal.SIGTERM, "training_step", 6, 6),  # at the last step of all
    ],
)
def test_a_signal_stops_a_run_that_goes_on_to_the_same_bits(
    run: Path, tiny: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], sender: Sender,
    monkeypatch: pytest.MonkeyPatch, signum: signal.Signals, method: str, call: int, step: int,
) -> None:  # fmt: skip
    folder = tmp_path / "stopped"
    before = [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)]
    sender.send(signum, method, call, twice=True)
    # one that would be written without the signal could hide that the signal's is missing
    settings = [s for s in tiny if not s.startswith("trainer.checkpoint")]
    assert main(["train", *settings, f"run_folder={folder}"]) == 128 + signum
    told = capsys.readouterr().err
    assert told == f"zoo: preempted by {signum.name}; go on with: zoo train resume={folder}\n"
    assert [signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGUSR1)] == before
    assert read_state(folder / "checkpoints" / "last.ckpt").step == step
    assert not (folder / "model").exists()
    monkeypatch.undo()
    assert main(["train", f"resume={folder}"]) == 0
    assert differences(run, folder) == []


def test_under_slurm(
    tiny: list[str], tmp_path: Path, sender: Sender, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lightning knows SLURM, too: it would resume from files of its own in the working folder, save
    there at a SIGUSR1, and put the job back into the queue by itself."""
    for name, value in (
        ("NTASKS", "1"), ("JOB_NAME", "zoo"), ("JOB_ID", "1"), ("PROCID", "0"),
        ("LOCALID", "0"), ("NODEID", "0"), ("NODELIST", "localhost"),
    ):  # fmt: skip
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.chdir(tmp_path)
    Path("hpc_ckpt_1.ckpt").write_bytes(b"no checkpoint")
    sender.send(signal.SIGUSR1, "training_step", 2)
    assert main(["train", *tiny, "run_folder=run"]) == 138
    assert read_state(Path("run/checkpoints/last.ckpt")).step == 2
    assert sorted(p.name for p in tmp_path.iterdir()) == ["hpc_ckpt_1.ckpt", "run"]


def test_a_signal_after_the_last_step(
    run: Path, copy: Path, capsys: pytest.CaptureFixture[str], sender: Sender
) -> None:
    """When no step comes that could end the run: the model is left to a resume."""
    sender.send(signal.SIGTERM, "on_load_checkpoint", 1)
    assert main(["train", f"resume={copy}"]) == 143
    assert "go on with" in capsys.readouterr().err
    assert not (copy / "model").exists()
    assert main(["train", f"resume={copy}"]) == 0
    assert differences(run, copy) == []


def test_a_signal_to_the_workers_too(tiny: list[str], tmp_path: Path, sender: Sender) -> None:
    folder = tmp_path / "stopped"
    sender.send(signal.SIGTERM, "training_step", 1, to_workers=True)
    settings = [*tiny, "loader.num_workers=1", f"run_folder={folder}"]
    assert main(["train", *settings]) == 143
    assert read_state(folder / "checkpoints" / "last.ckpt").step == 1


def test_a_signal_while_the_data_are_read(
    tiny: list[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from shared.data.prepared import PreparedDataset

    load = PreparedDataset.load

    def loading(*arguments: Any) -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        load(*arguments)

    monkeypatch.setattr(PreparedDataset, "load", loading)
    assert main(["train", *tiny, f"run_folder={tmp_path / 'none'}"]) == 143
    told = "preempted by SIGTERM; nothing had been written yet; start it again"
    assert told in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_signals_and_python(tiny: list[str], tmp_path: Path, sender: Sender) -> None:
    """An exception of its own; and in a thread, which has no signals, training as usual."""
    done = []
    settings = [*tiny, "trainer.max_epochs=1"]

    def train() -> None:
        done.append(zoo.train(*settings, f"run_folder={tmp_path / 'thread'}").epochs)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join(timeout=120)
    assert done == [1]
    sender.send(signal.SIGTERM, "training_step", 1)
    with pytest.raises(Preempted, match="go on with: zoo train resume=") as caught:
        zoo.train(*settings, f"run_folder={tmp_path / 'main'}")
    assert caught.value.exit_code == 143


def test_ctrl_c_that_only_the_sweep_gets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an editor sends it: its job is told, too."""
    monkeypatch.setattr("zoo.cli.parsing.SECONDS", 0.2)
    job = (
        "import os, pathlib, signal, sys, time\n"
        "def end(number, frame):\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
        "    sys.exit(130)\n"
        "signal.signal(signal.SIGINT, end)\n"
        "os.kill(os.getppid(), signal.SIGINT)\n"
        "time.sleep(60)\n"
    )
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            run_job([sys.executable, "-c", job, str(tmp_path / "told")])
    finally:
        signal.signal(signal.SIGINT, before)
    assert (tmp_path / "told").exists()


def test_a_sweep_ends_with_its_job(tmp_path: Path) -> None:
    """A signal to the sweep alone, as of a scheduler, is passed on; no job is left behind."""
    job = (
        "import os, pathlib, signal, sys, time\n"
        "def end(number, frame):\n"
        "    pathlib.Path(sys.argv[1]).touch()\n"
        "    sys.exit(143)\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "os.kill(os.getppid(), signal.SIGTERM)\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(Preempted, match="SIGTERM"):
        run_job([sys.executable, "-c", job, str(tmp_path / "told")])
    assert (tmp_path / "told").exists()
    assert run_job([sys.executable, "-c", "raise SystemExit(3)"]) == 3
