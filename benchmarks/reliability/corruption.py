"""Damaged files of every format: how many are told, read right, or cannot be told.

    python benchmarks/reliability/corruption.py --examples 2000 [--only FITS]
    python benchmarks/reliability/corruption.py --files 10000

Each example is a whole file, written here with made-up values, damaged by hypothesis (tests/
corruption/damage.py) and read by the dataset or reader that reads such files. `undetectable`: the
values differ, but no check could know, since the format protects nothing: a digit in a CSV file.
`wrong` has to be 0: another exception, an error that names no file, a hang, or a result that a
check sum, a count or the size of the damage excludes. Memory is limited to --memory GiB.

With --files, folders of a tenth as many and of as many light curves are read, whole and with one
broken file in a hundred: seconds and peak memory, each in a process of its own.
"""

import argparse
import multiprocessing
import resource
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "corruption"))

from damage import OUTCOMES, Damage, damages, try_damage
from formats import Format, make_formats
from many import write_stars


def try_many(
    format: Format, foreign: tuple[bytes, ...], examples: int, number: int
) -> Counter[str]:
    """Outcomes of as many damaged files; what is wrong is printed, the first of each kind."""
    counts: Counter[str] = Counter()
    seen: set[tuple[str, str]] = set()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        format.write(root)
        expected = format.read(root)

        @seed(number)
        @settings(
            max_examples=examples,
            deadline=None,
            database=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(damages(format, foreign))
        def run(damage: Damage) -> None:
            outcome, why = try_damage(format, damage, root, expected)
            counts[outcome] += 1
            if outcome == "wrong" and (damage.kind, why[:25]) not in seen:
                seen.add((damage.kind, why[:25]))
                print(f"{format.name}, {damage.kind}: {why[:300]}", file=sys.stderr, flush=True)

        run()
    return counts


def read_many(root: Path, on_error: str) -> None:
    """Read and prepare a folder as training does; print seconds, memory and what was left out."""
    from domains.astro.datasets.folder import StarFolder
    from domains.astro.preprocess.light_curve import LightCurve
    from shared.data.prepared import PreparedDataset
    from shared.data.skipping import SkippingDataset, describe_skipped, skipped_of
    from shared.errors import DataError

    start = time.perf_counter()
    dataset = StarFolder(str(root))
    if on_error == "skip":
        dataset = SkippingDataset(dataset)
    assert dataset.fingerprint
    listed = time.perf_counter() - start
    error = ""
    try:
        preprocessors = {"photometry": LightCurve(dataset.schemas["photometry"])}
        PreparedDataset(dataset, preprocessors).load(range(len(dataset)))
    except DataError as stopped:
        error = str(stopped)
    seconds = time.perf_counter() - start
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10
    left_out = skipped_of(dataset)
    named = len({entry.file for entry in left_out})
    cells = [len(dataset), on_error, f"{listed:.1f}", f"{seconds:.1f}", f"{memory:.0f}"]
    cells += [len(left_out), named, len(describe_skipped(left_out)), "yes" if error else "no"]
    print(f"| {' | '.join(map(str, cells))} |", flush=True)


def time_many(files: int) -> None:
    heads = ["files", "on_error", "listed s", "in all s", "MiB", "left out", "files named"]
    heads += ["lines said", "stopped"]
    print(f"| {' | '.join(heads)} |\n| {'--- | ' * len(heads)}".rstrip(), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for number in (files // 10, files):
            for name, every, modes in (("whole", 0, ["skip"]), ("bad", 100, ["skip", "raise"])):
                root = Path(folder) / f"{name}{number}"
                write_stars(root, number, every)
                for mode in modes:
                    process = multiprocessing.get_context("spawn").Process(
                        target=read_many, args=(root, mode)
                    )
                    process.start()
                    process.join()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--examples", type=int, default=500, help="damaged files a format")
    parser.add_argument("--only", default="", help="formats whose names hold this")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--memory", type=float, default=4.0, help="limit [GiB] of the process")
    parser.add_argument("--files", type=int, help="read folders of so many files instead")
    options = parser.parse_args()
    if options.files:
        time_many(options.files)
        return
    limit = int(options.memory * 2**30)
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    warnings.simplefilter("ignore")
    with tempfile.TemporaryDirectory() as folder:
        formats = make_formats(Path(folder))
    print(f"| format | examples | {' | '.join(OUTCOMES)} | s |")
    print(f"| --- | {'---: | ' * (len(OUTCOMES) + 2)}".rstrip())
    total: Counter[str] = Counter()
    for name, format in formats.items():
        if options.only not in name:
            continue
        foreign = tuple(f.content for n, f in formats.items() if n != name)
        start = time.perf_counter()
        counts = try_many(format, foreign, options.examples, options.seed)
        seconds = time.perf_counter() - start
        numbers = [counts.total(), *(counts[outcome] for outcome in OUTCOMES), round(seconds)]
        print(f"| {name} | {' | '.join(map(str, numbers))} |", flush=True)
        total += counts
    numbers = [total.total(), *(total[outcome] for outcome in OUTCOMES)]
    print(f"| all | {' | '.join(map(str, numbers))} | |")
    sys.exit(1 if total["wrong"] else 0)


if __name__ == "__main__":
    main()
