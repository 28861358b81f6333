"""The members of a tar: where each lies in the file, from the headers alone.

Formats: ustar and pax (POSIX.1-2024, `pax`), and GNU's long names. Python's `tarfile` reads them,
too, but takes a damaged header for the end, and some ten times as long.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from shared.errors import DataError
from shared.files import readable

BLOCK = 512
_WINDOW = 16 * BLOCK
"""Bytes read at once: the headers of a small member, and those of some after it."""
_LONGEST_NAME = 2**16
"""Bytes of a pax header or of GNU's long name that are read."""
_FILES, _FOLDER = (b"0", b"\0", b"7"), b"5"
_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK = b"x", b"g", b"L", b"K"


class DamagedTarError(Exception):
    """Reading cannot go on from here; the message says what is wrong."""


class Member(NamedTuple):
    """One file in a tar.

    Attributes:
        name: Its path in the tar.
        offset: Of its content in the tar, bytes.
        size: Of its content, bytes.
    """

    name: str
    offset: int
    size: int


def scan(path: Path) -> Iterator[Member]:
    """The files in a tar, in their order.

    Raises:
        DamagedTarError: It is cut short or a header is damaged; what was given before is whole.
        DataError: A member is a link, a device or a sparse file, or has a negative size.
    """
    with path.open("rb") as file:
        yield from _Scanner(path, file.fileno()).members()


class _Scanner:
    def __init__(self, path: Path, file: int) -> None:
        self._path, self._file, self._size = path, file, os.fstat(file).st_size
        self._window, self._start = b"", 0

    def members(self) -> Iterator[Member]:
        offset, said = 0, dict[str, str]()
        while any(block := self._read(offset, BLOCK)):
            if not _sum_is_right(block):
                raise DamagedTarError(
                    f"has a damaged header at byte {offset:,}."
                    if offset
                    else "is no whole tar (it does not begin with a header)."
                )
            kind, name = block[156:157], said.get("path") or _name(block)
            size = _decimal(said["size"]) if "size" in said else _number(block[124:136])
            content, offset = offset + BLOCK, offset + BLOCK + -(-size // BLOCK) * BLOCK
            if size < 0:  # would lead back, and round for ever
                raise self._refused(name, f"has {size} bytes")
            if content + size > self._size:
                raise DamagedTarError(
                    f"is no whole tar (its member {readable(name)!r} ends behind it)."
                )
            if kind in (_PAX, _PAX_GLOBAL, _LONG_NAME, _LONG_LINK):
                said |= self._extension(kind, name, content, size)
                continue
            if kind in _FILES and not name.endswith("/"):
                if any(key.startswith("GNU.sparse") for key in said):
                    raise self._refused(name, "is no file as it lies there, but a sparse one")
                yield Member(name, content, size)
            elif kind != _FOLDER and kind not in _FILES:
                raise self._refused(name, "is no file")
            said = {}
        self._check_end(offset)

    def _extension(self, kind: bytes, name: str, content: int, size: int) -> dict[str, str]:
        """What a header says of the member after it; the global ones say nothing that is used."""
        if kind in (_PAX_GLOBAL, _LONG_LINK):
            return {}
        if size > _LONGEST_NAME:
            raise self._refused(name, f"has a name or a header of {size:,} bytes")
        text = self._read(content, size)
        if kind == _LONG_NAME:
            return {"path": _text(text)}
        try:
            return _pax_records(text)
        except ValueError as error:
            raise DamagedTarError(f"has a damaged header at byte {content:,}.") from error

    def _read(self, offset: int, size: int) -> bytes:
        if not self._start <= offset <= offset + size <= self._start + len(self._window):
            self._window = os.pread(self._file, max(size, _WINDOW), offset)
            self._start = offset
        at = offset - self._start
        block = self._window[at : at + size]
        if len(block) < size:
            end = f"is cut short at byte {self._size:,}: the mark of the end of a tar is missing."
            raise DamagedTarError(end if self._size else "is no whole tar (it is empty).")
        return block

    def _check_end(self, offset: int) -> None:
        """A tar ends with two blocks of zeros; only zeros fill the record behind them."""
        if any(self._read(offset, 2 * BLOCK)):
            raise DamagedTarError(f"has a damaged header at byte {offset + BLOCK:,}.")
        offset += 2 * BLOCK
        while block := os.pread(self._file, 2**20, offset):
            if block.strip(b"\0"):
                raise DamagedTarError(
                    f"goes on behind its end at byte {offset:,}, as two tars in one file do. "
                    "Split it."
                )
            offset += len(block)

    def _refused(self, name: str, why: str) -> DataError:
        return DataError(f"{self._path} is refused: its member {readable(name)!r} {why}.")


def _sum_is_right(block: bytes) -> bool:
    """The sum of a header's bytes, those of the sum itself counted as blanks."""
    try:
        return _number(block[148:156]) == sum(block) - sum(block[148:156]) + 8 * 32
    except DamagedTarError:
        return False


def _number(field: bytes) -> int:
    """Octal digits, or GNU's binary number behind a byte 0x80 or, negative, 0xff."""
    if field[0] in (0x80, 0xFF):
        number = int.from_bytes(field[1:], "big")
        return number - (1 << 8 * (len(field) - 1)) if field[0] == 0xFF else number
    try:
        return int(field.split(b"\0", 1)[0].strip() or b"0", 8)
    except ValueError as error:
        raise DamagedTarError("has a damaged header.") from error


def _decimal(text: str) -> int:
    """A size in a pax header; those of the header itself end at 8 GiB."""
    if len(text) > 20 or not text.isdecimal():
        raise DamagedTarError("has a damaged header.")
    return int(text)


def _name(block: bytes) -> str:
    name, prefix = _text(block[:100]), _text(block[345:500])
    # GNU's own format holds times where POSIX has the beginning of a long name
    return f"{prefix}/{name}" if prefix and block[257:263] == b"ustar\0" else name


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="surrogateescape")


def _pax_records(text: bytes) -> dict[str, str]:
    """`<length> <key>=<value>\\n`, one after another.

    Raises:
        ValueError: It is nothing of that kind.
    """
    records = {}
    while text:
        length = int(text[: text.index(b" ")])
        record, text = text[:length], text[length:]
        if length < 5 or not record.endswith(b"\n"):
            raise ValueError("no record")
        key, _, value = record[record.index(b" ") + 1 : -1].partition(b"=")
        records[key.decode(errors="replace")] = value.decode(errors="surrogateescape")
    return records
