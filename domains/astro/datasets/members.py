"""The files of a dataset, in a zip archive or in the folder it was extracted to."""

import csv
import io
import os
import zipfile
import zlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from shared.errors import DataError
from shared.files import inside
from shared.schema import Array
from shared.untrusted import check_size, check_zip, read_bytes

# RuntimeError: the archive is encrypted, or compressed in a way zipfile does not know
_UNREADABLE = (OSError, EOFError, RuntimeError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True)
class Members:
    """Files of one folder, on disk or inside a zip archive that is never extracted.

    Holds no open file: it can be copied to worker processes.

    Attributes:
        source: The folder, or the archive.
        names: Name of each file inside `source`, sorted.
    """

    source: Path
    names: tuple[str, ...]

    def read(self, name: str) -> bytes:
        """Content of one file.

        Raises:
            DataError: It is gone, damaged inside the archive, too large, or a link that leads out
                of the folder.
        """
        if self.source.is_dir():
            return read_bytes(inside(self.source, self.source / name))
        try:
            archive = _open_archive(self.source, self.source.stat().st_mtime_ns, os.getpid())
            check_size(archive.getinfo(name).file_size, self.where(name))
            return archive.read(name)
        except (*_UNREADABLE, KeyError) as error:
            raise DataError(
                f"{self.source}: {name} cannot be read ({error}). Get the file anew."
            ) from error

    def where(self, name: str) -> str:
        """The file, for messages: the folder or the archive, and its name in it."""
        return f"{self.source}, {name}"

    def paths(self) -> list[Path]:
        """The files on disk, for hashing."""
        if self.source.is_dir():
            return [self.source / name for name in self.names]
        return [self.source]


@lru_cache(maxsize=4)
def _open_archive(source: Path, changed: int, process: int) -> zipfile.ZipFile:
    """An archive opened once, since its directory may have many thousand entries; once a process,
    since the place in an open file is shared with forked workers."""
    return zipfile.ZipFile(source)


def find_members(root: Path, folder: str, suffix: str) -> Members:
    """Files `*<suffix>` anywhere in `root/<folder>/`, else in `root/<folder>.zip`.

    Raises:
        DataError: The root is missing, has neither, what it has leads out of it, the archive is
            damaged, or nothing matches.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Give root=<the folder with {folder}.zip>.")
    source = inside(root, root / folder)
    if source.is_dir():
        names = [p.relative_to(source).as_posix() for p in source.rglob("*") if p.is_file()]
    else:
        source = inside(root, root / f"{folder}.zip")
        if not source.is_file():
            raise DataError(
                f"{root}: holds neither {folder}.zip nor a folder {folder}. Put one of them there."
            )
        try:
            check_zip(source)
            with zipfile.ZipFile(source) as archive:
                names = archive.namelist()
        except (*_UNREADABLE, ValueError) as error:
            raise DataError(
                f"{source}: not a readable zip archive ({error}); it may be truncated. Get it anew."
            ) from error
    visible = (n for n in names if not n.startswith("__MACOSX") and Path(n).name[:1] != ".")
    names = sorted(name for name in visible if name.endswith(suffix))
    if not names:
        raise DataError(f"{source}: holds no file *{suffix}.")
    return Members(source, tuple(names))


def read_text(root: Path, path: Path) -> str:
    """A text file below a root folder.

    Raises:
        DataError: It is missing, empty or not UTF-8, or leads out of the root.
    """
    try:
        text = read_bytes(inside(root, path)).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a UTF-8 text file. Get it anew.") from error
    if not text.strip():
        raise DataError(f"{path}: is empty. Get it anew.")
    return text


def parse_csv(text: str, columns: tuple[str, ...], where: str) -> list[list[str]]:
    """Cells of some columns of a CSV text, row by row.

    Raises:
        DataError: It is no CSV, the header lacks a column, or a row is cut short.
    """
    try:
        rows = list(csv.reader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise DataError(f"{where}: is not a CSV file ({error}). Get it anew.") from error
    header = [cell.strip() for cell in rows[0]] if rows else []
    missing = [name for name in columns if name not in header]
    if missing:
        raise DataError(
            f"{where}: lacks column {', '.join(map(repr, missing))}; its first line is "
            f"{','.join(header)!r}."
        )
    positions = [header.index(name) for name in columns]
    for number, row in enumerate(rows[1:], start=2):
        if row and len(row) != len(header):
            raise DataError(
                f"{where}, line {number}: {len(row)} cells under {len(header)} columns; the file "
                "may be truncated."
            )
    return [[row[p] for p in positions] for row in rows[1:] if row]


def to_numbers(rows: list[list[str]], where: str) -> Array:
    """(n, columns) float64 of text cells.

    Raises:
        DataError: A cell is not a finite number.
    """
    try:
        values = np.array(rows, dtype=np.float64)
    except ValueError as error:
        raise DataError(f"{where}: a cell is not a number ({error}). Get the file anew.") from error
    if not np.isfinite(values).all():
        raise DataError(f"{where}: a cell is NaN or infinite. Remove its row.")
    return values
