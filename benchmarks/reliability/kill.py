"""Kill `zoo train` at random moments, go on with `resume=RUN`, compare with a run left alone.

    python benchmarks/reliability/kill.py [--tries 100] [--seed 0] [--json FILE] [--keep FOLDER]

One half of the tries is killed at a time drawn evenly over the run, the other half inside a phase
drawn first, since some last a millisecond. One run in three is killed again while it resumes. Bit
for bit the same have to be: the model and its card, the best weights, the resume checkpoint
(weights, teachers, optimiser, counters, plateau, early stopping, probe), the metrics, the scalars
in TensorBoard, the files. Runs on one thread of the CPU; the toy domain of the tests is installed
into a temporary folder.
"""

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
from killing import (
    KINDS,
    PHASES,
    SHORT,
    Course,
    Instant,
    Killer,
    continued,
    differences,
)
from rich.console import Console
from rich.table import Table
from toy import install_toy


@dataclass
class Try:
    """One run that was killed, and how it ended.

    Attributes:
        kind: Of objective.
        settings: Beside those of the kind.
        kills: Phases in which it was killed, the last ones while resuming.
        differences: From the run left alone; or why it could not be resumed.
    """

    kind: str
    settings: list[str]
    kills: list[str]
    differences: list[str]


def draw_instant(course: Course, rng: np.random.Generator, resumed: bool) -> Instant:
    """In a phase of the run, each as likely as another; of a resumed run among its first times."""
    phases = [phase for phase in course.calls if phase != "loop"]
    phase = str(rng.choice([*phases, "resuming"] if resumed else phases))
    calls = course.calls.get(phase, [3000])
    occurrence = int(rng.integers(min(len(calls), 3) if resumed else len(calls)))
    return Instant(phase, occurrence, int(rng.integers(calls[occurrence])) + 1)


def attempt(
    kind: str, course: Course, by_time: bool, folder: Path, killer: Killer, seed: list[int]
) -> Try:
    """Kill a run one to three times and let it end."""
    rng = np.random.default_rng(seed)
    settings = [
        f"trainer.checkpoint_every_n_steps={rng.choice([0, 1, 3])}",
        f"loader.num_workers={rng.choice([0, 0, 2])}",
    ]
    command = [*SHORT, *KINDS[kind], *settings]
    result = Try(kind, settings, [], [])
    planned = int(rng.choice([1, 1, 2, 3]))
    try:
        while len(result.kills) < planned:
            kill = draw_instant(course, rng, bool(result.kills))
            when = kill if not by_time else float(rng.uniform(0, course.seconds))
            phase = killer.run(continued(command, folder), folder, when)
            if phase != "ended":
                result.kills.append(phase)
            elif result.kills:
                break
            else:
                # this run does not come to that instant
                shutil.rmtree(folder)
        killer.run(continued(command, folder), folder)
        result.differences = differences(course.folder, folder)
    except RuntimeError as error:
        result.differences = [str(error)]
    return result


def print_tries(tries: list[Try]) -> None:
    """A row a phase, a column a kind: kills whose run ended bit-equal, of all kills there."""
    cells: dict[tuple[str, str], list[bool]] = defaultdict(list)
    for one in tries:
        for phase in one.kills:
            cells[phase, one.kind].append(not one.differences)
            cells[phase, "all"].append(not one.differences)
        cells["tries", one.kind].append(not one.differences)
        cells["tries", "all"].append(not one.differences)
    table = Table(title="killed, resumed, bit-equal")
    for column in ("killed in", *KINDS, "all"):
        table.add_column(column, justify="left" if column == "killed in" else "right")
    for phase in (*PHASES, "tries"):
        row = [cells[phase, kind] for kind in (*KINDS, "all")]
        if any(row):
            table.add_row(phase, *[f"{sum(found)}/{len(found)}" for found in row])
    Console(width=100).print(table)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tries", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path, help="also write every try there")
    parser.add_argument("--keep", type=Path, help="run folders go there; those that differ stay")
    options = parser.parse_args()
    work = options.keep or Path(tempfile.mkdtemp(prefix="zoo-kill-"))
    work.mkdir(parents=True, exist_ok=True)
    install_toy(work / "toy")
    killer, began = Killer(work), time.monotonic()
    courses = {}
    for kind in KINDS:
        settings = [*SHORT, *KINDS[kind], "trainer.checkpoint_every_n_steps=1"]
        course = killer.course(settings, work / kind.replace(" ", "-"))
        courses[kind] = replace(course, seconds=killer.seconds(settings, course))
    tries = []
    for number in range(options.tries):
        kind = list(KINDS)[number % len(KINDS)]
        folder = work / f"try-{number}"
        by_time = number // len(KINDS) % 2 == 0
        tries.append(attempt(kind, courses[kind], by_time, folder, killer, [options.seed, number]))
        if tries[-1].differences:
            print(f"{folder} ({tries[-1]}) differs from {courses[kind].folder}", flush=True)
        else:
            shutil.rmtree(folder)
    print_tries(tries)
    orphans, failed = killer.orphans(), [one for one in tries if one.differences]
    kills = sum(len(one.kills) for one in tries)
    print(f"{len(tries) - len(failed)}/{len(tries)} bit-equal; {kills} kills; "
          f"{len(orphans)} processes left over; {time.monotonic() - began:.0f} s")  # fmt: skip
    if options.json:
        options.json.write_text(json.dumps([asdict(one) for one in tries], indent=1) + "\n")
    if not failed:
        shutil.rmtree(work)
    return int(bool(failed or orphans))


if __name__ == "__main__":
    sys.exit(main())
