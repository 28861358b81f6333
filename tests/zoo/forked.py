"""`zoo` in processes of their own that need not import torch and Lightning first.

As in `killing.py` they are forked from a server that has. Environment, working folder, streams,
session, signals and exit code are those of a command; that `python -m zoo.cli.main` itself starts,
and starts its other ranks, is for a test of its own (in test_ranks.py).
"""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any

import torch
from killing import SERVER


class Forked:
    """`zoo ARGUMENTS`, with what the tests use of `subprocess.Popen`."""

    def __init__(
        self,
        arguments: Sequence[str],
        out: Path,
        cwd: Path | None = None,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """It prints to `out`."""
        self._out = out
        given = dict(os.environ if environment is None else environment)
        self._told, told = SERVER.Pipe(duplex=False)
        self._process = SERVER.Process(
            target=_run, args=(list(arguments), out, told, cwd or Path.cwd(), given)
        )
        self._process.start()
        told.close()
        assert self._process.pid is not None
        self.pid = self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self) -> None:
        self._process.join()

    def send_signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def communicate(self, timeout: float) -> tuple[str, str]:
        """What it has printed, when it and the ranks it has started have ended."""
        told = b""
        while True:
            assert self._told.poll(timeout), "it has not ended"
            if not (some := os.read(self._told.fileno(), 65536)):
                break
            told += some
        self._process.join(timeout)
        return self._out.read_text(), told.decode()


class Rank:
    """A process that waits to be started by the launcher, as another rank of this process's run."""

    def __init__(self, arguments: Sequence[str]) -> None:
        read, self._write = os.pipe()
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid:
            os.close(read)
            return
        os.close(self._write)
        try:
            # nothing comes when the run has ended and needed no other process
            if environment := os.fdopen(read).read():
                os.environ.clear()
                os.environ.update(json.loads(environment))
                os._exit(_zoo(arguments))
        except BaseException:
            traceback.print_exc()
        os._exit(1)

    def start(self, _: Sequence[str], env: Mapping[str, str], cwd: str | None) -> "Rank":
        """In place of `subprocess.Popen`."""
        with os.fdopen(self._write, "w") as pipe:
            json.dump(dict(env), pipe)
        return self

    def poll(self) -> int | None:
        return self._wait(os.WNOHANG)

    def wait(self) -> int | None:
        return self._wait(0)

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _wait(self, options: int) -> int | None:
        if self.returncode is None:
            try:
                pid, status = os.waitpid(self.pid, options)
            except ChildProcessError:  # the other thread has waited
                return self.returncode
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def zoo_forked(
    arguments: Sequence[str], cwd: Path, environment: Mapping[str, str]
) -> "subprocess.CompletedProcess[str]":
    """`zoo ARGUMENTS` to its end."""
    with TemporaryDirectory() as folder:
        process = Forked(arguments, Path(folder, "out"), cwd, environment)
        out, err = process.communicate(timeout=300)
    assert process.returncode is not None
    return subprocess.CompletedProcess(list(arguments), process.returncode, out, err)


def _run(
    arguments: Sequence[str],
    out: Path,
    told: Connection,
    cwd: Path,
    environment: Mapping[str, str],
) -> None:
    os.setsid()
    os.dup2(os.open(out, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
    os.dup2(told.fileno(), 2)
    told.close()
    os.chdir(cwd)
    os.environ.clear()
    os.environ.update(environment)
    sys.path[:0] = environment.get("PYTHONPATH", "").split(os.pathsep)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # its loaders' workers start as they do in a process that the command line has started
    multiprocessing.set_start_method(None, force=True)
    torch.set_num_threads(1)

    from lightning.pytorch.strategies.launchers import subprocess_script

    launched: Any = subprocess_script
    launched.subprocess = SimpleNamespace(Popen=Rank(arguments).start)
    sys.exit(_zoo(arguments))


def _zoo(arguments: Sequence[str]) -> int:
    """What the script `zoo` does."""
    from zoo.cli.main import main

    sys.argv = ["zoo", *arguments]
    try:
        return main(list(arguments))
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
