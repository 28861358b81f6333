"""Reading at any place of many files, a few of which are open at a time."""

import os
from collections import OrderedDict
from io import FileIO
from pathlib import Path
from typing import Any

from shared.errors import DataError

State = tuple[int, int]
"""Size [bytes] and time of the last change [ns] of a file."""
_OPEN = 64
"""Files that are open at once in a process; systems allow 256 at the least, and most 1024."""


class OpenFiles:
    """Files, opened when they are read first and closed when `_OPEN` others were read since.

    A process that is forked may go on with them: `pread` (POSIX) has no position that both would
    move. One that is spawned opens its own.
    """

    def __init__(self) -> None:
        self._files: OrderedDict[Path, FileIO] = OrderedDict()

    def read(self, path: Path, state: State, offset: int, size: int) -> bytes:
        """Bytes of a file, fewer where it ends before.

        Args:
            path: Of the file.
            state: Of the file when it was seen what lies where.
            offset: Of the first byte.
            size: In bytes.

        Raises:
            OSError: It cannot be opened or read.
            DataError: It is another one by now, where other things lie at other places.
        """
        file = self._files.get(path)
        if file is None:
            file = FileIO(path)
            if state_of(os.fstat(file.fileno())) != state:
                file.close()
                raise DataError(f"{path}: was changed since this process began. Start again.")
            self._files[path] = file
            if len(self._files) > _OPEN:
                self._files.popitem(last=False)[1].close()
        self._files.move_to_end(path)
        content = os.pread(file.fileno(), size, offset)
        # a call may give less than there is, as over a network or above 2 GiB
        while len(content) < size and (
            more := os.pread(file.fileno(), size - len(content), offset + len(content))
        ):
            content += more
        return content

    def __getstate__(self) -> dict[str, Any]:
        return {"_files": OrderedDict()}


def state_of(status: os.stat_result) -> State:
    """What tells a file from another one of the same name."""
    return status.st_size, status.st_mtime_ns
