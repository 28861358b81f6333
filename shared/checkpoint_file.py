"""A checkpoint that carries its own hash, so that one rename replaces both."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from shared.errors import WeightsError, WriteError, first_line
from shared.files import atomic_path
from shared.weights import read_pickled

MARK = b"sha256:"
COMMENT = len(MARK) + 64
"""Bytes of the comment at the end of the zip archive that `torch.save` writes."""
LENGTH = COMMENT.to_bytes(2, "little")
NO_COMMENT = b"\0\0"
"""What stands in the place of `LENGTH` when the hash is taken."""
CHUNK = 2**20


class _Hashed:
    """Hashes what passes on its way to a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.digest = file, hashlib.sha256()

    def write(self, data: memoryview) -> int:
        self.digest.update(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


def write_checkpoint(path: Path, content: Mapping[str, Any], previous: Path) -> None:
    """Write a checkpoint atomically; the file that was there is `previous` from then on.

    The hash is the comment of the zip archive: torch and zipfile read the file as any other.

    Raises:
        WriteError: It cannot be written. The file that was there is as it was.
    """
    with atomic_path(path) as temporary:
        with temporary.open("wb") as file:
            hashed = _Hashed(file)
            try:
                torch.save(content, hashed)  # type: ignore[arg-type]
            except RuntimeError as error:
                # what torch makes of an error in writing, which it has as its context
                if not isinstance(error.__context__, OSError):
                    raise
                reason = error.__context__.strerror
                raise WriteError(f"{path} cannot be written: {reason}.") from error
            file.seek(-len(NO_COMMENT), os.SEEK_END)
            file.write(LENGTH + MARK + hashed.digest.hexdigest().encode())
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            os.replace(path, previous)


def read_checkpoint(path: Path) -> Any:
    """What `write_checkpoint` wrote, after its hash was compared; no code in it runs.

    Raises:
        WeightsError: It cannot be read, has no hash or another one, or holds more than tensors in
            plain containers.
    """
    try:
        check_hash(path)
    except OSError as error:
        raise WeightsError(f"{path} cannot be read: {first_line(error)}.") from error
    return read_pickled(path)


def check_hash(path: Path) -> None:
    """Compare the bytes of a checkpoint with the hash that it carries.

    Raises:
        OSError: It cannot be read.
        WeightsError: It has no hash, or another one.
    """
    if path.exists() and not path.is_file():  # opening a pipe would wait for ever
        raise WeightsError(f"{path} is damaged: it is no regular file.")
    tail = len(LENGTH) + COMMENT
    left = path.stat().st_size - tail
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while left > 0 and (chunk := file.read(min(CHUNK, left))):
            digest.update(chunk)
            left -= len(chunk)
        digest.update(NO_COMMENT)
        end = file.read(tail)
    if not end.startswith(LENGTH + MARK):
        raise WeightsError(
            f"{path} is damaged: it has no hash at its end, so it is cut off or was written by "
            "something else than `zoo train`."
        )
    if end.removeprefix(LENGTH + MARK) != digest.hexdigest().encode():
        raise WeightsError(f"{path} is damaged: its bytes do not fit the hash that it carries.")
