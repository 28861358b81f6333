"""Signals that ask a training to stop before the machine is taken away.

Imports nothing heavy: the command line knows `Preempted`.
"""

import signal
import threading
from types import FrameType, TracebackType

SIGNALS = [signal.SIGTERM, *([signal.SIGUSR1] if hasattr(signal, "SIGUSR1") else [])]
"""What schedulers and `kill` send, and what SLURM is often told to send (`--signal=USR1@90`)."""


class Preempted(Exception):  # noqa: N818 (no error: it did what it was asked)
    """A signal has stopped a training.

    Attributes:
        signum: The signal.
        exit_code: As shells give it for a process that a signal ended.
    """

    def __init__(self, signum: int, message: str = "") -> None:
        super().__init__(message or f"preempted by {signal.Signals(signum).name}")
        self.signum, self.exit_code = signum, 128 + signum


class Preemption:
    """Handlers for `SIGNALS` while a training runs; those from before come back afterwards.

    A signal raises `Preempted` at once, except after `defer`: then it is only kept, for the
    training loop to look at when a step is done. Signals are the main thread's: elsewhere there
    are no handlers.

    Attributes:
        signum: The signal that came, or 0.
    """

    def __init__(self) -> None:
        self.signum = 0
        self._deferred = False

    def __enter__(self) -> "Preemption":
        self._before = {signum: signal.getsignal(signum) for signum in SIGNALS}
        self.install()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if _in_main_thread():
            for signum, handler in self._before.items():
                # None: a handler that Python does not know and cannot give back
                signal.signal(signum, signal.SIG_DFL if handler is None else handler)

    def install(self) -> None:
        """Take the signals over, also from who has taken them in between."""
        if _in_main_thread():
            for signum in SIGNALS:
                signal.signal(signum, self._handle)

    def defer(self, deferred: bool) -> None:
        """Whether signals wait for the loop; one that the loop has not seen is raised after it."""
        self._deferred = deferred
        if self.signum and not deferred:
            raise Preempted(self.signum)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self.signum = signum
        if not self._deferred:
            raise Preempted(signum)


def outlive(worker: int) -> None:
    """For the workers of a loader, when a whole group of processes is signalled: the step that is
    running needs them, and they end with the process that started them."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()
