"""Exact neighbours and retrieval ranks against faiss's flat index.

    pip install faiss-cpu
    python benchmarks/neighbours.py [--queries 100000] [--candidates 100000] [--width 512]
                                    [--threads 2] [--rounds 3]

`top_k` finds 20 neighbours of every query, as faiss does; `ranks` the exact rank of its match among
all candidates, for which faiss has no call (its 20 neighbours give recall@10 at most). Queries are
candidates with noise, all of unit norm. All take turns in one process on the same threads; peak
memory is over what a process of its own holds before the call, data and result included in neither.
faiss's index holds a copy of the candidates, made before the clock and the count of memory start.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import faiss
import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from shared.evaluation.neighbours.ranking import best_ranks
from shared.evaluation.neighbours.top_k import top_k

K = 20
Search = Callable[[], Any]


def make(options: argparse.Namespace) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """(q, d) queries and (n, d) candidates; query i is candidate i with noise."""
    rng = np.random.default_rng(0)
    candidates = rng.standard_normal((options.candidates, options.width), dtype=np.float32)
    candidates /= np.linalg.norm(candidates, axis=1, keepdims=True)
    queries = candidates[: options.queries].copy()
    # as long as three times the vector itself: most matches come first, not all
    queries += 3 / options.width**0.5 * rng.standard_normal(queries.shape, dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    return queries, candidates


def searches(options: argparse.Namespace) -> dict[str, Search]:
    queries, candidates = make(options)
    index = faiss.IndexFlatIP(options.width)
    index.add(candidates)
    codes = np.arange(len(queries)), np.arange(len(candidates))
    return {
        "faiss": lambda: index.search(queries, K)[1],
        "top_k": lambda: top_k(queries, candidates, K)[0],
        "ranks": lambda: best_ranks(queries, candidates, codes),
    }


def memory(field: str) -> float:
    """MiB of a field of this process's status: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def peak(name: str, options: argparse.Namespace) -> float:
    """MiB that a call needs, in a process of its own."""
    command = [sys.executable, __file__, "--peak", name]
    for field in ("queries", "candidates", "width", "threads"):
        command += [f"--{field}", str(getattr(options, field))]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def print_peak(name: str, options: argparse.Namespace) -> None:
    search = searches(options)[name]
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = memory("VmRSS")
    found = search()
    print(memory("VmHWM") - before - sum(a.nbytes for a in [found]) / 2**20)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--queries", type=int, default=100_000)
    parser.add_argument("--candidates", type=int, default=100_000)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.queries = min(options.queries, options.candidates)
    with threadpool_limits(options.threads):
        if options.peak:
            print_peak(options.peak, options)
            return
        made = searches(options)
        times: dict[str, list[float]] = {who: [] for who in made}
        found = {}
        for _ in range(options.rounds):
            for who, search in made.items():
                began = time.perf_counter()
                found[who] = search()
                times[who].append(time.perf_counter() - began)
    title = (
        f"{options.queries} queries, {options.candidates} candidates of width {options.width}, "
        f"{options.threads} threads, {options.rounds} rounds"
    )
    table = Table(title=title)
    for column in ("", "median s", "min s", "ratio by round", "ratio of minima", "peak MiB"):
        table.add_column(column, justify="right")
    for who, seconds in times.items():
        ratios = [a / b for a, b in zip(seconds, times["faiss"], strict=True)]
        table.add_row(
            who,
            f"{statistics.median(seconds):.1f}",
            f"{min(seconds):.1f}",
            "" if who == "faiss" else " ".join(f"{ratio:.2f}" for ratio in ratios),
            "" if who == "faiss" else f"{min(seconds) / min(times['faiss']):.2f}",
            f"{peak(who, options):.0f}",
        )
    console = Console(width=100)
    console.print(table)
    same = float((found["faiss"] == found["top_k"]).mean())
    recall = float((found["ranks"] <= 1).mean())
    console.print(f"places at which top_k and faiss agree: {same:.6f}; recall@1: {recall:.3f}")


if __name__ == "__main__":
    main()
