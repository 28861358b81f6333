"""What the verbs with overrides share: parser, dry run, sweeps."""

import argparse
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

from zoo.progress import console

SECONDS = 5
"""How long a job has to end after Ctrl-C at the terminal."""


def override_parser(verb: str, summary: str, examples: str) -> argparse.ArgumentParser:
    """A parser for `zoo VERB KEY=VALUE … [options]`."""
    parser = argparse.ArgumentParser(
        prog=f"zoo {verb}",
        description=summary,
        epilog=examples,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="settings; see --dry-run")
    parser.add_argument(
        "-m", "--multirun", action="store_true", help="run every combination of KEY=A,B,…"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="check and print all settings, run nothing"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    return parser


def print_config(data: object) -> None:
    """Print resolved settings as YAML, plainly, so that they can be piped."""
    from omegaconf import OmegaConf

    print(OmegaConf.to_yaml(OmegaConf.create(data)), end="")  # type: ignore[call-overload]


def run_sweep(
    verb: str,
    overrides: Sequence[str],
    check: Callable[[Sequence[str]], object],
    dry_run: bool,
) -> int:
    """Check every job, then run each in a process of its own.

    Args:
        verb: `train` or `eval`.
        overrides: With `KEY=A,B`.
        check: Raises on a wrong job, before any runs.
        dry_run: Only print the commands.

    Returns:
        0 when all succeeded, else 1.
    """
    from rich.table import Table

    from shared.errors import ConfigError
    from zoo.config import sweep_jobs

    for key in ("run_folder", "resume"):
        if any(o.startswith(f"{key}=") for o in overrides):
            raise ConfigError(f"{key}=… does not go with -m: every run gets a folder of its own.")
    jobs = sweep_jobs(overrides)
    for job in jobs:
        check(job)
    if dry_run:
        for job in jobs:
            print(" ".join(("zoo", verb, *map(shlex.quote, job))))
        return 0
    folder = f"runs/sweep-{verb}-{time.strftime('%Y%m%d-%H%M%S')}"
    table = Table(title=f"{len(jobs)} runs")
    for column in ("settings", "folder", "exit code"):
        table.add_column(column)
    codes = []
    for number, job in enumerate(jobs):
        target = f"{folder}/{number}"
        console().rule(f"{number + 1}/{len(jobs)}: {' '.join(job)}")
        command = [sys.executable, "-P", "-m", "zoo.cli.main", verb, *job, f"run_folder={target}"]
        codes.append(run_job(command))
        table.add_row(" ".join(job), target, str(codes[-1]))
    console().print(table)
    return 1 if any(codes) else 0


def run_job(command: Sequence[str]) -> int:
    """The exit code of a job. A signal that stops a training is passed on to it, and then ends the
    sweep, too."""
    from shared.training.preemption import Preempted, Preemption

    with Preemption(), subprocess.Popen(command) as job:
        try:
            return job.wait()
        except Preempted as error:
            job.send_signal(error.signum)
            job.wait()
            raise
        except KeyboardInterrupt:
            # a terminal has sent it to the job as well, which says how to go on
            try:
                job.wait(SECONDS)
            except subprocess.TimeoutExpired:
                job.send_signal(signal.SIGINT)
                job.wait()
            raise
        except BaseException:
            job.kill()
            raise
