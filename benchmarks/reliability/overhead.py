"""What exact randomness and verified checkpoints cost the demo, `zoo train domain=astro`.

    python benchmarks/reliability/overhead.py [--epochs 4] [--rounds 5] [--threads N] [KEY=VALUE …]

The same training runs in turn as it is and with what most trainings have in place of ours: torch's
DataLoader that shuffles, one global random state for order, crops and dropout, and Lightning's own
way to write a checkpoint, without hash, fsync, previous file and flushed logs. Model, data, number
of steps and of checkpoints are the same. Seconds are those of `Trainer.fit`, from the first step to
the last checkpoint, and of all that follows until the model is saved. Then what the parts take by
themselves in a run as it is.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import wraps
from pathlib import Path
from typing import Any
from unittest.mock import patch

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.fabric.plugins import TorchCheckpointIO
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from torch.utils.data import DataLoader

from shared.checkpoint_file import check_hash
from shared.data import prepared
from shared.data.batch import PreparedSample
from shared.data.prepared import PreparedDataset, silent
from shared.random import sample_seed
from shared.training import checkpoints, run, trainer
from shared.training.checkpoints import AtomicCheckpointIO
from shared.training.config import TrainConfig
from shared.training.logs import Curves, MetricsCSV
from shared.training.module import PretrainModule
from shared.weights import read_tensors
from zoo.config import compose_config, typed
from zoo.plugins import plugins

GLOBAL = np.random.default_rng(0)


class PlainLoader(DataLoader[PreparedSample]):
    """torch's own loader over the same samples.

    Attributes:
        wait_seconds: What the progress of a run reads; not measured.
    """

    wait_seconds = 0.0

    def __init__(
        self, dataset: PreparedDataset, rows: Any, batch_size: int, **options: Any
    ) -> None:
        training = options["position"] is not None
        super().__init__(
            [(0 if training else None, int(row)) for row in rows],  # type: ignore[arg-type]
            batch_size,
            shuffle=training,
            drop_last=training,
            collate_fn=lambda keys: dataset.collate([dataset[key] for key in keys]),
        )


def plain_sample(data: PreparedDataset, key: tuple[int | None, int]) -> PreparedSample:
    """A sample whose crop is drawn from a global state."""
    epoch, row = key
    assert data._memory is not None
    rng = None if epoch is None else GLOBAL
    inputs = {m: data.preprocessors[m].crop(v, rng) for m, v in data._memory[row].items()}
    return PreparedSample(inputs, int(data.dataset.labels[row]), int(data._groups[row]), row, 0)


def plain_best(path: Path, tensors: Mapping[str, torch.Tensor], best: Any) -> None:
    """The best weights without a hash."""
    path.parent.mkdir(exist_ok=True)
    facts = {"epoch": str(best.epoch), "value": str(best.value)}
    save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, path, facts)


@contextmanager
def plain() -> Iterator[None]:
    """Trainings without what is measured here."""
    nothing = lambda *_: None  # noqa: E731
    with ExitStack() as stack:
        for owner, name, other in (
            (trainer, "CountedLoader", PlainLoader),
            (PreparedDataset, "__getitem__", plain_sample),
            (PretrainModule, "_seed", nothing),
            (AtomicCheckpointIO, "save_checkpoint", TorchCheckpointIO.save_checkpoint),
            (checkpoints, "write_best", plain_best),
            (run, "read_best", lambda path: (read_tensors(path), None)),
            (MetricsCSV, "save", nothing),
            (Curves, "save", nothing),
        ):
            stack.enter_context(patch.object(owner, name, other))
        yield


@contextmanager
def timed(seconds: dict[str, list[float]]) -> Iterator[None]:
    """Collects how long each call of the parts takes."""

    def clocked(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(original)
        def call(*arguments: Any, **options: Any) -> Any:
            began = time.perf_counter()
            try:
                return original(*arguments, **options)
            finally:
                seconds[name].append(time.perf_counter() - began)

        return call

    with ExitStack() as stack:
        for label, owner, name in (
            ("seed of a step", PretrainModule, "_seed"),
            ("seed of a sample", prepared, "sample_seed"),
            ("checkpoint: all of it", AtomicCheckpointIO, "save_checkpoint"),
            ("checkpoint or other file: fsync", os, "fsync"),
            ("checkpoint or other file: rename", os, "replace"),
            ("best weights: all of it", checkpoints, "write_best"),
            ("metrics to disk", MetricsCSV, "save"),
            ("TensorBoard flushed", Curves, "save"),
            ("best weights read and verified at the end", run, "read_best"),
        ):
            stack.enter_context(patch.object(owner, name, clocked(label, getattr(owner, name))))
        yield


def train(config: TrainConfig, folder: Path) -> float:
    """Seconds from the first step of a training to its end."""
    began = 0.0
    fit = pl.Trainer.fit

    def start(*arguments: Any, **options: Any) -> None:
        nonlocal began
        began = time.perf_counter()
        fit(*arguments, **options)

    with patch.object(pl.Trainer, "fit", start):
        run.train(config, plugins().registries, folder, Console(quiet=True), silent)
    return time.perf_counter() - began


def print_parts(parts: Mapping[str, list[float]], total: float, checkpoint: Path) -> None:
    """A row a part: calls, time of a call, share of the run."""
    began = time.perf_counter()
    check_hash(checkpoint)
    hashing = time.perf_counter() - began
    content = torch.load(checkpoint, weights_only=True)
    began = time.perf_counter()
    TorchCheckpointIO().save_checkpoint(content, checkpoint.with_name("plain.ckpt"))
    plainly = time.perf_counter() - began
    began, number = time.perf_counter(), 10_000
    for row in range(number):
        np.random.default_rng(sample_seed(0, 1, str(row)))
    state = (time.perf_counter() - began) / number
    samples = len(parts["seed of a sample"])
    rows = {name: (len(values), sum(values) / len(values)) for name, values in parts.items()}
    rows["seed of a sample and its random state"] = (samples, state)
    saved = len(parts["checkpoint: all of it"])
    rows[f"checkpoint: hash of {checkpoint.stat().st_size / 2**20:.1f} MiB"] = (saved, hashing)
    rows["for comparison: a checkpoint as Lightning writes it"] = (saved, plainly)
    table = Table(title="parts of a run as it is; parts of others are in them")
    for column in ("part", "calls", "µs a call", "% of the run"):
        table.add_column(column, justify="left" if column == "part" else "right")
    for name, (calls, mean) in rows.items():
        share = 100 * calls * mean / total
        table.add_row(name, str(calls), f"{1e6 * mean:.1f}", f"{share:.2f}")
    Console().print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("overrides", nargs="*", help="other settings of the training")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    overrides = ["domain=astro", "trainer.device=cpu", f"trainer.max_epochs={options.epochs}"]
    config = typed(TrainConfig, compose_config("train", [*overrides, *options.overrides]))
    ways: dict[str, Callable[[], Any]] = {"as it is": ExitStack, "plain": plain}
    seconds: dict[str, list[float]] = defaultdict(list)
    with tempfile.TemporaryDirectory() as work:
        train(config, Path(work) / "warm")
        for number in range(options.rounds):
            # each way goes first in every other round
            for name in sorted(ways, reverse=bool(number % 2)):
                with ways[name]():
                    seconds[name].append(train(config, Path(work) / f"{name}-{number}"))
        parts: dict[str, list[float]] = defaultdict(list)
        with timed(parts):
            total = train(config, Path(work) / "parts")
        print_parts(parts, total, Path(work) / "parts" / "checkpoints" / "last.ckpt")
    for name, values in seconds.items():
        print(f"{name}: {', '.join(f'{v:.2f}' for v in values)} s; "
              f"median {statistics.median(values):.2f}")  # fmt: skip
    ratios = [a / b - 1 for a, b in zip(seconds["as it is"], seconds["plain"], strict=True)]
    print(f"overhead by round: {', '.join(f'{100 * r:+.1f}' for r in ratios)} %; "
          f"median {100 * statistics.median(ratios):+.1f} %")  # fmt: skip


if __name__ == "__main__":
    main()
