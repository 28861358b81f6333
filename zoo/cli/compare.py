"""`zoo compare`."""

import argparse
from collections.abc import Sequence
from pathlib import Path

from zoo.progress import console

EXAMPLES = """examples:
  zoo compare runs/eval-A runs/eval-B                is B better than A?
  zoo compare runs/eval-A runs/eval-B runs/eval-C    B and C, each against A
  zoo compare runs/seeds-of-A runs/seeds-of-B        folders that hold a run a seed
  zoo compare runs/sweep-eval-TIME                   the runs of a sweep, against its first
  zoo compare runs/eval-A runs/eval-B --protocols linear_probe --metrics accuracy
  zoo compare runs/eval-A runs/eval-B --out runs/compare-A-B    with compare.jsonl and a picture"""


def _names(text: str) -> list[str]:
    names = [name for name in text.strip("[]").split(",") if name]
    if not names:
        raise argparse.ArgumentTypeError(f"names with commas between them are needed, not {text!r}")
    return names


def run(argv: Sequence[str]) -> int:
    """Print the differences; write them where that is asked for."""
    parser = argparse.ArgumentParser(
        prog="zoo compare",
        description="Compare evaluations on the test rows that they share; the first is the "
        "baseline.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folders", nargs="+", metavar="FOLDER", help="of `zoo eval` or `zoo train`")
    parser.add_argument("--out", type=Path, help="folder for compare.jsonl and differences.png")
    parser.add_argument(
        "--protocols", type=_names, default=[], metavar="A,B", help="compared; default: all"
    )
    parser.add_argument(
        "--metrics",
        type=_names,
        default=[],
        metavar="A,B",
        help="that have a verdict, p being corrected for these alone; default: the headline "
        "metrics of every task",
    )
    parser.add_argument("--n-resamples", type=int, default=1000, help="of the bootstrap")
    parser.add_argument("--seed", type=int, default=0, help="of the bootstrap")
    parser.add_argument("--level", type=float, default=0.95, help="coverage of the intervals")
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    options = parser.parse_args(argv)
    from shared.errors import ConfigError
    from shared.evaluation.pictures import draw_differences
    from shared.evaluation.results.compare import LINES, compare, save_comparison
    from shared.evaluation.results.table import comparison_tables
    from shared.files import make_folder

    if not 0 < options.level < 1:
        raise ConfigError(f"--level {options.level} has to lie between 0 and 1.")
    if options.n_resamples < 2 or options.seed < 0:
        raise ConfigError("--n-resamples has to be at least 2, and --seed at least 0.")
    if options.out is not None:
        make_folder(options.out)
    with console().status("comparing"):
        comparison = compare(
            options.folders,
            n_resamples=options.n_resamples,
            seed=options.seed,
            level=options.level,
            protocols=options.protocols,
            metrics=options.metrics,
        )
    for table in comparison_tables(comparison):
        console().print(table)
    for note in comparison.notes:
        console().print(f"note: {note}", style="yellow", highlight=False)
    if options.out is not None:
        save_comparison(options.out / LINES, comparison)
        draw_differences(comparison, options.out / "differences.png")
        console().print(f"all metrics  {options.out / LINES}", highlight=False)
        console().print(f"picture      {options.out / 'differences.png'}", highlight=False)
    return 0
