"""`zoo train` in several processes: that they equal one, and what happens when one is lost."""

import csv
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from forked import Forked
from killing import differences
from safetensors.torch import load_file

from zoo.cli.main import main

pytestmark = pytest.mark.slow

SETTINGS = [
    "domain=astro",
    "data.n_stars=60",
    "loader.batch_size=8",
    "trainer.max_epochs=4",
    "trainer.device=cpu",
    "trainer.log_every_n_steps=1",
    "trainer.checkpoint_every_n_steps=1",
    "evaluator=null",
]
"""The last batch of a validation has a single sample: one of two ranks has none."""
LONG = [s for s in SETTINGS if "max_epochs" not in s] + ["trainer.max_epochs=100000"]
TIMEOUT = 30
"""Of processes that hang, in seconds: much longer than they take to start."""


class Job:
    """A `zoo train`, in a session of its own so that nothing outlives a test.

    Attributes:
        folder: That of the run; `folder`.out has what it prints.
        process: Forked, or a command (`anew`).
    """

    def __init__(
        self, folder: Path, *settings: str, anew: bool = False, **environment: str
    ) -> None:
        self.folder = folder
        given = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
        self.process: Forked | subprocess.Popen[str]
        if anew:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "zoo.cli.main", "train", *settings],
                env=given,
                stdout=folder.with_suffix(".out").open("w"),
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        else:
            out = folder.with_suffix(".out")
            self.process = Forked(["train", *settings], out, environment=given)

    def ranks(self) -> list[int]:
        """Numbers of the processes that live, the first one's first."""
        found = []
        for path in Path("/proc").glob("[0-9]*/stat"):
            try:
                state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
                command = path.with_name("cmdline").read_text()
            except OSError:
                continue
            # helpers have other commands; that of what is forked names shared.training.run
            if int(session) == self.process.pid and state not in "ZX" and "train" in command:
                found.append(int(path.parent.name))
        return sorted(found)

    def wait_for_steps(self, more: int = 3) -> None:
        """Until a checkpoint is there and so many steps were logged."""
        goal = steps(self.folder) + more
        deadline = time.monotonic() + 120
        while steps(self.folder) < goal or not (self.folder / "checkpoints/last.ckpt").exists():
            assert time.monotonic() < deadline
            assert self.process.poll() is None, self.process.communicate(1)[1]
            time.sleep(0.01)

    def end(self, timeout: float) -> tuple[int, str]:
        """Exit code and what it said, after the last process has gone."""
        _, told = self.process.communicate(timeout=timeout)
        deadline = time.monotonic() + 5
        while self.ranks() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not self.ranks(), "processes were left behind"
        assert "Traceback" not in told
        return self.process.returncode, told

    def clean_up(self) -> None:
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return
        self.process.wait()


@pytest.fixture
def job() -> Iterator[Callable[..., Job]]:
    jobs: list[Job] = []

    def start(*args: str, **options: Any) -> Job:
        jobs.append(Job(*args, **options))  # type: ignore[arg-type]
        return jobs[-1]

    yield start
    for made in jobs:
        made.clean_up()


def steps(folder: Path) -> int:
    """The last step that was logged."""
    if not (folder / "metrics.csv").exists():
        return 0
    with (folder / "metrics.csv").open(newline="") as file:
        return max((int(r[0]) for r in csv.reader(file) if r and r[0].isdigit()), default=0)


def probed(folder: Path) -> dict[tuple[str, str], float]:
    """What the linear probe gave, by step and modality."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    return {(r[0], r[1]): float(r[2]) for r in rows if r[1].startswith("probe/")}


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/model.safetensors")


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The run in one process."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert main(["train", *SETTINGS, f"run_folder={folder}"]) == 0
    return folder


def assert_equal(folder: Path, alone: Path) -> None:
    """The same weights up to rounding: the same batches, gathered losses, averaged gradients."""
    found = weights(folder)
    for name, tensor in weights(alone).items():
        torch.testing.assert_close(found[name], tensor, atol=2e-4, rtol=1e-3, msg=name)


def test_two_killed_processes_resume_to_the_same_bits(
    job: Callable[..., Job], alone: Path, tmp_path: Path
) -> None:
    whole, folder = tmp_path / "whole", tmp_path / "killed"
    # as a user starts it; the others are forked, and so are their ranks
    ended = job(whole, *SETTINGS, "trainer=ddp", f"run_folder={whole}", anew=True).end(120)
    assert ended[0] == 0
    assert whole.with_suffix(".out").read_text().count("next:") == 1
    assert_equal(whole, alone)

    # a child is killed: the first process says so
    run = job(folder, *SETTINGS, "trainer=ddp", f"run_folder={folder}")
    run.wait_for_steps()
    os.kill(run.ranks()[1], signal.SIGKILL)
    code, told = run.end(60)
    assert code == 1
    assert told.count("zoo:") == 1
    assert "the process of rank 1 was ended by signal 9 (SIGKILL)" in told
    assert f"go on with: zoo train resume={folder}" in told

    # the first process is killed: the other says so
    run = job(folder, f"resume={folder}")
    run.wait_for_steps()
    os.kill(run.ranks()[0], signal.SIGKILL)
    code, told = run.end(60)
    assert code == -signal.SIGKILL
    assert told.count("zoo:") == 1
    assert "the first process of the run was ended" in told
    assert f"go on with: zoo train resume={folder}" in told
    assert not (folder / "model").exists(), "it had ended before it was killed"

    assert job(folder, f"resume={folder}").end(120)[0] == 0
    assert differences(whole, folder) == []


def test_a_process_that_hangs_ends_the_run(job: Callable[..., Job], tmp_path: Path) -> None:
    settings = [*LONG, "trainer=ddp", f"trainer.timeout={TIMEOUT}"]
    runs = []
    for hanging in (0, 1):
        folder = tmp_path / str(hanging)
        runs.append(job(folder, *settings, f"run_folder={folder}"))
        runs[-1].wait_for_steps()
        os.kill(runs[-1].ranks()[hanging], signal.SIGSTOP)
    for hanging, run in enumerate(runs):
        code, told = run.end(TIMEOUT + 30)
        # a first process that hangs is killed by the other
        assert code == (1 if hanging else -signal.SIGKILL)
        assert f"rank {1 - hanging}: another process of the run did not answer" in told
        assert f"go on with: zoo train resume={run.folder}" in told


def write_stars(root: Path) -> Path:
    """Twenty stars with a spectrum and two numbers."""
    (root / "spectra").mkdir(parents=True)
    rows = [f"star{i},{'ab'[i % 2]},{i % 5},{i % 7}\n" for i in range(20)]
    (root / "table.csv").write_text("id,label,mass,size\n" + "".join(rows))
    for i in range(20):
        points = [f"{3900 + 50 * n},{3 + math.sin(n * (i + 1) / 9):.4f}\n" for n in range(100)]
        (root / "spectra" / f"star{i}.csv").write_text("wavelength,flux\n" + "".join(points))
    return root


def test_one_rank_s_mistake_is_told_once(job: Callable[..., Job], tmp_path: Path) -> None:
    """A file that turns bad during training: one rank reads it."""
    folder, data = tmp_path / "run", write_stars(tmp_path / "stars")
    settings = [s for s in LONG if not s.startswith("data.")]
    settings += ["data=star_folder", f"data.root={data}", "loader.in_memory=false"]
    run = job(folder, *settings, "trainer=ddp", f"run_folder={folder}")
    run.wait_for_steps(1)
    (data / "spectra" / "star7.csv").write_text("wavelength,flux\n1,a\n")
    code, told = run.end(60)
    assert code == 2
    assert told.count("zoo:") == 1
    assert "star7.csv" in told


def test_two_nodes_equal_one_process(job: Callable[..., Job], alone: Path, tmp_path: Path) -> None:
    folder = tmp_path / "nodes"
    nodes = ["trainer=ddp", "trainer.devices=1", "trainer.num_nodes=2", f"run_folder={folder}"]
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    both = [job(folder, *SETTINGS, *nodes, NODE_RANK=str(node), **address) for node in (0, 1)]
    assert [run.end(120)[0] for run in both] == [0, 0]
    assert_equal(folder, alone)
    found, wanted = (probed(run) for run in (folder, alone))
    assert len(wanted) == 4 * 3  # epochs · modalities
    assert found == pytest.approx(wanted)


def test_processes_started_by_others_need_a_folder(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["train", *SETTINGS, "trainer=ddp", "trainer.num_nodes=2"]) == 2
    assert "run_folder is missing" in capsys.readouterr().err
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "none")
    monkeypatch.setenv("WORLD_SIZE", "3")
    assert main(["train", *SETTINGS, "trainer=ddp"]) == 2
    assert "torchrun has started 3 processes" in capsys.readouterr().err


def free_port() -> int:
    import socket

    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port
