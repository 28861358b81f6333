"""CSV files (RFC 4180, a header line), column by column."""

import csv
import io
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from shared.errors import DataError, suggest
from shared.untrusted import read_bytes

# Python's own limit of 131,072 characters a cell is less than a genome or a report.
_LONGEST_CELL = 2**31 - 1


@dataclass(frozen=True)
class CsvTable:
    """A table of texts. Rows are counted from 1 in messages, the header not included.

    Attributes:
        path: The file.
        header: Names of the columns.
        rows: Cells, as many in each row as in the header.
    """

    path: Path
    header: list[str]
    rows: list[list[str]]

    def cells(self, name: str, setting: str) -> list[str]:
        """Cells of the column of that name, as they are; `setting` chooses it, for the message.

        Raises:
            DataError: There is no such column, or there are several.
        """
        if self.header.count(name) != 1:
            if name in self.header:
                raise DataError(
                    f"{self.path}: column {name!r} stands twice in the header. Rename one of them."
                )
            raise DataError(
                f"{self.path}: column {name!r} stands not at all in the header. "
                f"{suggest(name, set(self.header))} Choose it by data.{setting}."
            )
        position = self.header.index(name)
        return [row[position] for row in self.rows]

    def texts(self, name: str, setting: str, *, required: bool = True) -> list[str]:
        """Cells without blanks around them: ' cat' is the class 'cat'.

        Raises:
            DataError: A cell is empty where it is required.
        """
        cells = [cell.strip() for cell in self.cells(name, setting)]
        if required and "" in cells:
            row = cells.index("") + 1
            raise DataError(f"{self.path}: row {row}: column {name!r} is empty.")
        return cells

    def choices(self, name: str, setting: str, allowed: Sequence[str]) -> list[str]:
        """Cells of a column that holds some words only.

        Raises:
            DataError: Another one.
        """
        cells = self.texts(name, setting)
        for number, cell in enumerate(cells, start=1):
            if cell not in allowed:
                raise DataError(
                    f"{self.path}: row {number}: the {setting.partition('=')[0]} is {cell!r}, not "
                    f"one of {', '.join(allowed)}. Rename it in the file."
                )
        return cells

    def numbers(self, name: str, setting: str) -> list[float]:
        """Cells as numbers; NaN where one is empty.

        Raises:
            DataError: A cell is no finite number.
        """
        return [
            self._number(*cell, name)
            for cell in enumerate(self.texts(name, setting, required=False), 1)
        ]

    def tags(self, name: str, setting: str) -> list[float]:
        """Cells as 0 or 1; NaN where one is empty.

        Raises:
            DataError: A cell is something else.
        """
        values = self.numbers(name, setting)
        for number, value in enumerate(values, start=1):
            if not math.isnan(value) and value not in (0, 1):
                raise DataError(
                    f"{self.path}: row {number}: the tag {name!r} is {value:g}; write 1 for yes, 0 "
                    "for no, nothing where it is unknown."
                )
        return values

    def _number(self, row: int, cell: str, name: str) -> float:
        try:
            value = float(cell) if cell else math.nan
        except ValueError:
            value = math.inf
        if math.isinf(value) or (cell and math.isnan(value)):
            raise DataError(
                f"{self.path}: row {row}: column {name!r} is {cell!r}, not a finite number (1.5, "
                "-2e3). Leave the cell empty where it is unknown."
            )
        return value


def read_csv(path: Path, setting: str = "root", encoding: str = "utf-8-sig") -> CsvTable:
    """Read a whole file; `setting` names it, for the message.

    Raises:
        DataError: The file is missing, not of the encoding, cut inside quotes, or has a row of
            another width.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file. Give {setting}=FILE.csv.")
    try:
        text = read_bytes(path).decode(encoding)
        with _long_cells():
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except UnicodeDecodeError as error:
        name = encoding.removesuffix("-sig").upper()
        raise DataError(
            f"{path}: is not a {name} text file ({error}). Save it as {name}."
        ) from error
    except csv.Error as error:
        raise DataError(f"{path}: is not a whole CSV file ({error}). Get it anew.") from error
    if not rows:
        raise DataError(f"{path}: is empty. Its first line names the columns.")
    header, *body = rows
    for number, row in enumerate(body, start=1):
        if len(row) != len(header):
            raise DataError(
                f"{path}: row {number} has {len(row)} cells, the header {len(header)}. Put a cell "
                "that holds a comma or a line break in double quotes."
            )
    return CsvTable(path, header, body)


@contextmanager
def _long_cells() -> Iterator[None]:
    """Cells of any length; the limit is the process's, and is put back."""
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
