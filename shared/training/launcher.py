"""The processes of a run: when one of them is lost, all of them end, soon and with one message."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch.distributed as dist
from lightning.fabric.plugins import ClusterEnvironment
from lightning.fabric.utilities.distributed import _set_num_threads_if_needed
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher

from shared.errors import RankError, ZooError
from shared.run_folder import how_to_go_on

LAUNCHER_VARIABLE = "ZOO_LAUNCHER"
"""In the environment of a process that another one of the run has started: that one's number."""

POLL_SECONDS = 0.2
GRACE_SECONDS = 5.0
"""How long a process that has lost contact waits for who knows more to speak and end the run."""


class Launcher(_SubprocessScriptLauncher):
    """Starts the processes of this machine as Lightning does, and watches over them.

    Lightning's own observer ends the run too, but by SIGKILL and without a word.
    """

    def __init__(
        self, environment: ClusterEnvironment, num_processes: int, num_nodes: int, folder: Path
    ) -> None:
        """`folder` is that of the run, for what the message says of how to go on."""
        super().__init__(environment, num_processes, num_nodes)
        self._folder = folder
        self._done = threading.Event()

    def launch(
        self, function: Callable[..., Any], *args: Any, trainer: Any = None, **kwargs: Any
    ) -> Any:
        """Start the others and call the function.

        Raises:
            RankError: Contact to another process is lost.
        """
        environment = self.cluster_environment
        environment.validate_settings(num_devices=self.num_processes, num_nodes=self.num_nodes)
        before, joined = dict(os.environ), dist.is_initialized()
        if not environment.creates_processes_externally:
            os.environ[LAUNCHER_VARIABLE] = str(os.getpid())
            self._call_children_scripts()
            threading.Thread(target=self._watch, daemon=True).start()
        _set_num_threads_if_needed(num_processes=self.num_processes)
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            if isinstance(error, RuntimeError) and _lost_contact(error):
                raise self._explain(error) from error
            if isinstance(error, ZooError) and _is_launched():
                # the first process most likely says the same
                time.sleep(1)
            self.kill(signal.SIGKILL)
            raise
        finally:
            self._done.set()
            # what this process does next is no rank of anything
            if dist.is_initialized() and not joined:
                dist.destroy_process_group()
            for name in os.environ.keys() - before.keys():
                del os.environ[name]

    def kill(self, signum: Any) -> None:
        """Send a signal to the processes started here, whose end is no news from now on."""
        self._done.set()
        for process in self.procs:
            process.send_signal(signum)

    def _explain(self, error: RuntimeError) -> RankError:
        """After a while in which whoever sees more ends this process; what hangs is ended."""
        if LAUNCHER_VARIABLE in os.environ:
            time.sleep(GRACE_SECONDS)
        self.kill(signal.SIGKILL)
        if _is_launched():
            # it should have ended this process by now: it hangs
            os.kill(os.getppid(), signal.SIGKILL)
        text = str(error).lower()
        late = "timed out" in text or "timeout" in text
        how = "did not answer within trainer.timeout" if late else "was ended"
        return RankError(
            f"rank {self.cluster_environment.global_rank()}: another process of the run {how}; "
            f"{how_to_go_on(self._folder)}"
        )

    def _watch(self) -> None:
        while not self._done.wait(POLL_SECONDS):
            for number, process in enumerate(self.procs, 1):
                if process.poll():
                    self._end(number, process)

    def _end(self, number: int, process: "subprocess.Popen[bytes]") -> None:
        code = process.returncode
        if code > 128 and self._done.wait(GRACE_SECONDS):
            # interrupted together with this process, which speaks for both
            return
        if code < 0 or code == 1:
            how = "ended with an error, see above"
            if code < 0:
                how = f"was ended by signal {-code} ({signal.Signals(-code).name})"
                how += ", as when memory runs out" if code == -signal.SIGKILL else ""
            first = self.cluster_environment.node_rank() * self.num_processes
            _say(f"the process of rank {first + number} {how}; {how_to_go_on(self._folder)}")
        for other in self.procs:
            other.kill()
            other.wait()
        _exit(code if code > 0 else 1)


@contextmanager
def ending_with_launcher(folder: Path) -> Iterator[None]:
    """In a process that another one has started: meanwhile, end when that one is gone."""
    if LAUNCHER_VARIABLE not in os.environ:
        yield
        return
    done = threading.Event()

    def watch() -> None:
        while not done.wait(POLL_SECONDS):
            if not _is_launched():
                # one of them speaks for all
                if os.environ["LOCAL_RANK"] == "1":
                    _say(f"the first process of the run was ended; {how_to_go_on(folder)}")
                _exit(1)

    threading.Thread(target=watch, daemon=True).start()
    try:
        yield
    finally:
        done.set()


def _is_launched() -> bool:
    """Whether a process of the same run has started this one."""
    return os.environ.get(LAUNCHER_VARIABLE) == str(os.getppid())


def _lost_contact(error: RuntimeError) -> bool:
    """Whether torch says that another process has gone or does not answer."""
    text = str(error).lower()
    return isinstance(error, dist.DistError) or any(word in text for word in ("gloo", "nccl"))


def _say(message: str) -> None:
    sys.stderr.write(f"zoo: {message}\n")
    sys.stderr.flush()


def _exit(code: int) -> None:
    """End this process from a thread, whatever the main one waits for."""
    for worker in multiprocessing.active_children():
        worker.kill()
    sys.stdout.flush()
    os._exit(code)
