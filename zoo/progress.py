"""Progress bars with an ETA on a terminal; silence elsewhere."""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.segment import Segment


@cache
def console() -> "Console":
    """Where everything a person reads is printed."""
    from rich.console import Console

    class Patient(Console):
        """Goes on working when its reader, such as `head`, has gone; what names of classes, files
        and models hold is shown and never obeyed."""

        def on_broken_pipe(self) -> None:
            self.quiet = True
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())

        def render(self, *args: Any, **options: Any) -> Iterator["Segment"]:
            for segment in super().render(*args, **options):
                yield segment if segment.control else segment._replace(text=harmless(segment.text))

    return Patient(soft_wrap=True, markup=False, emoji=False)


def harmless(text: str) -> str:
    """A text whose escape characters a terminal shows and does not obey."""
    return text.replace("\x1b", "␛").replace("\x9b", "␛")


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
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console(), transient=True, disable=not console().is_terminal
    ) as bar:
        yield from bar.track(rows, description=what)
