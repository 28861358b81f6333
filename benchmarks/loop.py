"""A training step of `zoo train` against a bare PyTorch loop over the same towers and batches.

    python benchmarks/loop.py [--epochs 6] [--rounds 5] [--batch-size 128]

Both run in this process, in turn. The bare loop is what a person would write: encoders, heads,
cross-entropies, AdamW, clipping; no log, no callback, no checkpoint. Ours is the whole of `zoo
train`: Lightning, logs, online probe, progress, data-wait. Times are seconds from the first batch
of an epoch to the end of its last, over its steps; validation is in neither.
"""

import argparse
import statistics
import tempfile
import threading
import time
from itertools import combinations
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import nn
from torch.nn.functional import cross_entropy, normalize

from shared.data.prepared import PreparedDataset, silent
from shared.training import run as training
from shared.training.config import TrainConfig
from shared.training.loader import CountedLoader
from zoo.config import compose_config, typed
from zoo.plugins import plugins


class EpochTimer(pl.Callback):
    """Seconds a step of every epoch; in front of the other callbacks, so that theirs count."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        self._steps, self._began = trainer.global_step, time.perf_counter()

    def on_validation_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        elapsed = time.perf_counter() - self._began
        self.seconds.append(elapsed / (trainer.global_step - self._steps))


class PeakMemory:
    """Largest resident memory of the process while the block runs, sampled every 5 ms."""

    def __enter__(self) -> "PeakMemory":
        self.bytes, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _sample(self) -> None:
        page = 4096
        while not self._stop.wait(0.005):
            resident = int(Path("/proc/self/statm").read_text().split()[1]) * page
            self.bytes = max(self.bytes, resident)


def ours(config: TrainConfig) -> list[float]:
    """Seconds a step of each epoch, by the very function that `zoo train` calls."""
    timer = EpochTimer()
    original = pl.Trainer

    def with_timer(**options: Any) -> pl.Trainer:
        return original(**{**options, "callbacks": [timer, *options["callbacks"]]})

    training.pl.Trainer = with_timer  # type: ignore[misc, assignment]
    try:
        with tempfile.TemporaryDirectory() as folder:
            quiet = Console(quiet=True)
            training.train(config, plugins().registries, Path(folder) / "run", quiet, silent)
    finally:
        training.pl.Trainer = original  # type: ignore[misc]
    return timer.seconds


def bare(config: TrainConfig) -> list[float]:
    """Seconds a step of each epoch of a loop without any frame around it."""
    dataset = training.build_dataset(config.data, plugins().registries)
    model = training.build_runner(config, dataset, plugins().registries).model
    data = PreparedDataset(dataset, model.preprocessors, config.seed)
    rows = dataset.indices("train")
    data.fit_preprocessors(rows.tolist())
    data.load(rows.tolist())
    scale = nn.Parameter(torch.tensor(np.log(1 / 0.07), dtype=torch.float32))
    parameters = [*model.encoders.parameters(), *model.heads.parameters(), scale]
    optimizer = torch.optim.AdamW(parameters, lr=config.optimizer.lr, weight_decay=0.05)
    seconds = []
    for epoch in range(config.trainer.max_epochs):
        loader = CountedLoader(
            data, rows, config.loader.batch_size, position=lambda e=epoch: (e, 0), seed=config.seed
        )
        began = time.perf_counter()
        for batch in loader:
            optimizer.zero_grad()
            projected = {
                m: normalize(model.heads[m](model.encoders[m](x).pooled), dim=-1)
                for m, x in batch.inputs.items()
            }
            loss = torch.zeros(())
            for a, b in combinations(projected, 2):
                both = batch.present[a] & batch.present[b]
                left = projected[a][both[batch.present[a]]]
                right = projected[b][both[batch.present[b]]]
                logits = scale.exp() * left @ right.T
                target = torch.arange(len(logits))
                pair = cross_entropy(logits, target) + cross_entropy(logits.T, target)
                loss = loss + pair / 6
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
        seconds.append((time.perf_counter() - began) / len(loader))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=128)
    options = parser.parse_args()
    overrides = ["domain=astro", "trainer.device=cpu", f"trainer.max_epochs={options.epochs}"]
    overrides.append(f"loader.batch_size={options.batch_size}")
    config = typed(TrainConfig, compose_config("train", overrides))
    steps: dict[str, list[float]] = {"bare loop": [], "zoo train": []}
    peaks = dict.fromkeys(steps, 0)
    ratios = []
    for _ in range(options.rounds):
        medians = {}
        for name, function in (("bare loop", bare), ("zoo train", ours)):
            with PeakMemory() as memory:
                seconds = function(config)[1:]  # the first epoch warms up
            steps[name] += seconds
            medians[name] = statistics.median(seconds)
            peaks[name] = max(peaks[name], memory.bytes)
        ratios.append(medians["zoo train"] / medians["bare loop"])
    threads = torch.get_num_threads()
    table = Table(
        title=f"ms a step, batch {options.batch_size}, {threads} threads, synthetic stars"
    )
    for column in ("", "median", "min", "max", "peak resident MiB"):
        table.add_column(column, justify="right")
    for name, values in steps.items():
        figures = (statistics.median(values), min(values), max(values))
        cells = [f"{1e3 * value:.1f}" for value in figures]
        table.add_row(name, *cells, f"{peaks[name] / 2**20:.0f}")
    Console().print(table)
    ratio = ", ".join(f"{value:.3f}" for value in ratios)
    print(f"ratio zoo train / bare loop by round: {ratio}; median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
