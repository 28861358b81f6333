"""One's own stars: a table and one file a star."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.data.dataset import SPLITS, Dataset, Raw, SampleTable, hash_files
from shared.errors import DataError, suggest
from shared.schema import POSITIVE, Array, Channel, Schema

if TYPE_CHECKING:
    from astropy.table import Table

_FORMATS = {".csv": "ascii.csv", ".ecsv": "ascii.ecsv", ".fits": "fits"}
_TEXT_COLUMNS = ("id", "label", "split", "group")
_TIME, _WAVELENGTH = Channel("time", "d"), Channel("wavelength", "Angstrom", (1.0, None))
# sets of columns a file may have, the first that fits is taken
_LAYOUTS = {
    "photometry": (
        (_TIME, Channel("flux", "mJy"), Channel("flux_error", "mJy", POSITIVE)),
        (_TIME, Channel("magnitude", "mag"), Channel("magnitude_error", "mag", POSITIVE)),
    ),
    "spectra": (
        (_WAVELENGTH, Channel("flux"), Channel("inverse_variance", "", (0.0, None))),
        (_WAVELENGTH, Channel("flux")),
    ),
}
_AXIS = {"photometry": "time", "spectra": "wavelength"}


class StarFolder(Dataset):
    """A folder of one's own stars.

    Layout (`.ecsv` or `.fits` in place of `.csv` anywhere)::

        table.csv               one row a star: id, and possibly label, split (train, val, test)
                                and group; every other column is a number of `metadata`
        photometry/<id>.csv     time, flux, flux_error  or  time, magnitude, magnitude_error
        spectra/<id>.csv        wavelength, flux and, possibly, inverse_variance

    Further columns of the star files are ignored, all files of one folder give the same channels,
    and a star without a file lacks that modality. Units written in ECSV and FITS headers are
    converted to d, mJy, mag and Angstrom; columns without a unit are taken to be in these, the flux
    of spectra as relative, and columns of the table as dimensionless. Empty cells of the table are
    missing values.

    Args:
        root: The folder.
        table: File name of the table inside it.
        units: `<modality>.<column>` → unit, such as `{"photometry.flux": "Jy"}`; goes before what
            a header says. An empty text is dimensionless.
        ignore: Columns of the table that are not metadata.

    Raises:
        DataError: A file or column is missing, broken, or in a unit that cannot be converted.
    """

    name = "star_folder"

    def __init__(
        self,
        root: str,
        table: str = "table.csv",
        units: Mapping[str, str] | None = None,
        ignore: Sequence[str] = (),
    ) -> None:
        self.root, self.table_path = Path(root), Path(root) / table
        self.units, self.ignore = dict(units or {}), tuple(ignore)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder. Give root=<your folder>.")
        self._rows = self._read_rows()
        self._files = {modality: self._find_files(modality) for modality in _LAYOUTS}
        self._metadata, metadata_channels = self._read_metadata()
        self.schemas = self._make_schemas(metadata_channels)
        self._check_unit_names()

    def make_table(self) -> SampleTable:
        names = self._text("label")
        classes = tuple(sorted({name for name in names or [] if name}))
        splits = self._text("split")
        for star, split in zip(self._ids, splits or [], strict=bool(splits)):
            if split not in SPLITS:
                raise DataError(
                    f"{self.table_path}: split of star {star!r} is {split!r}, none of "
                    f"{', '.join(SPLITS)}."
                )
        return SampleTable(
            ids=self._ids,
            labels=[classes.index(n) if n else -1 for n in names] if names else None,
            classes=classes,
            groups=self._text("group"),
            splits=splits,
        )

    def read(self, index: int) -> Raw:
        star = self._ids[index]
        raw: dict[str, Array] = {
            modality: self._read_star(modality, files[star])
            for modality, files in self._files.items()
            if star in files
        }
        if "metadata" in self.schemas:
            raw["metadata"] = self._metadata[index]
        return raw

    def content_fingerprint(self) -> str:
        files = [path for files in self._files.values() for path in files.values()]
        settings = (sorted(self.units.items()), sorted(self.ignore))
        return f"{hash_files([self.table_path, *files])}, {settings}"

    def _read_rows(self) -> "Table":
        rows = read_table(self.table_path)
        if "id" not in rows.colnames:
            raise DataError(
                f"{self.table_path}: lacks the column 'id'. {suggest('id', rows.colnames)}"
            )
        return rows

    @cached_property
    def _ids(self) -> list[str]:
        ids = self._text("id") or []
        for star in ids:
            if not star or "/" in star or "\\" in star or star.startswith("."):
                raise DataError(
                    f"{self.table_path}: the id {star!r} cannot be part of a file name. Use "
                    "letters, digits, '-', '_' and '.'."
                )
        return ids

    def _text(self, column: str) -> list[str] | None:
        """A text column, empty where masked; None if the table has none."""
        if column not in self._rows.colnames:
            return None
        masked = np.ma.getmaskarray(self._rows[column])
        return [
            "" if hidden else str(value).strip()
            for value, hidden in zip(self._rows[column], masked, strict=True)
        ]

    def _find_files(self, modality: str) -> dict[str, Path]:
        """Star → its file."""
        folder = self.root / modality
        if not folder.is_dir():
            return {}
        found: dict[str, list[Path]] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix in _FORMATS:
                found.setdefault(path.stem, []).append(path)
        files = {star: found[star][0] for star in self._ids if star in found}
        for star in files:
            if len(found[star]) > 1:
                names = " and ".join(path.name for path in found[star])
                raise DataError(
                    f"{folder}: star {star!r} has several files: {names}. Keep one of them."
                )
        if not files:
            raise DataError(
                f"{folder}: no file is named after an id of {self.table_path.name}; the first id "
                f"asks for {self._ids[0] if self._ids else '<id>'}.csv, .ecsv or .fits."
            )
        return files

    def _make_schemas(self, metadata_channels: tuple[Channel, ...]) -> dict[str, Schema]:
        schemas = {}
        for modality, files in self._files.items():
            if files:
                first = next(iter(files.values()))
                columns = read_table(first).colnames
                channels = _choose_layout(modality, columns, first)
                schemas[modality] = Schema(modality, (_AXIS[modality], "channel"), channels)
        if metadata_channels:
            schemas["metadata"] = Schema("metadata", ("channel",), metadata_channels)
        if not schemas:
            raise DataError(
                f"{self.root}: holds neither a folder photometry nor spectra, and "
                f"{self.table_path.name} has no columns of numbers. See the layout in the "
                "documentation of StarFolder."
            )
        return schemas

    def _read_metadata(self) -> tuple[Array, tuple[Channel, ...]]:
        """(stars, columns) float64 and the channels."""
        known = (*_TEXT_COLUMNS, *self.ignore)
        names = [name for name in self._rows.colnames if name not in known]
        columns, channels = [], []
        for name in names:
            values = numbers(
                self._rows, name, self.table_path, "Correct it, or name the column in ignore."
            )
            unit = self.units.get(f"metadata.{name}", str(self._rows[name].unit or ""))
            columns.append(values)
            channels.append(Channel(name, unit, allow_missing=bool(np.isnan(values).any())))
        stacked = np.stack(columns, axis=1) if columns else np.empty((len(self._rows), 0))
        return stacked, tuple(channels)

    def _check_unit_names(self) -> None:
        known = [f"{m}.{name}" for m, schema in self.schemas.items() for name in schema.names]
        for name in self.units:
            if name not in known:
                raise DataError(f"units names {name!r}, which is not there. {suggest(name, known)}")
        for value in ("photometry.flux", "photometry.magnitude"):
            if len({value, f"{value}_error"} & set(self.units)) == 1:
                raise DataError(
                    f"units must name both {value} and {value}_error: one alone would leave the "
                    "other on another scale."
                )

    def _read_star(self, modality: str, path: Path) -> Array:
        table = read_table(path)
        columns = []
        for channel in self.schemas[modality].channels:
            if channel.name not in table.colnames:
                raise DataError(
                    f"{path}: lacks the column {channel.name!r}, which other {modality} files "
                    f"have; it has {', '.join(table.colnames)}."
                )
            given = self.units.get(f"{modality}.{channel.name}", table[channel.name].unit)
            factor = unit_factor(given, channel, path)
            values = numbers(table, channel.name, path)
            if np.isnan(values).any():
                row = int(np.flatnonzero(np.isnan(values))[0]) + 1
                raise DataError(
                    f"{path}: column {channel.name!r} is empty or NaN in row {row}. Remove the row."
                )
            columns.append(values * factor)
        return np.stack(columns, axis=1)


def _choose_layout(modality: str, columns: Sequence[str], path: Path) -> tuple[Channel, ...]:
    for channels in _LAYOUTS[modality]:
        if all(channel.name in columns for channel in channels):
            return channels
    wanted = " or ".join(", ".join(c.name for c in layout) for layout in _LAYOUTS[modality])
    raise DataError(f"{path}: needs the columns {wanted}; it has {', '.join(columns)}.")


def read_table(path: Path) -> "Table":
    """A CSV, ECSV or FITS table with at least one row.

    Raises:
        DataError: It is missing, of another format, broken or empty.
    """
    from astropy.table import Table

    if path.suffix not in _FORMATS:
        raise DataError(f"{path}: the format is none of {', '.join(_FORMATS)}.")
    if not path.is_file():
        raise DataError(f"{path}: no such file.")
    options: dict[str, Any] = {}
    if path.suffix == ".csv":  # '007' is an id, not the number 7
        options["converters"] = {name: str for name in _TEXT_COLUMNS}
    try:
        table = Table.read(path, format=_FORMATS[path.suffix], **options)
    # the readers of astropy raise many kinds of error on broken files, also bare Exception
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise DataError(f"{path}: cannot be read as {path.suffix[1:]} ({reason}).") from error
    if len(table) == 0:
        raise DataError(f"{path}: has no rows.")
    table.convert_bytestring_to_unicode()
    return table


def numbers(table: "Table", name: str, path: Path, advice: str = "Correct it.") -> Array:
    """(n,) float64 of a column, NaN where a cell is empty.

    Raises:
        DataError: The column holds text, or several values a row.
    """
    column = table[name]
    masked = np.ma.getmaskarray(column)
    values = np.ma.getdata(column)
    if values.ndim != 1:
        raise DataError(f"{path}: column {name!r} has several values a row.")
    if values.dtype.kind not in "biuf":
        if masked.all():
            return np.full(len(values), np.nan)
        cells = [str(v) for v, hidden in zip(values, masked, strict=True) if not hidden]
        text = next((cell for cell in cells if not _is_number(cell)), cells[0])
        raise DataError(
            f"{path}: column {name!r} holds the text {text!r} where a number should be. {advice}"
        )
    return np.where(masked, np.nan, values.astype(np.float64))


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
