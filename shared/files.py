"""Writing so that a reader never sees half a file."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from shared.errors import DataError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces `path` when the block succeeds.

    The old file stays whole whatever happens; the temporary one is removed on failure.

    Raises:
        DataError: The folder or the file cannot be written.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and try that it can be written to, before hours of work go into it.

    Raises:
        DataError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".zoo-"):
            pass
    except OSError as error:
        raise DataError(
            f"The folder {folder} cannot be written to: {error.strerror or error}. Choose another."
        ) from error


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused, since JSON has none."""
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")
