"""Runs of `zoo train` that are killed at chosen instants, and what they leave beside a whole run.

Every run is a process of its own, forked from a server that has imported everything already, and
goes through the command line's `main`. What its phases are is told from outside, by wrapping; the
code that trains knows nothing of it.
"""

import json
import mmap
import multiprocessing
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from safetensors.torch import load_file
from toy import SMOKE

SHORT = ["trainer.device=cpu", "trainer.max_epochs=4", "loader.batch_size=16", "evaluator=null"]
KINDS = {
    "contrastive": [
        *("domain=astro", "data.n_stars=90", "objective=[contrastive]", "optimizer.lr=0.01"),
        *("schedule.name=plateau", "schedule.warmup_epochs=1", "schedule.patience=0"),
        *("selection.patience=2", "trainer.log_every_n_steps=1"),
    ],
    "masked images": [*SMOKE["mae"], "trainer.log_every_n_steps=2"],
    "masked series": [*SMOKE["masked_series_and_contrastive"], "trainer.log_every_n_steps=1"],
    "self-distillation": [*SMOKE["dinov2"], "trainer.log_every_n_steps=3"],
}

PHASES = (
    *("start or end", "reading", "recording", "resuming", "loop", "step", "after step", "metrics"),
    *("validation", "best weights", "checkpoint", "rename", "model", "ended"),
)
"""The innermost one counts: `rename` is one of a checkpoint's, `metrics` may be in a validation."""

SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(
    ["shared.training.run", "torch.utils.tensorboard", "zoo.cli.main", "zoo.cli.train"]
)


@dataclass(frozen=True)
class Instant:
    """Inside a phase: its `occurrence`-th time (from 0), at the `call`-th call of a function or
    return from one (from 1), in Python or C."""

    phase: str
    occurrence: int
    call: int


@dataclass(frozen=True)
class Course:
    """How a whole run went.

    Attributes:
        folder: Its run folder.
        seconds: From the command to its end.
        calls: By phase, the calls and returns within each of its times.
    """

    folder: Path
    seconds: float
    calls: Mapping[str, list[int]]


class Watch:
    """Says in shared memory in which phase this process is, and kills it at an instant."""

    def __init__(self, state: mmap.mmap, instant: Instant | None) -> None:
        self._state, self._instant = state, instant
        self._entered: Counter[str] = Counter()
        self._seen = 0
        self._last = float("inf")
        self.calls: dict[str, list[int]] = defaultdict(list)

    def count(self, frame: FrameType, event: str, argument: object) -> None:
        """A profiling function."""
        self._seen += 1
        if self._seen >= self._last:
            os.kill(os.getpid(), signal.SIGKILL)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        outer, began = self._state[0], self._seen
        if self._instant and (name, self._entered[name]) == (
            self._instant.phase,
            self._instant.occurrence,
        ):
            self._last = self._seen + self._instant.call
            sys.setprofile(self.count)
        self._entered[name] += 1
        self._state[0] = PHASES.index(name)
        yield
        self._state[0] = outer
        self.calls[name].append(self._seen - began)

    def wrap(self, owner: Any, name: str, phase: str, within: str | None = None) -> None:
        """Make a function a phase, only `within` another one if that is given."""
        original: Callable[..., Any] = getattr(owner, name)

        @wraps(original)
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if within and self._state[0] != PHASES.index(within):
                return original(*arguments, **options)
            with self.phase(phase):
                return original(*arguments, **options)

        setattr(owner, name, wrapped)

    def install(self) -> None:
        """Wrap what a run is made of."""
        import lightning.pytorch as pl
        from lightning.pytorch.loggers import TensorBoardLogger
        from lightning.pytorch.loops import _EvaluationLoop

        from shared.data.prepared import PreparedDataset
        from shared.model import Model
        from shared.training import checkpoints, run
        from shared.training.logs import MetricsCSV
        from shared.training.module import PretrainModule
        from shared.training.runner import Runner

        self.wrap(PreparedDataset, "load", "reading")
        self.wrap(run, "record", "recording")
        self.wrap(run, "resume_point", "resuming")
        self.wrap(MetricsCSV, "rewind", "resuming")
        self.wrap(PretrainModule, "on_load_checkpoint", "resuming")
        self.wrap(pl.Trainer, "fit", "loop")
        self.wrap(PretrainModule, "training_step", "step")
        self.wrap(Runner, "after_step", "after step")
        self.wrap(MetricsCSV, "log_metrics", "metrics")
        self.wrap(TensorBoardLogger, "log_metrics", "metrics")
        self.wrap(_EvaluationLoop, "run", "validation")
        self.wrap(checkpoints, "write_best", "best weights")
        self.wrap(checkpoints.AtomicCheckpointIO, "save_checkpoint", "checkpoint")
        self.wrap(os, "replace", "rename", within="checkpoint")
        self.wrap(Model, "save", "model")


def _train(
    settings: Sequence[str], folder: Path, state: Path, instant: Instant | None, counted: bool
) -> None:
    """What the process of a run does."""
    os.setpgid(0, 0)  # so that the workers of its loader can be found when it is gone
    # those start as they do in a process that the command line has started
    multiprocessing.set_start_method(None, force=True)
    log = os.open(folder.with_suffix(".log"), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    torch.set_num_threads(1)
    from zoo.cli.main import main

    with state.open("r+b") as file:
        shared = mmap.mmap(file.fileno(), 2)
    watch = Watch(shared, instant)
    watch.install()
    if counted:
        sys.setprofile(watch.count)
    shared[1] = 1
    began = time.perf_counter()
    code = main(["train", *settings])
    sys.setprofile(None)
    course = {"seconds": time.perf_counter() - began, "calls": watch.calls}
    shared[0] = PHASES.index("ended")
    folder.with_suffix(".json").write_text(json.dumps(course))
    sys.exit(code)


class Killer:
    """Starts runs, kills them, and remembers the processes that it has killed."""

    def __init__(self, work: Path) -> None:
        self.killed: list[int] = []
        self._state = work / "state"

    def run(
        self,
        settings: Sequence[str],
        folder: Path,
        kill: Instant | float | None = None,
        counted: bool = False,
    ) -> str:
        """Run `zoo train` with these settings and kill it at an instant or after some seconds.

        Returns:
            The phase in which it was killed, or `ended`.

        Raises:
            RuntimeError: It ended by itself, and not well.
        """
        self._state.write_bytes(bytes(2))
        instant = kill if isinstance(kill, Instant) else None
        arguments = (list(settings), folder, self._state, instant, counted)
        process = SERVER.Process(target=_train, args=arguments)
        with self._state.open("r+b") as file, mmap.mmap(file.fileno(), 2) as state:
            process.start()
            if isinstance(kill, float):
                while not state[1] and process.is_alive():
                    time.sleep(0.001)
                process.join(kill)
                process.kill()
            process.join()
            phase = PHASES[state[0]]
        assert process.pid is not None
        if process.exitcode == -signal.SIGKILL:
            self.killed.append(process.pid)
            return phase
        if process.exitcode != 0:
            log = folder.with_suffix(".log")
            raise RuntimeError(f"exit code {process.exitcode}, {log}: {log.read_text()[-300:]}")
        return "ended"

    def course(self, settings: Sequence[str], folder: Path) -> Course:
        """A run that nothing disturbs; counting its calls makes it a few times slower."""
        self.run([*settings, f"run_folder={folder}"], folder, counted=True)
        return Course(folder, **json.loads(folder.with_suffix(".json").read_text()))

    def seconds(self, settings: Sequence[str], course: Course) -> float:
        """How long the same run takes when nothing is counted.

        Raises:
            RuntimeError: It is not the same.
        """
        again = course.folder.with_name(f"{course.folder.name}-again")
        self.run([*settings, f"run_folder={again}"], again)
        if found := differences(course.folder, again):
            raise RuntimeError(f"two whole runs differ, {course.folder} and {again}: {found}")
        return float(json.loads(again.with_suffix(".json").read_text())["seconds"])

    def orphans(self, patience: float = 20.0) -> list[int]:
        """Processes that those killed have started and that live on; torch's workers look for their
        parent every five seconds."""
        groups, deadline = set(self.killed), time.monotonic() + patience
        while (alive := _members(groups)) and time.monotonic() < deadline:
            time.sleep(0.1)
        return alive


def _members(groups: set[int]) -> list[int]:
    """Living processes of process groups."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, group = path.read_text().rpartition(")")[2].split()[:3]
        except OSError:  # it has just ended
            continue
        if int(group) in groups and state != "Z":
            found.append(int(path.parent.name))
    return found


def continued(settings: Sequence[str], folder: Path) -> list[str]:
    """What a user types after a run was killed: the same command if it had not begun."""
    if (folder / "config.yaml").exists():
        return [f"resume={folder}"]
    return [*settings, f"run_folder={folder}"]


def differences(one: Path, two: Path) -> list[str]:
    """What two run folders differ in: files, metrics, model, best weights, resume checkpoint,
    scalars in TensorBoard. Times are not compared."""
    found = []
    names = [_names(folder) for folder in (one, two)]
    found += [f"{name} in one only" for name in sorted(names[0] ^ names[1])]
    for name in ("metrics.csv", "model/config.json", "model/README.md", "preprocessing.json"):
        if (one / name).read_bytes() != (two / name).read_bytes():
            found.append(name)
    for name in ("model/model.safetensors", "checkpoints/best.safetensors"):
        found += _unequal(load_file(one / name), load_file(two / name), name)
    checkpoints = [torch.load(f / "checkpoints/last.ckpt", weights_only=True) for f in (one, two)]
    found += _unequal(*checkpoints, "last.ckpt")
    if _scalars(one) != _scalars(two):
        found.append("tensorboard")
    return found


def _names(folder: Path) -> set[str]:
    """Files of a run folder; those of TensorBoard, of which each start makes one, as one."""
    files = (p.relative_to(folder) for p in folder.rglob("*") if p.is_file())
    return {"tensorboard" if p.parts[0] == "tensorboard" else str(p) for p in files}


def _unequal(one: Any, two: Any, name: str) -> list[str]:
    """Paths at which two nested values differ; tensors by their bits."""
    if isinstance(one, dict) and isinstance(two, dict) and one.keys() == two.keys():
        return [path for key in one for path in _unequal(one[key], two[key], f"{name}/{key}")]
    if isinstance(one, list | tuple) and isinstance(two, list | tuple) and len(one) == len(two):
        pairs = enumerate(zip(one, two, strict=True))
        return [path for i, pair in pairs for path in _unequal(*pair, f"{name}/{i}")]
    if isinstance(one, torch.Tensor) and isinstance(two, torch.Tensor):
        return [] if one.dtype == two.dtype and torch.equal(one, two) else [name]
    return [] if type(one) is type(two) and one == two else [name]


def _scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Step and value of everything in TensorBoard's files, as it would show them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    events.Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }
