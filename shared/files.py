"""Writing so that a reader never sees half a file."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from shared.errors import DataError, WriteError


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary path in the same folder that replaces `path` when the block succeeds.

    The old file stays whole whatever happens; the temporary one is removed on failure.

    Raises:
        WriteError: The folder or the file cannot be written.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp{path.suffix}")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}.") from error
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)


def make_folder(folder: Path) -> None:
    """Make a folder and try that it can be written to, before hours of work go into it.

    Raises:
        WriteError: It cannot be made or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=folder, prefix=".zoo-"):
            pass
    except OSError as error:
        raise WriteError(
            f"The folder {folder} cannot be written to: {error.strerror or error}. Choose another."
        ) from error


def write_json(path: Path, data: Any) -> None:
    """Write JSON atomically; NaN and infinity are refused, since JSON has none."""
    text = json.dumps(data, indent=2, allow_nan=False, ensure_ascii=False)
    with atomic_path(path) as temporary:
        temporary.write_text(text + "\n", encoding="utf-8")


def inside(root: Path, path: Path) -> Path:
    """A path below a root folder, which may itself be a link.

    In the cache of the Hugging Face hub, `snapshots/<revision>` holds links to files beside
    `snapshots`: there the root is the folder of the repository.

    Args:
        root: The folder that a user named.
        path: Of a file in it: `root / what an index file says`, or found there.

    Returns:
        `path` as it is.

    Raises:
        DataError: It leads out of the root, by `..`, as an absolute path or by a link.
    """
    try:
        target = path.resolve()
    except (OSError, RuntimeError) as error:  # a link to itself
        raise DataError(f"{path}: cannot be read ({error}).") from error
    absolute = root.absolute()
    if absolute.parent.name == "snapshots":
        root = absolute.parents[1]
    if not target.is_relative_to(root.resolve()):
        raise DataError(
            f"{path} leads out of {root}, to {target}: nothing outside of that folder is read. "
            "Put the file itself there, or name the folder that holds all of them."
        )
    return path
