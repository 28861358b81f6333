"""Tables of stars and their columns, whatever the format of the file."""

import base64
import csv
import io
import re
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domains.astro.datasets.fits_files import open_fits
from shared.errors import DataError, first_line
from shared.schema import Array, Channel
from shared.untrusted import read_bytes

if TYPE_CHECKING:
    from astropy.table import Column, Table

FORMATS = {
    ".csv": "ascii.csv",
    ".ecsv": "ascii.ecsv",
    ".fits": "fits",
    ".vot": "votable",
    ".votable": "votable",
}
_TEXT_FORMATS = (".csv", ".ecsv")
# astropy would fetch them, from the network, too
_OUTSIDE_DATA = re.compile(rb"STREAM\b[^>]*\bhref\s*=")
_STREAM = re.compile(rb"<(BINARY2?)>\s*<STREAM[^>]*base64[^>]*>([^<]*)</STREAM>")
_ENTITY = b"<!ENTITY"
# astropy makes room for as many before it reads the first
_DECLARED = re.compile(rb"\b(nrows|arraysize)\s*=\s*[\"']\s*(\d+)")
# Names of all columns; parsing a table of a million columns takes minutes.
_LONGEST_HEADER = 2**18


def read_table(path: Path, text_columns: Collection[str] = ()) -> "Table":
    """A CSV, ECSV, FITS or VOTable file with at least one row; of several tables the first.

    Args:
        path: The file; its suffix, in any case, says the format.
        text_columns: Columns of a CSV file that are text even where they look like numbers.

    Raises:
        DataError: It is missing, of another format, broken or empty, or names a column twice.
    """
    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(f"{path}: the format is none of {', '.join(FORMATS)}.")
    content = _checked(read_bytes(path), suffix, path)
    try:
        table = _parse(content, suffix, text_columns)
    # the readers of astropy raise many kinds of error on broken files, also bare Exception
    except Exception as error:
        raise DataError(f"{path}: cannot be read as {suffix[1:]} ({first_line(error)}).") from error
    if len(table) == 0:
        raise DataError(f"{path}: has no rows.")
    return table


def _parse(content: bytes, suffix: str, text_columns: Collection[str]) -> "Table":
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning

    options: dict[str, Any] = {"format": FORMATS[suffix]}
    with warnings.catch_warnings():
        # of odd units and the like, which are judged where they are used
        warnings.simplefilter("ignore", AstropyWarning)
        if suffix in _TEXT_FORMATS:
            if suffix == ".csv":  # '007' is an id, not the number 7
                options["converters"] = dict.fromkeys(text_columns, str)
            return Table.read(io.BytesIO(content), guess=False, **options)
        if suffix == ".fits":
            with open_fits(content) as units:
                table = Table.read(units, **options)
        else:
            from astropy.io.votable.exceptions import W18, W30, W51

            # another number of rows than is stated; text in a number, which would count as an
            # empty cell; a number that its type cannot hold
            for fatal in (W18, W30, W51):
                warnings.simplefilter("error", fatal)
            table = Table.read(io.BytesIO(content), **options, verify="warn")
            _check_stream(content, table)
        table.convert_bytestring_to_unicode()
        return table


def _check_stream(content: bytes, table: "Table") -> None:
    """Hold that the base64 text of a VOTable has the bytes of all rows of numbers: astropy leaves
    out characters that are not base64, and a last row that is not whole.

    Raises:
        ValueError: It has not.
    """
    stream = _STREAM.search(content)
    sizes = [table[name].dtype.itemsize * table[name][:1].size for name in table.colnames]
    if stream is None or any(table[name].dtype.kind not in "iuf" for name in table.colnames):
        return
    binary, text = stream.groups()
    flags = (len(sizes) + 7) // 8 if binary == b"BINARY2" else 0
    given = len(base64.b64decode(b"".join(text.split()), validate=True))
    if given != len(table) * (sum(sizes) + flags):
        raise ValueError(f"{given} bytes for {len(table)} rows of {sum(sizes) + flags}")


def _checked(content: bytes, suffix: str, path: Path) -> bytes:
    """The content, without a byte order mark.

    Raises:
        DataError: What astropy would read without a word, but not as it was meant.
    """
    if not content:
        raise DataError(f"{path}: is empty.")
    if suffix in _TEXT_FORMATS:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataError(f"{path}: cannot be read as {suffix[1:]} ({error}).") from error
        if text.count('"') % 2:
            raise DataError(f"{path}: a quote is not closed; the file may be truncated.")
        if suffix == ".csv":
            _check_cells(text, path)
        return text.encode()
    if suffix != ".fits":
        plain = content.replace(b"\0", b"")  # of UTF-16
        if _OUTSIDE_DATA.search(plain):
            raise DataError(
                f"{path}: keeps its rows in another file (STREAM href). Put them in it."
            )
        if _ENTITY in plain:
            raise DataError(
                f"{path}: defines entities ({_ENTITY.decode()}), which a few bytes can make "
                "expand to any size. Write the text itself in their place."
            )
        for name, number in _DECLARED.findall(plain):
            if int(number) > len(plain):
                raise DataError(
                    f"{path}: states {name.decode()}={int(number):,}, more than it has bytes. Get "
                    "it anew."
                )
    return content


def _check_cells(text: str, path: Path) -> None:
    """Hold that a CSV text names every column, once, and has a cell of each in every row."""
    if len(header := text.lstrip().partition("\n")[0]) > _LONGEST_HEADER:
        raise DataError(
            f"{path}: its first line has {len(header):,} characters, which are no names of "
            f"columns (at most {_LONGEST_HEADER:,}). Are its line ends missing?"
        )
    try:
        lines = csv.reader(io.StringIO(text, newline=None), strict=True)
        rows = [row for row in lines if "".join(row).strip()]
    except csv.Error as error:
        raise DataError(f"{path}: cannot be read as csv ({error}).") from error
    names = Counter(name.strip(' "') for name in rows[0]) if rows else Counter()
    if "" in names:
        raise DataError(
            f"{path}: has a column without a name. Give it one, or leave it out (pandas writes its "
            "row numbers so, unless index=False)."
        )
    if twice := [name for name, count in names.items() if count > 1]:
        raise DataError(f"{path}: has several columns {twice[0]!r}. Rename or remove one.")
    for number, row in enumerate(rows[1:]):
        if len(row) != len(rows[0]):
            raise DataError(
                f"{path}: row {number} has {len(row)} cells under {len(rows[0])} columns; the file "
                "may be truncated."
            )


def column(table: "Table", name: str, path: Path) -> "Column":
    """A plain column.

    Raises:
        DataError: It is an object of astropy, such as Time.
    """
    from astropy.table import Column

    found = table[name]
    if not isinstance(found, Column):
        raise DataError(
            f"{path}: column {name!r} is an astropy {type(found).__name__}. Write plain numbers "
            "with a unit."
        )
    return found


def texts(table: "Table", name: str, path: Path) -> list[str] | None:
    """A text column, empty where masked; None if the table has none of that name.

    Raises:
        DataError: It is no plain column, or has several values a row.
    """
    if name not in table.colnames:
        return None
    found = column(table, name, path)
    if found.ndim != 1:
        raise DataError(f"{path}: column {name!r} has several values a row.")
    masked = np.ma.getmaskarray(found)
    return [
        "" if hidden else str(value).strip() for value, hidden in zip(found, masked, strict=True)
    ]


def numbers(table: "Table", name: str, path: Path, advice: str = "Correct it.") -> Array:
    """(n,) float64 of a column, NaN where a cell is empty.

    Raises:
        DataError: The column holds text, complex numbers, or several values a row.
    """
    found = column(table, name, path)
    masked = np.ma.getmaskarray(found)
    values = np.ma.getdata(found)
    if values.ndim != 1:
        raise DataError(f"{path}: column {name!r} has several values a row.")
    if values.dtype.kind in "biuf":
        return np.where(masked, np.nan, values.astype(np.float64))
    if values.dtype.kind == "c":
        raise DataError(f"{path}: column {name!r} holds complex numbers. {advice}")
    # numbers of more digits than an integer has are read as text
    cells = ["nan" if hidden else str(v) for v, hidden in zip(values, masked, strict=True)]
    try:
        return np.array([float(cell) for cell in cells])
    except ValueError as error:
        row = next(i for i, cell in enumerate(cells) if not _is_number(cell))
        raise DataError(
            f"{path}: column {name!r} holds the text {cells[row]!r} in row {row}, where a number "
            f"should be. {advice}"
        ) from error


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def unit_factor(given: object, channel: Channel, path: Path) -> float:
    """What values in the unit given are multiplied with; 1 where no unit is given.

    Raises:
        DataError: It is no unit, or cannot be converted to that of the channel.
    """
    from astropy import units

    if given is None or str(given) == channel.unit:
        return 1.0
    try:
        return float(units.Unit(given).to(units.Unit(channel.unit)))
    except (ValueError, TypeError, units.UnitConversionError) as error:
        raise DataError(
            f"{path}: column {channel.name!r} is in {str(given)!r}, which cannot be converted to "
            f"{channel}. Correct the unit, or override it with units in the settings."
        ) from error
