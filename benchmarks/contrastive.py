"""Contrastive losses against open_clip's: time, memory and gradients, forward and backward.

    pip install open_clip_torch
    python benchmarks/contrastive.py [--max-batch 32768] [--rounds 3] [--threads 2] [--quick]
                                     [--only softmax sigmoid modalities ranks filip] [--json FILE]

Ours are the objectives of `zoo train` as they are by default, built through the registry; the peers
are `ClipLoss` and `SigLipLoss`, with local_loss and gather_with_grad over ranks, called once a pair
where there are more modalities; FILIP has no peer, so the streamed one is held against ours with
the whole matrix. Rows are random unit vectors of width 512 whose pairs resemble each other.

Every measurement is a process of its own (one a rank, gloo), the two sides in turn; times are
medians over rounds, the slowest rank's. Peak memory is the kernel's (VmHWM, reset by
/proc/self/clear_refs) over what was resident with the rows made and after a small step: gradients
of the rows count. Gradient error: norm of the difference from float64 over the norm, the larger of
that of 256 rows of each modality and that of the scale; the float64 reference goes over blocks of
rows. The floor is what the products of matrices alone take at the measured speed of one: four for
softmax, three for sigmoid.

open_clip's losses at a batch of 32768 hold about 17 GiB. A process that is killed for its memory
is reported as such.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from contrastive_losses import SCALES, WIDTH, Case, make_rows, measure, measure_ceiling
from contrastive_reference import write_reference
from rich.console import Console
from rich.table import Table
from torch import distributed as dist

SECTIONS = ("softmax", "sigmoid", "modalities", "ranks", "filip")
PRODUCTS = {"softmax": 4, "sigmoid": 3}
"""Of matrices, as few as the exact gradients need."""


def cases(section: str, max_batch: int, quick: bool) -> list[Case]:
    """Of ours; each has a peer."""
    largest = min(max_batch, 2048 if quick else max_batch)
    middle = min(largest, 8192)
    batches = [2**k for k in range(10, 30) if 2**k <= largest]
    if section == "modalities":
        return [Case(section, "zoo", "softmax", middle, number) for number in (2, 3, 4)]
    if section == "ranks":
        losses = ("softmax", "sigmoid")
        return [Case(section, "zoo", n, middle, ranks=r) for n in losses for r in (1, 2)]
    if section == "filip":
        return [
            Case(section, "zoo", "filip", batch)
            for batch in (64, 128, 256, 512)[: 2 if quick else 4]
        ]
    return [Case(section, "zoo", section, batch) for batch in batches]


def child(task: str, case: Case, reference: str, store: str) -> None:
    """What a process of its own does; prints JSON."""
    if task == "ceiling":
        print(json.dumps(measure_ceiling()))
    elif task == "reference":
        write_reference(Path(reference), case.loss, make_rows(case), *SCALES[case.loss])
    else:
        # the first that the kernel kills, not the process that waits for it
        Path("/proc/self/oom_score_adj").write_text("1000")
        if case.ranks > 1:
            joined = {"rank": int(os.environ["RANK"]), "world_size": case.ranks}
            dist.init_process_group("gloo", init_method=f"file://{store}", **joined)
        print(json.dumps(measure(case, reference)))


def in_processes(task: str, case: Case, threads: int, reference: str = "") -> list[Any] | None:
    """What each rank's process gives; None where there was not enough memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, __file__, "--child", task, json.dumps(asdict(case))]
        command += [reference, f"{folder}/store"]
        ranks = case.ranks if task == "measure" else 1
        processes = []
        for rank in range(ranks):
            settings = {"RANK": str(rank), "OMP_NUM_THREADS": str(max(1, threads // ranks))}
            processes.append(
                subprocess.Popen(
                    command,
                    env={**os.environ, **settings},
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    text=True,
                )
            )
        answers = [process.communicate() for process in processes]
    if any(process.returncode == -9 for process in processes):
        return None
    if any("can't allocate memory" in error for _, error in answers):
        return None
    if any(process.returncode for process in processes):
        raise SystemExit(f"{case}: {answers[0][1]}")
    return [json.loads(output) if output else None for output, _ in answers]


def run_case(case: Case, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Ours and the peer, in turn; a row of the results each."""
    sides = [replace(case, who="plain" if case.loss == "filip" else "open_clip"), case]
    rows: list[dict[str, Any]] = [asdict(side) | {"seconds": [], "error": None} for side in sides]
    with tempfile.TemporaryDirectory() as folder:
        reference = ""
        if case.ranks == 1 and case.loss != "filip":
            reference = f"{folder}/reference.pt"
            if in_processes("reference", case, options.threads, reference) is None:
                reference = ""  # without errors, then
        for turn in range(options.rounds):
            for row, side in list(zip(rows, sides, strict=True))[:: 1 if turn % 2 else -1]:
                found = in_processes("measure", side, options.threads, reference)
                if found is not None:
                    row["seconds"].append(max(rank["seconds"] for rank in found))
                    row["peak"] = max(rank["peak"] for rank in found)
                    row["error"] = found[0]["error"]
    return rows


def floor_seconds(row: dict[str, Any], gflops: float) -> float | None:
    """What the products alone take at this speed; None where they are not all there is to do."""
    if row["loss"] not in PRODUCTS:
        return None
    pairs = len(list(combinations(range(row["modalities"]), 2)))
    return PRODUCTS[row["loss"]] * pairs * 2 * row["batch"] ** 2 * WIDTH / (gflops * 1e9)


def cells(row: dict[str, Any], gflops: float) -> list[str]:
    """Seconds, peak, error and seconds over the floor's."""
    if not row["seconds"]:
        return ["out of memory", "", "", ""]
    seconds, floor = statistics.median(row["seconds"]), floor_seconds(row, gflops)
    error = "" if row["error"] is None else f"{row['error']:.0e}"
    near = "" if floor is None else f"{seconds / floor:.2f}"
    return [f"{seconds:.3g}", f"{row['peak']:.0f}", error, near]


def print_section(section: str, pairs: list[list[dict[str, Any]]], gflops: float) -> None:
    table = Table(title=section)
    for column in ("loss", "batch", "modalities", "ranks", "", "s", "peak MiB", "error", "x floor"):
        table.add_column(column, justify="right")
    table.add_column("time", justify="right")
    table.add_column("memory", justify="right")
    for peer, ours in pairs:
        shape = [str(ours[key]) for key in ("loss", "batch", "modalities", "ranks")]
        ratios = ["", ""]
        if peer["seconds"] and ours["seconds"]:
            times = [statistics.median(row["seconds"]) for row in (ours, peer)]
            ratios = [f"{times[0] / times[1]:.2f}", f"1/{peer['peak'] / ours['peak']:.1f}"]
        table.add_row(*shape, peer["who"], *cells(peer, gflops), "", "")
        table.add_row("", "", "", "", ours["who"], *cells(ours, gflops), *ratios)
    Console(width=110).print(table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--max-batch", type=int, default=32768)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--quick", action="store_true", help="small batches, one round")
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        task, case, reference, store = options.child
        child(task, Case(**json.loads(case)), reference, store)
        return
    if options.quick:
        options.rounds = 1
    found: dict[str, Any] = {"threads": options.threads, "torch": torch.__version__, "rows": []}
    ceilings = []
    for section in options.only:
        answer = in_processes("ceiling", Case(section, "", "", 0), options.threads)
        assert answer is not None
        ceilings.append(answer[0])
        pairs = []
        for case in cases(section, options.max_batch, options.quick):
            pairs.append(run_case(case, options))
            found["rows"] += pairs[-1]
        print(f"a product of matrices: {ceilings[-1]:.0f} GFLOP/s on {options.threads} threads")
        print_section(section, pairs, ceilings[-1])
        if options.json:
            found["gflops"] = max(ceilings)
            options.json.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
