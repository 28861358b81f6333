"""Tables of stars and their columns, whatever the format of the file."""

import io
import re
import warnings
from collections import Counter
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import DataError, first_line
from shared.schema import Array, Channel

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


def read_table(path: Path, text_columns: Collection[str] = ()) -> "Table":
    """A CSV, ECSV, FITS or VOTable file with at least one row; of several tables the first.

    Args:
        path: The file; its suffix, in any case, says the format.
        text_columns: Columns of a CSV file that are text even where they look like numbers.

    Raises:
        DataError: It is missing, of another format, broken or empty, or names a column twice.
    """
    from astropy.table import Table
    from astropy.utils.exceptions import AstropyWarning

    suffix = path.suffix.lower()
    if suffix not in FORMATS:
        raise DataError(f"{path}: the format is none of {', '.join(FORMATS)}.")
    if not path.exists():
        raise DataError(f"{path}: no such file.")
    options: dict[str, Any] = {"format": FORMATS[suffix]}
    if suffix == ".csv":  # '007' is an id, not the number 7
        options["converters"] = dict.fromkeys(text_columns, str)
    try:
        content = path.read_bytes()
        with warnings.catch_warnings():
            # of odd units and the like, which are judged where they are used
            warnings.simplefilter("ignore", AstropyWarning)
            if options["format"] == "votable":
                from astropy.io.votable.exceptions import W30

                # text in a number would count as an empty cell
                warnings.simplefilter("error", W30)
                options["verify"] = "warn"
            table = Table.read(io.BytesIO(_checked(content, suffix, path)), **options)
            if suffix not in _TEXT_FORMATS:
                table.convert_bytestring_to_unicode()
    except DataError:
        raise
    # the readers of astropy raise many kinds of error on broken files, also bare Exception
    except Exception as error:
        raise DataError(f"{path}: cannot be read as {suffix[1:]} ({first_line(error)}).") from error
    if len(table) == 0:
        raise DataError(f"{path}: has no rows.")
    return table


def _checked(content: bytes, suffix: str, path: Path) -> bytes:
    """The content, without a byte order mark.

    Raises:
        DataError: What astropy would read without a word, but not as it was meant.
    """
    if not content:
        raise DataError(f"{path}: is empty.")
    if suffix in _TEXT_FORMATS:
        text = content.decode("utf-8-sig")
        if text.count('"') % 2:
            raise DataError(f"{path}: a quote is not closed; the file may be truncated.")
        if suffix == ".csv":
            header = next((line for line in text.splitlines() if line.strip()), "")
            names = Counter(name.strip(' "') for name in header.split(","))
            if twice := [name for name, count in names.items() if count > 1]:
                raise DataError(f"{path}: has several columns {twice[0]!r}. Rename or remove one.")
        return text.encode()
    if suffix != ".fits" and _OUTSIDE_DATA.search(content.replace(b"\0", b"")):
        raise DataError(f"{path}: keeps its rows in another file (STREAM href). Put them in it.")
    return content


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
        DataError: It is no plain column.
    """
    if name not in table.colnames:
        return None
    found = column(table, name, path)
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
