"""The metrics of a run as a CSV file that survives a resume."""

import csv
import os
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from shared.files import atomic_path

COLUMNS = ("step", "metric", "value")


class MetricsCSV(Logger):
    """One row a value: step, metric, value. Appended and flushed at every call."""

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
        new = not self.path.exists()
        with self.path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(COLUMNS)
            writer.writerows([step, name, repr(float(v))] for name, v in metrics.items())

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
        with self.path.open(newline="", encoding="utf-8") as file:
            rows = [r for r in csv.reader(file) if r[:1] == ["step"] or _up_to(r, step)]
        with atomic_path(self.path) as temporary, temporary.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
            file.flush()
            os.fsync(file.fileno())


def _up_to(row: list[str], step: int) -> bool:
    """Whether a row is whole (a kill can cut the last one) and not after the step."""
    return len(row) == len(COLUMNS) and row[0].isdigit() and int(row[0]) <= step
