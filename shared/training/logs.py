"""What a run logs: metrics as a CSV file that survives a resume, and TensorBoard's events."""

import csv
import os
import threading
from argparse import Namespace
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from shared.errors import WriteError
from shared.files import atomic_path
from shared.run_folder import COLUMNS, END, read_metrics


class MetricsCSV(Logger):
    """One row a value: step, metric, value. Appended and flushed at every call.

    Every method raises WriteError where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        return "metrics"

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        with _told(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator=END)
            if file.tell() == 0:
                writer.writerow(COLUMNS)
            writer.writerows([step, name, repr(float(v))] for name, v in metrics.items())

    @rank_zero_only
    def save(self) -> None:
        """Bring what was logged to the disk."""
        if self.path.exists():
            with _told(self.path), self.path.open("rb+") as file:
                os.fsync(file.fileno())

    @rank_zero_only
    def log_hyperparams(
        self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any
    ) -> None:
        """The config is saved as a file of its own."""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Drop what was logged after a step, before a run goes on from there."""
        if not self.path.exists():
            return
        rows = [row for row in read_metrics(self.path)[0] if int(row[0]) <= step]
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file, lineterminator=END).writerows([COLUMNS, *rows])


class Curves(TensorBoardLogger):
    """The same values as TensorBoard's events. Raises WriteError where they cannot be written."""

    def __init__(self, folder: Path, **options: Any) -> None:
        super().__init__(folder, **options)
        # what stops its thread is told by the next call, once and without a traceback
        self._hook, threading.excepthook = threading.excepthook, self._on_thread_error

    def _on_thread_error(self, args: threading.ExceptHookArgs) -> None:
        if not isinstance(args.exc_value, OSError):
            self._hook(args)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        with _told(Path(self.log_dir)):
            super().log_metrics(metrics, step)

    @rank_zero_only
    def save(self) -> None:
        with _told(Path(self.log_dir)):
            super().save()

    @rank_zero_only
    def finalize(self, status: str) -> None:
        threading.excepthook = self._hook
        if status == "success":
            with _told(Path(self.log_dir)):
                super().finalize(status)
        else:
            # an error is on its way already
            with suppress(OSError):
                super().finalize(status)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Errors in writing to a path as WriteErrors; Lightning wraps some of TensorBoard's."""
    try:
        yield
    except (OSError, ValueError) as error:
        cause = error if isinstance(error, OSError) else error.__cause__
        if not isinstance(cause, OSError):
            raise
        raise WriteError(f"{path} cannot be written: {cause.strerror or cause}.") from error
