"""Writing so that a reader never sees half a file."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

from shared.errors import ConfigError, DataError, WriteError


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


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """A temporary folder beside `folder`, which becomes it when the block succeeds; `folder` must
    not be there, or be empty.

    Raises:
        ConfigError: As `refuse_to_overwrite`.
        WriteError: It cannot be written.
    """
    refuse_to_overwrite(folder)
    make_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        temporary.mkdir()
        yield temporary
        if folder.is_dir():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise WriteError(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def refuse_to_overwrite(folder: Path) -> None:
    """Hold that a folder is not there, or is empty.

    Raises:
        ConfigError: Something is there.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} exists and is not empty: nothing is overwritten. Remove it, or choose "
            "another."
        )


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
        # half a character, as in a file name that is not UTF-8, becomes JSON's own escape
        temporary.write_text(text + "\n", encoding="utf-8", errors="backslashreplace")


def readable(name: str) -> str:
    """A file's name without the surrogates that stand for bytes which are not UTF-8."""
    return name.encode(errors="surrogateescape").decode(errors="replace")


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
    except (OSError, RuntimeError, ValueError) as error:  # a link to itself, a NUL in the name
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
