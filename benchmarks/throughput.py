"""Training steps against open_clip's and lightly's whole own: images a second, memory, MFU.

    pip install lightly open_clip_torch
    python benchmarks/throughput.py --device cuda --dtype bfloat16 --batch-size 256 [--compile]
    python benchmarks/throughput.py --small --batch-size 8

clip: ViT-B/16 and CLIP's text tower, softmax loss, AdamW; open_clip's CLIP and ClipLoss, from which
our model takes its weights, so that the first losses have to agree. dino: ViT-B/14, two crops of
224² and eight of 98² an image, 65536 prototypes; lightly's MaskedVisionTransformerTIMM, its heads
and losses, put together as in steps.py. Inputs are random and stay on the device: no
data are loaded. Both take turns in one process; peak memory is of three steps in a process of
their own (on a CPU over what it holds before the first).

MFU is the share of the device's ceiling, the fastest of several products of two square matrices in
the same dtype. Its FLOPs are those of the peer's step as torch.utils.flop_counter counts them
(products, convolutions and attention, forward and backward), for both: what a step computes again
or spares is not counted.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from throughput_steps import PEERS, SMALL, STEPS, Setup, Sizes, Step
from torch.utils.flop_counter import FlopCounterMode

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CEILING_SIDES = {"cuda": 8192, "cpu": 2048}


@dataclass
class Measured:
    """Of one contender: loss and FLOPs of its first step, peak bytes, seconds a step by round."""

    loss: float
    flops: int
    peak: float
    seconds: list[float] = field(default_factory=list)


def build(name: str, setup: Setup, peer: bool) -> tuple[Step, float, int]:
    """A step that has run once, with its first loss and its FLOPs; then compiled if asked to."""
    torch.manual_seed(0)
    step, compile_it = STEPS[name](setup, peer)
    with FlopCounterMode(display=False) as counter:
        loss = float(step())
    if setup.compile:
        compile_it()
        step()  # compiles
    return step, loss, counter.get_total_flops()


def seconds(step: Step, number: int, device: str) -> float:
    """Seconds a step."""
    began = time.perf_counter()
    for _ in range(number):
        step()
    if device == "cuda":
        torch.cuda.synchronize()
    return (time.perf_counter() - began) / number


def ceiling(device: str, dtype: torch.dtype) -> float:
    """FLOP/s of a product of two square matrices, the best of ten."""
    side = CEILING_SIDES.get(device, 2048)
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def product() -> torch.Tensor:
        return a @ b

    product()
    return 2 * side**3 / min(seconds(product, 1, device) for _ in range(10))


def resident(key: str) -> int:
    """Bytes of this process: VmRSS now, VmHWM at most so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(key))


def print_peak(name: str, setup: Setup, peer: bool) -> None:
    """What three steps need at most, in bytes, model and data included on a GPU."""
    before = 0 if setup.device == "cuda" else resident("VmRSS")
    torch.manual_seed(0)
    step, compile_it = STEPS[name](setup, peer)
    if setup.compile:
        compile_it()
    for _ in range(3):
        step()
    cuda = setup.device == "cuda"
    print(torch.cuda.max_memory_allocated() if cuda else resident("VmHWM") - before)


def peak(name: str, peer: bool) -> float:
    """What `print_peak` says, in a process of its own."""
    command = [sys.executable, *sys.argv, "--step", name, "--peak", str(int(peer))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def measure(name: str, setup: Setup, rounds: int, number: int) -> dict[str, Measured]:
    """Both contenders in turn, `rounds` times `number` steps each."""
    found, steps = {}, {}
    for who, peer in ((PEERS[name], True), ("zoo", False)):
        steps[who], loss, flops = build(name, setup, peer)
        found[who] = Measured(loss, flops, peak(name, peer))
        steps[who]()
    for _ in range(rounds):
        for who, step in steps.items():
            found[who].seconds.append(seconds(step, number, setup.device))
    return found


def rows(name: str, found: dict[str, Measured], batch: int, top: float) -> list[dict[str, Any]]:
    """A row of the table for each contender."""
    peer = found[PEERS[name]]
    made = []
    for who, measured in found.items():
        median = statistics.median(measured.seconds)
        ratios = [a / b for a, b in zip(measured.seconds, peer.seconds, strict=True)]
        made.append(
            {
                "step": name,
                "who": who,
                "images a second": batch / median,
                "seconds": {"median": median, "all": measured.seconds},
                "ratio": statistics.median(ratios),
                "peak bytes": measured.peak,
                "FLOPs": peer.flops,
                "FLOPs counted": measured.flops,
                "MFU": peer.flops / median / top,
                "first loss": measured.loss,
            }
        )
    return made


def show(made: list[dict[str, Any]], title: str) -> None:
    table = Table(title=title)
    columns = ("step", "", "images/s", "ms", "min", "max", "ratio", "MiB", "MFU", "GFLOP", "loss")
    for column in columns:
        table.add_column(column, justify="right")
    for row in made:
        times = [1e3 * value for value in row["seconds"]["all"]]
        table.add_row(
            row["step"],
            row["who"],
            f"{row['images a second']:.1f}",
            f"{1e3 * row['seconds']['median']:.1f}",
            f"{min(times):.1f}",
            f"{max(times):.1f}",
            f"{row['ratio']:.2f}",
            f"{row['peak bytes'] / 2**20:.0f}",
            f"{row['MFU']:.1%}",
            f"{row['FLOPs counted'] / 1e9:.1f}",
            f"{row['first loss']:.4f}",
        )
    Console(width=120).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--step", choices=STEPS, help="one of them only")
    parser.add_argument("--device", default="cpu", choices=CEILING_SIDES)
    parser.add_argument("--dtype", default="float32", choices=DTYPES)
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--small", action="store_true", help="tiny towers, for a laptop")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="a round")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--peak", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    sizes = SMALL if options.small else Sizes()
    how = (options.batch_size, options.device, options.dtype)
    setup = Setup(sizes, *how, options.compile, options.channels_last)
    if options.peak is not None:
        print_peak(options.step, setup, bool(options.peak))
        return
    top = ceiling(options.device, DTYPES[options.dtype])
    made = []
    for name in [options.step] if options.step else STEPS:
        found = measure(name, setup, options.rounds, options.steps)
        made += rows(name, found, options.batch_size, top)
    cuda = options.device == "cuda"
    device = torch.cuda.get_device_name() if cuda else f"{torch.get_num_threads()} threads"
    title = (
        f"batch {options.batch_size}, {options.dtype}, {device}, ceiling {top / 1e12:.3g} TFLOP/s"
    )
    show(made, title)
    if options.json:
        content = {"setup": asdict(setup), "device": device, "ceiling": top, "rows": made}
        options.json.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
