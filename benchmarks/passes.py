"""One step of CLIP at equal batch, three ways: plain, cached passes, and a GradCache loop by hand.

    pip install open_clip_torch
    python benchmarks/passes.py [--rows 64,256,1024] [--micro-batch 64] [--rounds 3] [--json FILE]

The step is forward, loss and backward of a vision transformer of 21 M parameters and a text
transformer of 17 M, 13 M of them its table, on random images of 64² and texts of 16 ids. The loop
by hand is that of the paper (arXiv:2101.06983, alg. 1): embeddings without graph, the gradient of
the loss with respect to them, every chunk again with its graph. All take turns in one process; peak
memory is over what a process of its own holds before its step: weights, gradients and inputs. The
error is the largest difference to plain of a gradient, over its largest element.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from shared.data.batch import Batch
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Position
from shared.training.chunks import Trial
from shared.training.passes import Cached, Passes, Plain
from shared.training.runner import Runner
from zoo.plugins import plugins

Step = Callable[[], None]
SIZE, LENGTH, VOCABULARY, WIDTH = 64, 16, 49408, 256
WAYS = ("plain", "GradCache by hand", "cached")


def build() -> Runner:
    registries = plugins().registries
    towers: dict[str, Any] = {
        "image": {"name": "vit", "patch_size": 8, "dim": 384, "depth": 12, "num_heads": 6},
        "text": {"name": "clip_text", "dim": 256, "depth": 6, "num_heads": 4},
    }
    prepare: dict[str, Any] = {
        "image": {"name": "clip_image", "image_size": SIZE},
        "text": {"name": "clip_tokens", "context_length": LENGTH},
    }
    parts = {
        m: {"preprocess": prepare[m], "encoder": towers[m], "head": {"name": "linear"}}
        for m in towers
    }
    config = ModelConfig.from_dict({"name": "benchmark", "embed_dim": WIDTH, "modalities": parts})
    torch.manual_seed(0)
    objective = registries.objectives.build("contrastive", "benchmark", tuple(towers))
    schemas = {"image": IMAGE, "text": TEXT}
    model = Model.build(config, schemas, registries, objective.model_scalars())
    return Runner(model, {"contrastive": objective}, {"contrastive": 1.0}).train()


def make_batch(rows: int) -> Batch:
    """Random images and texts, drawn in a fixed order."""
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, VOCABULARY - 1, (rows, LENGTH), generator=generator)
    ids[:, -1] = VOCABULARY - 1
    images = torch.randn(rows, 3, SIZE, SIZE, generator=generator)
    inputs = {"image": {"values": images}, "text": {"input_ids": ids}}
    present = dict.fromkeys(inputs, torch.ones(rows, dtype=torch.bool))
    numbers = torch.arange(rows)
    return Batch(inputs, present, torch.zeros(rows).long(), numbers, numbers, numbers)


def ours(runner: Runner, batch: Batch, passes: Passes) -> Step:
    def step() -> None:
        runner.zero_grad()
        passes(runner, batch, Position(), Tensor.backward)

    return step


def by_hand(runner: Runner, batch: Batch, micro_batch: int) -> Step:
    from open_clip.loss import ClipLoss

    model, clip = runner.model, ClipLoss()
    inputs = {m: next(iter(named.items())) for m, named in batch.inputs.items()}

    def encode(modality: str, chunk: Tensor) -> Tensor:
        named = {inputs[modality][0]: chunk}
        return model.project(modality, model.encode(modality, named).pooled)

    def step() -> None:
        runner.zero_grad()
        chunks = [(m, c) for m in inputs for c in inputs[m][1].split(micro_batch)]
        states, rows = [], []
        with torch.no_grad():
            for modality, chunk in chunks:
                states.append(torch.get_rng_state())
                rows.append(encode(modality, chunk).requires_grad_())
        half = len(rows) // 2
        scale = model.scalars["logit_scale"].exp()
        clip(torch.cat(rows[:half]), torch.cat(rows[half:]), scale).backward()
        for (modality, chunk), state, row in zip(chunks, states, rows, strict=True):
            torch.set_rng_state(state)
            encode(modality, chunk).backward(row.grad)

    return step


def make(way: str, rows: int, micro_batch: int) -> tuple[Runner, Step]:
    runner, batch = build(), make_batch(rows)
    if way == "GradCache by hand":
        return runner, by_hand(runner, batch, micro_batch)
    passes = Plain() if way == "plain" else Cached(micro_batch)
    return runner, ours(runner, batch, passes)


def error(runner: Runner, plain: Runner) -> float:
    pairs = zip(runner.parameters(), plain.parameters(), strict=True)
    grads = [(p.grad, q.grad) for p, q in pairs if p.grad is not None and q.grad is not None]
    return max(float((a - b).abs().max() / b.abs().max()) for a, b in grads if b.any())


def memory(field: str) -> float:
    """MiB of a field of this process's status: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def print_peak(way: str, rows: int, micro_batch: int) -> None:
    runner, step = make(way, rows, micro_batch)
    for parameter in runner.parameters():
        parameter.grad = torch.zeros_like(parameter)
    before = memory("VmRSS")
    step()
    print(memory("VmHWM") - before)


def peak(way: str, rows: int, micro_batch: int) -> float:
    """MiB that a step needs beside weights, their gradients and the inputs."""
    command = [sys.executable, __file__, "--peak", way, "--rows", str(rows)]
    command += ["--micro-batch", str(micro_batch)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{way} at {rows} rows ended with {done.returncode}: {done.stderr}")
    return float(done.stdout.split()[-1])


def measure(rows: int, micro_batch: int, rounds: int) -> list[dict[str, Any]]:
    made = {way: make(way, rows, micro_batch) for way in WAYS}
    times: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(rounds + 1):
        for way, (_, step) in made.items():
            began = time.perf_counter()
            step()
            if turn:  # the first is to warm up
                times[way].append(time.perf_counter() - began)
    plain = made["plain"][0]
    return [
        {
            "rows": rows,
            "way": way,
            "seconds": statistics.median(times[way]),
            "ratios": [a / b for a, b in zip(times[way], times["plain"], strict=True)],
            "peak_mib": peak(way, rows, micro_batch),
            "error": error(made[way][0], plain),
        }
        for way in WAYS
    ]


def activations(micro_batch: int) -> float:
    """MiB that the graphs of both towers keep for a micro-batch, as `micro_batch=auto` counts."""
    runner, batch = build(), make_batch(micro_batch)
    trial = Trial([*runner.parameters(), *runner.buffers()])
    runner(batch, Position(), trial)
    return trial.bytes_of(micro_batch) / 2**20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", default="64,256,1024", help="batches, with commas between")
    parser.add_argument("--micro-batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peak", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    batches = [int(rows) for rows in options.rows.split(",")]
    if options.peak:
        print_peak(options.peak, batches[0], options.micro_batch)
        return
    found = [
        entry for rows in batches for entry in measure(rows, options.micro_batch, options.rounds)
    ]
    threads, kept = torch.get_num_threads(), activations(options.micro_batch)
    of = f"activations of {options.micro_batch} rows"
    table = Table(title=f"a step on {threads} threads; {of}: {kept:.0f} MiB")
    for column in ("batch", "passes", "seconds", "to plain, by round", "peak MiB", "error"):
        table.add_column(column, justify="right")
    for entry in found:
        ratios = " ".join(f"{ratio:.2f}" for ratio in entry["ratios"])
        numbers = (f"{entry['seconds']:.2f}", ratios, f"{entry['peak_mib']:.0f}")
        table.add_row(str(entry["rows"]), entry["way"], *numbers, f"{entry['error']:.1e}")
    Console(width=120).print(table)
    if options.json:
        settings = {"micro_batch": options.micro_batch, "threads": threads, "activations_mib": kept}
        options.json.write_text(json.dumps({**settings, "steps": found}, indent=1))


if __name__ == "__main__":
    main()
