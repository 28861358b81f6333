"""Progress bars with an ETA on a terminal; silence elsewhere."""

import os
import sys
from collections.abc import Iterable, Sequence
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console


@cache
def console() -> "Console":
    """Where everything a person reads is printed."""
    from rich.console import Console

    class Patient(Console):
        """Goes on working when its reader, such as `head`, has gone."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

    return Patient(soft_wrap=True)


def rows_progress(rows: Sequence[int], what: str) -> Iterable[int]:
    """The same rows with a bar that says how long is left."""
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console(), transient=True, disable=not console().is_terminal
    ) as bar:
        yield from bar.track(rows, description=what)
