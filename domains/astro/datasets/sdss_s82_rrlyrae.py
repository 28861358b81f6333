"""RR Lyrae stars of SDSS Stripe 82 (Sesar et al. 2010, ApJ 708, 717)."""

from functools import cached_property
from pathlib import Path

import numpy as np

from domains.astro.datasets.members import find_members, parse_csv, read_text, to_numbers
from shared.data.dataset import Dataset, Raw, SampleTable, hash_files, or_error
from shared.errors import ConfigError, DataError
from shared.schema import Array, Channel, Schema

BANDS = "ugriz"
_SENTINEL = 90.0
_TABLE = "apj326724t2.txt"
_COLUMNS = (
    Channel("period", "d", (0.0, None)),
    *(Channel(f"amplitude_{band}", "mag", (0.0, None)) for band in BANDS),
    *(Channel(f"magnitude_at_maximum_{band}", "mag") for band in BANDS),
)
# The numbers of the best templates (Tu … Tz) are left out: they tell the type.
_SOURCE = ("Per", *(f"A{band}" for band in BANDS), *(f"{band}mag" for band in BANDS))


class SdssS82RRLyrae(Dataset):
    """RR Lyrae stars, labelled by sub-type (`ab`, `c`), with the period [d] as target `period`;
    light curves in one band and table 2.

    - `photometry` (n, 3): MJD [d], magnitude [mag], its error [mag]; not corrected for extinction.
      Rows with a sentinel (magnitude or error beyond 90) or whose error is rounded to 0 are left
      out.
    - `metadata` (11,): period [d], amplitude and magnitude at maximum [mag] of the best template in
      u, g, r, i, z, corrected for extinction. The period nearly tells the sub-type.

    Args:
        root: Folder with `light-curves.zip` (or its extracted folder `light-curves`),
            `periods.csv` and `apj326724t2.txt`.
        band: One of u, g, r, i, z.

    Raises:
        ConfigError: No such band.
        DataError: A file is missing, damaged or lacks a column.
    """

    name = "sdss_s82_rrlyrae"
    schemas = {  # noqa: RUF012
        "photometry": Schema(
            "photometry",
            ("time", "channel"),
            (
                Channel("time", "d"),
                Channel("magnitude", "mag", (0.0, 40.0)),
                Channel("magnitude_error", "mag", (1e-6, None)),
            ),
        ),
        "metadata": Schema("metadata", ("channel",), _COLUMNS),
    }

    def __init__(self, root: str, band: str = "g") -> None:
        if len(band) != 1 or band not in BANDS:
            raise ConfigError(f"{self.name}: band={band!r} is none of {', '.join(BANDS)}.")
        self.root, self.band = Path(root), band
        self.source = str(self.root / "periods.csv")
        self._members = find_members(self.root, "light-curves", ".csv")
        self._member = {Path(name).stem: name for name in self._members.names}

    def make_table(self) -> SampleTable:
        path = self.root / "periods.csv"
        rows = parse_csv(read_text(self.root, path), ("Num", "Type", "Per"), str(path))
        ids, types = [row[0] for row in rows], [row[1] for row in rows]
        for number in ids:
            if number not in self._member:
                raise DataError(
                    f"{self._members.source}: lacks {number}.csv, a star of {path}. Get it anew."
                )
            if number not in self._properties:
                raise DataError(f"{self.root / _TABLE}: lacks star {number} of {path}.")
        classes = tuple(sorted(set(types)))
        periods = to_numbers([[row[2]] for row in rows], str(path))[:, 0]
        labels = [classes.index(kind) for kind in types]
        return SampleTable(ids, labels, classes, targets={"period": periods})

    def read(self, index: int) -> Raw:
        number = self.table.ids[index]
        where = self._members.where(self._member[number])
        text = self._members.read(self._member[number]).decode("utf-8-sig", errors="replace")
        rows = parse_csv(text, ("time", "mag", "magerr", "band"), where)
        if not rows:
            raise DataError(f"{where}: has no rows; the file may be truncated. Get it anew.")
        if strange := {row[3] for row in rows} - set(BANDS):
            raise DataError(
                f"{where}: a row is in band {min(strange)!r}, none of {', '.join(BANDS)}. Get it "
                "anew."
            )
        values = to_numbers([row[:3] for row in rows if row[3] == self.band], where)
        raw: dict[str, Array | DataError] = {"metadata": or_error(self._metadata, number)}
        if len(values):
            bad = (np.abs(values[:, 1:]) > _SENTINEL).any(axis=1) | (values[:, 2] == 0)
            values = values[~bad]
        if len(values):
            raw["photometry"] = values
        return raw

    def _metadata(self, number: str) -> Array:
        row = self._properties[number]
        if np.isnan(row).any():
            raise DataError(
                f"{self.root / _TABLE}: star {number} has no "
                f"{_SOURCE[int(np.isnan(row).argmax())]}; the file may be truncated. Get it anew."
            )
        return row

    def file(self, index: int, modality: str) -> str:
        if modality == "metadata":
            return str(self.root / _TABLE)
        return self._members.where(self._member[self.table.ids[index]])

    def content_fingerprint(self) -> str:
        tables = [self.root / "periods.csv", self.root / _TABLE]
        return f"{hash_files([*self._members.paths(), *tables])}, band {self.band}"

    @cached_property
    def _properties(self) -> dict[str, Array]:
        """Number of the star → its row of `metadata`."""
        from astropy.io import ascii

        path = self.root / _TABLE
        text = read_text(self.root, path)
        try:
            # lines, since a text of one line would be taken for the name of a file
            table = ascii.read(text.splitlines(), format="mrt")
            columns = [np.ma.filled(table[name].astype(np.float64), np.nan) for name in _SOURCE]
            numbers = [str(number) for number in table["Num"]]
        except (ValueError, KeyError, TypeError, ascii.InconsistentTableError) as error:
            raise DataError(
                f"{path}: is not table 2 of Sesar et al. 2010 in the journal's machine-readable "
                f"form ({error}). Get it anew."
            ) from error
        return dict(zip(numbers, np.stack(columns, axis=1), strict=True))
