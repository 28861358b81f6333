"""Files that others made: what is refused before it is read, and how much of one is read at most.

A pipe or a device may be waited for for ever, a small file may unpack to gigabytes, and an archive
may lead out of its folder.
"""

import gzip
import io
import json
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import Any

from shared.errors import DataError

LARGEST = 2 * 2**30
"""Bytes of one file of data. Each worker of a loader holds the file it reads in memory as a whole,
and what its parser makes of it."""
LARGEST_TEXT = 16 * 2**20
"""Bytes of a JSON file; those of real models have some thousand."""
GROWTH = 100
"""How many times its size a file may unpack to; numbers that were measured shrink a few times."""
ALWAYS_FINE = 256 * 2**20
"""Bytes that a file may unpack to whatever its size."""
_GZIP = b"\x1f\x8b"


def check_regular(path: Path) -> int:
    """Hold that a path is a file.

    Returns:
        Its size in bytes.

    Raises:
        DataError: It is missing, a folder, a pipe or a device (opening one can wait for ever).
    """
    try:
        status = path.stat()
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        if isinstance(error, FileNotFoundError):
            raise DataError(f"{path}: no such file.") from error
        raise DataError(f"{path}: cannot be read ({_why(error)}).") from error
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device"
        raise DataError(f"{path}: cannot be read (it is {kind}, not a file).")
    return status.st_size


def check_size(size: int, where: str, largest: int = LARGEST) -> None:
    """Hold the size of a file, on disk or in an archive, against the largest that is read.

    Raises:
        DataError: It is larger.
    """
    if size > largest:
        raise DataError(
            f"{where}: has {size:,} bytes, more than the {largest:,} that are read of such a file. "
            "Split it up, or see that it is the right one."
        )


def read_bytes(path: Path, largest: int = LARGEST) -> bytes:
    """Content of a file of at most `largest` bytes.

    Raises:
        DataError: It is no such file, or cannot be read.
    """
    check_size(check_regular(path), str(path), largest)
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({_why(error)}).") from error


def read_text(path: Path, largest: int = LARGEST_TEXT) -> str:
    """A UTF-8 file of at most `largest` bytes.

    Raises:
        DataError: As `read_bytes`; or it is not UTF-8.
    """
    try:
        return read_bytes(path, largest).decode()
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is damaged: it is not UTF-8 ({error}).") from error


def read_json(path: Path, largest: int = LARGEST_TEXT) -> dict[str, Any]:
    """A JSON file of at most `largest` bytes that holds a mapping.

    Raises:
        DataError: As `read_text`; no JSON, nested too deeply, or no mapping.
    """
    try:
        data = json.loads(read_text(path, largest))
    except ValueError as error:
        raise DataError(f"{path} is damaged or no JSON: {error}.") from error
    except RecursionError as error:
        raise DataError(f"{path} is refused: its JSON is nested too deeply.") from error
    if not isinstance(data, dict):
        raise DataError(f"{path} is damaged: it holds no mapping.")
    return data


def is_gzip(content: bytes) -> bool:
    return content.startswith(_GZIP)


def unpack_gzip(content: bytes, path: Path) -> bytes:
    """Content of a gzip file, its check sums and lengths verified (RFC 1952).

    Raises:
        DataError: It is damaged, cut short, or unpacks to far more than its size or than is read
            of a file.
    """
    most = min(max(GROWTH * len(content), ALWAYS_FINE), LARGEST)
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(content)) as file:
            unpacked = file.read(most + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path}: is not a whole gzip file ({error}). Get it anew.") from error
    check_size(len(unpacked), f"{path}, unpacked")
    check_growth(path, len(unpacked))
    return unpacked


def check_growth(path: Path, unpacked: int) -> None:
    """Refuse a file that says it unpacks to far more than it could hold.

    Raises:
        DataError: More than `GROWTH` times its size and than `ALWAYS_FINE` bytes.
    """
    size = path.stat().st_size
    if unpacked > max(GROWTH * size, ALWAYS_FINE):
        raise DataError(
            f"{path} is refused: its {size:,} bytes would unpack to {unpacked:,}, as those of a "
            "decompression bomb do. If it is right, write it again without compression."
        )


def check_zip(path: Path) -> None:
    """Hold the table of contents of a zip archive against what an honest one says; nothing is
    unpacked.

    Raises:
        DataError: A member with an absolute name or `..`, a link, or far too large a content.
        zipfile.BadZipFile: No whole archive.
    """
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
    for member in members:
        name = PurePosixPath(member.filename.replace("\\", "/"))
        if (
            name.is_absolute()
            or ".." in name.parts
            or (name.parts[:1] and name.parts[0][1:2] == ":")
        ):
            raise DataError(
                f"{path} is refused: its member {member.filename!r} leads out of the archive."
            )
        if stat.S_ISLNK(member.external_attr >> 16):
            raise DataError(f"{path} is refused: its member {member.filename!r} is a link.")
    check_growth(path, sum(member.file_size for member in members))


def _why(error: OSError | ValueError) -> str:
    return getattr(error, "strerror", None) or str(error)
