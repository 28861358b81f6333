"""What the verbs with overrides share: parser, dry run, resume, the process of a job."""

import argparse
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

from shared.errors import ConfigError

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


def resumed_folder(overrides: Sequence[str]) -> Path | None:
    """The folder of `resume=FOLDER`; None without.

    Raises:
        ConfigError: It does not stand alone.
    """
    named = [o.removeprefix("resume=") for o in overrides if o.startswith("resume=")]
    if not named:
        return None
    if len(overrides) > 1:
        raise ConfigError("resume=RUN goes alone: what was interrupted keeps its settings.")
    return Path(named[0]).expanduser()


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
