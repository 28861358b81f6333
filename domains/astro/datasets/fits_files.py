"""FITS files, whatever they hold, with all checks that the format has (FITS standard 4.0)."""

import io
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from astropy.io.fits import HDUList

# astropy only warns of these
_FATAL = (
    r"(Checksum|Datasum) verification failed",
    r"File may have been truncated",
    r"Error validating header",
)
# astropy goes through as many axes or columns as a header states, hours for a damaged one, and for
# ever through a unit of negative size; the standard has at most 999 of either (§4.4.1.1, §7.3.1)
_COUNTS = re.compile(rb"(NAXIS|TFIELDS) *= *(\d+)")
_NEGATIVE = re.compile(rb"(NAXIS\d*|TFIELDS|[PG]COUNT) *= *- *\d")
_MOST = 999
_CARD = 80  # bytes; blocks are whole cards (§3.1)


@contextmanager
def open_fits(content: bytes) -> "Iterator[HDUList]":
    """The HDUs of a file, read and verified; tile-compressed images are left as the tables that
    they are stored in, since unpacked they can be of any size.

    Args:
        content: Bytes of the file.

    Raises:
        Exception: astropy's, of many kinds, also of what it by itself only warns of: the file is
            cut short, a CHECKSUM or DATASUM (§4.4.2.7) does not fit, or bytes follow that are no
            HDU.
        ValueError: A header does not fit its data: the columns of a table have another width than
            its rows, what should fill the last block (§3.3.2, §7.3.3) holds data, or it states
            more axes or columns than a file can have, or a negative size.
    """
    from astropy.io import fits
    from astropy.utils.exceptions import AstropyWarning

    for found in _cards(_COUNTS, content):
        if int(found[2]) > _MOST:
            raise ValueError(f"{found[1].decode()} is {int(found[2]):,}, and can be {_MOST}")
    for found in _cards(_NEGATIVE, content):
        raise ValueError(f"{found[1].decode()} is negative")
    with warnings.catch_warnings():
        # of odd units and the like, which are judged where they are used
        warnings.simplefilter("ignore", AstropyWarning)
        for message in _FATAL:
            warnings.filterwarnings("error", message)
        with fits.open(
            io.BytesIO(content),
            memmap=False,
            lazy_load_hdus=False,
            character_as_bytes=True,
            checksum=True,
            disable_image_compression=True,
        ) as units:
            for number, unit in enumerate(units):
                _check_unit(number, unit, content)
            yield units


def _cards(pattern: re.Pattern[bytes], content: bytes) -> "Iterator[re.Match[bytes]]":
    """Where a card begins with a pattern, and not a comment or a text in a table holds it."""
    return (found for found in pattern.finditer(content) if found.start() % _CARD == 0)


def _check_unit(number: int, unit: Any, content: bytes) -> None:
    from astropy.io import fits

    if isinstance(unit, fits.BinTableHDU):
        width, stated = unit.columns.dtype.itemsize, unit.header["NAXIS1"]
        if width != stated:
            raise ValueError(f"HDU {number}: columns of {width} bytes in rows of {stated}")
    place = unit.fileinfo()
    end = place["datLoc"] + unit.size
    fill = content[end : place["datLoc"] + place["datSpan"]]
    if fill.strip(b" " if isinstance(unit, fits.TableHDU) else b"\0"):
        raise ValueError(f"HDU {number}: its header states less data than there are")
