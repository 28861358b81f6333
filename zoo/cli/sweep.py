"""Every combination of settings, each in a process and a folder of its own."""

import hashlib
import json
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from shared.errors import ConfigError, DataError, ZooError
from shared.files import write_json
from shared.folder_lock import FolderLock
from shared.untrusted import read_json
from zoo.cli.parsing import run_job
from zoo.progress import console

FILE = "sweep.json"
WAITING, RUNNING, FINISHED, FAILED = "waiting", "running", "finished", "failed"
_CONFIG = "config.yaml"

Check = Callable[[Sequence[str]], Any]
"""Overrides → the config, a dataclass; raises on a wrong job."""


@dataclass(frozen=True)
class Job:
    """One combination.

    Attributes:
        overrides: As typed.
        folder: Its name within that of the sweep: what varies, and the start of `config_hash`.
        config_hash: Of all its settings, so that no other ones ever lie in the same folder.
        status: `waiting`, `running`, `finished` or `failed`.
        exit_code: Of its last process; None before.
        seconds: It took, over all its processes.
    """

    overrides: list[str]
    folder: str
    config_hash: str
    status: str = WAITING
    exit_code: int | None = None
    seconds: float = 0.0

    def mistake(self) -> str:
        """What a sweep cannot have written; empty where nothing is wrong."""
        if not isinstance(self.overrides, list):
            return f"overrides {self.overrides!r}"
        texts = (self.folder, self.config_hash, *self.overrides)
        if not all(isinstance(text, str) for text in texts):
            return f"{texts} are not texts"
        if Path(self.folder).name != self.folder or self.folder in ("", ".."):
            return f"the folder {self.folder!r} is not below that of the sweep"
        if self.status not in (WAITING, RUNNING, FINISHED, FAILED):
            return f"the status {self.status!r}"
        if not isinstance(self.seconds, int | float):
            return f"{self.seconds!r} seconds"
        return ""


def run_sweep(verb: str, overrides: Sequence[str], check: Check, dry_run: bool) -> int:
    """Check every job, then run each in a process of its own.

    Args:
        verb: `train` or `eval`.
        overrides: With `KEY=A,B`.
        check: Raises on a wrong job, before any runs.
        dry_run: Only print the commands.

    Returns:
        0 when all succeeded, else 1.
    """
    from zoo.config import sweep_jobs

    for key in ("run_folder", "resume"):
        if any(o.startswith(f"{key}=") for o in overrides):
            raise ConfigError(f"{key}=… does not go with -m: every run gets a folder of its own.")
    lists = sweep_jobs(overrides)
    varied = {key for keys in zip(*lists, strict=True) if len(set(keys)) > 1 for key in keys}
    jobs = []
    for job in lists:
        hashed = _hash(check(job))
        words = "-".join(re.sub(r"[^A-Za-z0-9._+-]+", "-", o) for o in job if o in varied)
        jobs.append(Job(job, f"{words[-80:].lstrip('_-.') or 'run'}-{hashed[:8]}", hashed))
    if dry_run:
        return _print_commands(verb, jobs)
    folder = Path(f"runs/sweep-{verb}-{time.strftime('%Y%m%d-%H%M%S')}")
    with _alone(folder):
        if is_sweep(folder):
            raise ConfigError(f"{folder} was begun within this second: start again.")
        return _run(verb, folder, list({job.folder: job for job in jobs}.values()))


def is_sweep(folder: Path) -> bool:
    return (folder / FILE).is_file()


def resume_sweep(verb: str, folder: Path, check: Check, dry_run: bool) -> int:
    """Run what a sweep has not finished; returns as `run_sweep`.

    Raises:
        ConfigError: The file of the sweep is damaged or of another verb, or settings that were not
            typed have changed since.
    """
    if dry_run:
        waiting = [job for job in _read(verb, folder, check) if job.status != FINISHED]
        return _print_commands(verb, waiting)
    with _alone(folder):
        return _run(verb, folder, _read(verb, folder, check))


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Two processes would each write their own state of the jobs over that of the other."""
    lock = FolderLock(folder, "sweeping")
    lock.take()
    try:
        yield
    finally:
        lock.release()


def _read(verb: str, folder: Path, check: Check) -> list[Job]:
    path = folder / FILE
    try:
        content = read_json(path)
        jobs = [Job(**each) for each in content["jobs"]]
    except (DataError, KeyError, TypeError) as error:
        raise ConfigError(f"{path} is damaged ({error}): start the sweep anew.") from error
    if content.get("verb") != verb:
        raise ConfigError(f"{folder} is a sweep of `zoo {content.get('verb')}`: resume it by that.")
    for job in jobs:
        if wrong := job.mistake():
            raise ConfigError(f"{path} is damaged ({wrong}): start the sweep anew.")
        if job.status != FINISHED and _hash(check(job.overrides)) != job.config_hash:
            raise ConfigError(
                f"{path}: {shlex.join(job.overrides)} means other settings than when the sweep was "
                "begun (files of configs or the zoo have changed). Start it anew."
            )
    return jobs


def _run(verb: str, folder: Path, jobs: list[Job]) -> int:
    """Run all jobs that are not finished, keep their state on disk, and report."""
    _save(folder, verb, jobs)
    waiting = [number for number, job in enumerate(jobs) if job.status != FINISHED]
    for done, number in enumerate(waiting):
        job = jobs[number]
        place = f"{number + 1}/{len(jobs)}{_time_left(jobs, len(waiting) - done)}"
        console().rule(f"{place}: {' '.join(job.overrides)}")
        jobs[number] = replace(job, status=RUNNING)
        _save(folder, verb, jobs)
        start = time.monotonic()
        try:
            code = run_job(_command(verb, folder / job.folder, job))
        except BaseException:
            _say_how_to_go_on("go on with", verb, folder)
            raise
        jobs[number] = replace(
            job,
            status=FAILED if code else FINISHED,
            exit_code=code,
            seconds=job.seconds + time.monotonic() - start,
        )
        _save(folder, verb, jobs)
    _print_jobs(folder, jobs)
    if verb == "eval":
        _join(folder, jobs)
    if all(job.status == FINISHED for job in jobs):
        return 0
    _say_how_to_go_on("what has failed runs again by", verb, folder)
    return 1


def _say_how_to_go_on(words: str, verb: str, folder: Path) -> None:
    command = f"zoo {verb} resume={shlex.quote(str(folder))}"
    console().print(f"{words}  {command}", highlight=False, markup=False)


def _command(verb: str, folder: Path, job: Job) -> list[str]:
    """The process of a job: from its beginning, or on from where it was stopped."""
    arguments = [*job.overrides, f"run_folder={folder}"]
    if (folder / _CONFIG).is_file():
        arguments = [f"resume={folder}"]
    return [sys.executable, "-P", "-m", "zoo.cli.main", verb, *arguments]


def _join(folder: Path, jobs: Sequence[Job]) -> None:
    """One file of the results of all jobs, their tables and a page that leads to each."""
    from shared.evaluation.results.report_page import PAGE, Report, save_index
    from shared.evaluation.results.result import LINES, Result, load_results, merge, save_results
    from shared.evaluation.results.table import summary_table

    reports, together = [], list[Result]()
    for job in jobs:
        page = f"{job.folder}/{PAGE}"
        failed = "" if job.status == FINISHED else f"not finished: exit code {job.exit_code}"
        try:
            found = load_results(folder / job.folder)
        except ZooError as error:
            reports.append(Report(job.folder, "", failed=failed or str(error)))
            continue
        link = page if (folder / page).is_file() else ""
        reports.append(Report(job.folder, link, found, failed))
        together += found
    save_index(folder / PAGE, reports, title=folder.name)
    if together:
        save_results(folder, merge(together))
        console().print()
        console().print(summary_table(merge(together)))
        console().print(f"all results  {folder / LINES}", highlight=False)
    console().print(f"report       {folder / PAGE}", highlight=False)


def _print_jobs(folder: Path, jobs: Sequence[Job]) -> None:
    from rich.table import Table

    table = Table(title=f"{len(jobs)} runs in {folder}")
    for column in ("settings", "folder", "status", "exit code"):
        table.add_column(column, overflow="fold")
    for job in jobs:
        code = "" if job.exit_code is None else str(job.exit_code)
        table.add_row(" ".join(job.overrides), job.folder, job.status, code)
    console().print(table)


def _print_commands(verb: str, jobs: Sequence[Job]) -> int:
    for job in jobs:
        print(" ".join(("zoo", verb, *map(shlex.quote, job.overrides))))
    return 0


def _time_left(jobs: Sequence[Job], n_waiting: int) -> str:
    """From the mean of the jobs that are finished; empty before the first one is."""
    took = [job.seconds for job in jobs if job.status == FINISHED]
    if not took:
        return ""
    minutes, seconds = divmod(round(sum(took) / len(took) * n_waiting), 60)
    return f" (about {minutes}:{seconds:02} left)"


def _hash(config: Any) -> str:
    text = json.dumps(asdict(config), sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _save(folder: Path, verb: str, jobs: Sequence[Job]) -> None:
    write_json(folder / FILE, {"verb": verb, "jobs": [asdict(job) for job in jobs]})
