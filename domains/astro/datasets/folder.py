"""One's own stars: a table and one file a star."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from domains.astro.datasets.tables import (
    FORMATS,
    numbers,
    read_table,
    texts,
    unit_factor,
)
from domains.astro.period import lomb_scargle_period
from domains.astro.schemas import CATALOGUE_PHOTOMETRY, PHOTO_COLUMNS, PHOTOMETRY, SPECTRA
from shared.data.dataset import SPLITS, Dataset, Raw, SampleTable, hash_files, or_error
from shared.errors import DataError, suggest
from shared.files import inside
from shared.schema import POSITIVE, Array, Channel, Schema

if TYPE_CHECKING:
    from astropy.table import Table

_TEXT_COLUMNS = ("id", "label", "split", "group")
_TIME, _PERIOD = PHOTOMETRY.channel("time"), CATALOGUE_PHOTOMETRY.channel("period")
# sets of columns a file may have, the first that fits is taken
_LAYOUTS = {
    "photometry": (
        PHOTOMETRY.channels,
        (_TIME, Channel("magnitude", "mag"), Channel("magnitude_error", "mag", POSITIVE)),
    ),
    "spectra": (SPECTRA.channels, SPECTRA.channels[:2]),
}
_AXIS = {"photometry": "time", "spectra": "wavelength"}


class StarFolder(Dataset):
    """A folder of one's own stars.

    Layout (`.ecsv`, `.fits`, `.vot` or `.votable` in place of `.csv` anywhere)::

        table.csv               one row a star: id, and possibly label, split (train, val, test)
                                and group; every other column is a number of `metadata`
        photometry/<id>.csv     time, flux, flux_error  or  time, magnitude, magnitude_error
        spectra/<id>.csv        wavelength, flux and, possibly, inverse_variance

    Rows and columns in any order. Further columns of the star files are ignored, all files of one
    folder give the same channels, and a star without a file lacks that modality. Units written in
    ECSV, FITS and VOTable headers are converted to d, mJy, mag and Angstrom; columns without a unit
    are taken to be in these, the flux of spectra as relative, and columns of the table as
    dimensionless. Empty cells of the table are missing values.

    Args:
        root: The folder.
        table: File name of the table inside it.
        units: `<modality>.<column>` → unit, such as `{"photometry.flux": "Jy"}`; goes before what
            a header says. An empty text is dimensionless.
        ignore: Columns of the table that are not metadata.
        period: Where the column `period` [d] comes from: the `catalogue`, which is the table, or,
            for stars whose cell is empty and where the column is absent, `lomb_scargle`: the
            highest peak of the light curve's periodogram (`domains.astro.period`).
        photometry_columns: Columns of the table that belong to the light curve: they follow its
            channels, the same on each row, and are not metadata. AstroM3's are amplitude [mag],
            period [d], lksl_statistic and rfr_score.

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
        period: Literal["catalogue", "lomb_scargle"] = "catalogue",
        photometry_columns: Sequence[str] = (),
    ) -> None:
        self.root, self.table_path = Path(root), Path(root) / table
        self.source = str(self.table_path)
        self.units, self.ignore = dict(units or {}), tuple(ignore)
        self.period, self.photometry_columns = period, tuple(photometry_columns)
        if not self.root.is_dir():
            raise DataError(f"{self.root}: no such folder. Give root=<your folder>.")
        self._rows = self._read_rows()
        self._files = {modality: self._find_files(modality) for modality in _LAYOUTS}
        if (period != "catalogue" or photometry_columns) and not self._files["photometry"]:
            raise DataError(
                f"{self.root}: period=lomb_scargle and photometry_columns are about light curves, "
                "and there is no folder photometry."
            )
        self._periods: dict[str, float] = {}
        self._columns = self._read_columns()
        self.schemas = self._make_schemas()
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
        raw = {
            modality: or_error(self._read_star, modality, files[star])
            for modality, files in self._files.items()
            if star in files
        }
        curve = raw.get("photometry")
        if isinstance(curve, np.ndarray) and self.photometry_columns:
            raw["photometry"] = or_error(self._append_columns, index, curve)
        if "metadata" in self.schemas:
            raw["metadata"] = or_error(self._row, index, self.schemas["metadata"].names, curve)
        return raw

    def file(self, index: int, modality: str) -> str:
        path = self._files.get(modality, {}).get(self._ids[index], self.table_path)
        return str(path)

    def content_fingerprint(self) -> str:
        files = [path for files in self._files.values() for path in files.values()]
        settings = (
            sorted(self.units.items()),
            sorted(self.ignore),
            self.period,
            self.photometry_columns,
        )
        return f"{hash_files([self.table_path, *files])}, {settings}"

    def _read_rows(self) -> "Table":
        rows = read_table(inside(self.root, self.table_path), _TEXT_COLUMNS)
        if "id" not in rows.colnames:
            raise DataError(
                f"{self.table_path}: lacks the column 'id'. {suggest('id', rows.colnames)}"
            )
        return rows

    @cached_property
    def _ids(self) -> list[str]:
        ids = self._text("id") or []
        for row, star in enumerate(ids):
            if not star or "/" in star or "\\" in star or "\0" in star or star.startswith("."):
                raise DataError(
                    f"{self.table_path}: the id {star!r} in row {row} cannot be part of a file "
                    "name. Use letters, digits, '-', '_' and '.'."
                )
        return ids

    def _text(self, name: str) -> list[str] | None:
        return texts(self._rows, name, self.table_path)

    def _find_files(self, modality: str) -> dict[str, Path]:
        """Star → its file."""
        folder = self.root / modality
        if not folder.is_dir():
            return {}
        found: dict[str, list[Path]] = {}
        other: dict[str, Path] = {}
        for path in sorted(folder.iterdir()):
            if path.suffix.lower() in FORMATS:
                found.setdefault(path.stem, []).append(path)
            else:
                # x.csv.gz and x.txt are meant for x
                other |= {name: path for name in (path.name, path.stem, Path(path.stem).stem)}
        files = {star: found[star][0] for star in self._ids if star in found}
        for star in self._ids:
            if len(found.get(star, [])) > 1:
                names = " and ".join(path.name for path in found[star])
                raise DataError(
                    f"{folder}: star {star!r} has several files: {names}. Keep one of them."
                )
            if star in other and star not in files:
                raise DataError(
                    f"{other[star]}: the format is none of {', '.join(FORMATS)}. Convert or unpack "
                    f"the file of star {star!r}, or move it away."
                )
        if not files:
            raise DataError(
                f"{folder}: no file is named after an id of {self.table_path.name}; the first id "
                f"asks for {self._ids[0] if self._ids else '<id>'}.csv, .ecsv, .fits or .vot."
            )
        return files

    def _make_schemas(self) -> dict[str, Schema]:
        channels = {channel.name: channel for channel, _ in self._columns.values()}
        schemas = {}
        for modality, files in self._files.items():
            if files:
                layout = self._choose_layout(modality)
                if modality == "photometry":
                    layout += tuple(channels[name] for name in self.photometry_columns)
                schemas[modality] = Schema(modality, (_AXIS[modality], "channel"), layout)
        metadata = tuple(c for name, c in channels.items() if name not in self.photometry_columns)
        if metadata:
            schemas["metadata"] = Schema("metadata", ("channel",), metadata)
        if not schemas:
            raise DataError(
                f"{self.root}: holds neither a folder photometry nor spectra, and "
                f"{self.table_path.name} has no columns of numbers. See the layout in the "
                "documentation of StarFolder."
            )
        return schemas

    def _choose_layout(self, modality: str) -> tuple[Channel, ...]:
        """That of the first file which can be read; of the first file where none can."""
        paths = list(self._files[modality].values())
        for path in paths:
            try:
                return _choose_layout(modality, self._open(path).colnames, path)
            except DataError:
                continue
        return _choose_layout(modality, self._open(paths[0]).colnames, paths[0])

    def _read_columns(self) -> dict[str, tuple[Channel, Array]]:
        """Numbers of the table by name: the channel and (stars,) float64."""
        known = (*_TEXT_COLUMNS, *self.ignore)
        names = [name for name in self._rows.colnames if name not in known]
        for name in self.photometry_columns:
            if name not in names and (name, self.period) != ("period", "lomb_scargle"):
                raise DataError(
                    f"{self.table_path}: lacks the column {name!r}, which photometry_columns "
                    f"names. {suggest(name, names)}"
                )
        columns = {name: self._read_column(name) for name in names}
        if self.period == "lomb_scargle" and "period" not in columns:
            columns["period"] = self._with_channel(_PERIOD, np.full(len(self._rows), np.nan))
        return columns

    def _read_column(self, name: str) -> tuple[Channel, Array]:
        values = numbers(
            self._rows, name, self.table_path, "Correct it, or name the column in ignore."
        )
        modality = "photometry" if name in self.photometry_columns else "metadata"
        given = self.units.get(f"{modality}.{name}", self._rows[name].unit)
        if name == "period" and self.period == "lomb_scargle":
            channel = _PERIOD
        elif modality == "photometry" and name in PHOTO_COLUMNS:
            channel = CATALOGUE_PHOTOMETRY.channel(name)
        else:
            return self._with_channel(Channel(name, str(given or "")), values)
        return self._with_channel(channel, values * unit_factor(given, channel, self.table_path))

    def _with_channel(self, channel: Channel, values: Array) -> tuple[Channel, Array]:
        """A column of the table, with whether values of it may be missing."""
        missing = np.isnan(values)
        if channel is _PERIOD and self.period == "lomb_scargle":
            missing &= [star not in self._files["photometry"] for star in self._ids]
        optional = bool(missing.any()) and channel.name not in self.photometry_columns
        return Channel(channel.name, channel.unit, channel.valid_range, optional), values

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
        """(n, channels) of a file."""
        table = self._open(path)
        layout = self.schemas[modality].channels
        if modality == "photometry":
            layout = layout[: len(layout) - len(self.photometry_columns)]
        columns, stated = [], {}
        for channel in layout:
            if channel.name not in table.colnames:
                raise DataError(
                    f"{path}: lacks the column {channel.name!r}, which other {modality} files "
                    f"have; it has {', '.join(table.colnames)}."
                )
            values = numbers(table, channel.name, path)
            given = self.units.get(f"{modality}.{channel.name}", table[channel.name].unit)
            stated[channel.name] = given
            columns.append(values * unit_factor(given, channel, path))
        for name in stated.keys() & {"flux", "magnitude"}:
            if (stated[name] is None) != (stated.get(f"{name}_error", stated[name]) is None):
                raise DataError(
                    f"{path}: of {name} and {name}_error one has a unit and the other none, which "
                    "would leave them on two scales. Give both one, in the file or by units."
                )
        star = np.stack(columns, axis=1)
        Schema(modality, (_AXIS[modality], "channel"), layout).check(star, str(path))
        return star

    def _open(self, path: Path) -> "Table":
        return read_table(inside(self.root, path))

    def _append_columns(self, index: int, curve: Array) -> Array:
        constants = self._row(index, self.photometry_columns, curve)
        for name, value in zip(self.photometry_columns, constants, strict=True):
            if np.isnan(value):
                raise DataError(
                    f"{self.table_path}: column {name!r} is empty for star {self._ids[index]!r}, "
                    "and photometry_columns names it. Fill it, or leave the star out."
                )
        return np.hstack([curve, np.tile(constants, (len(curve), 1))])

    def _row(self, index: int, names: Sequence[str], curve: Array | DataError | None) -> Array:
        """(names,) values of one star, its period filled if that is asked for."""
        values = np.array([self._columns[name][1][index] for name in names])
        if self.period == "lomb_scargle" and "period" in names and curve is not None:
            position = list(names).index("period")
            if np.isnan(values[position]):
                values[position] = self._find_period(self._ids[index], curve)
        return values

    def _find_period(self, star: str, curve: Array | DataError) -> float:
        """[d], computed once a star."""
        if isinstance(curve, DataError):
            raise curve
        if star not in self._periods:
            try:
                self._periods[star] = lomb_scargle_period(*curve[:, :3].T)
            except DataError as error:
                raise DataError(f"{self._files['photometry'][star]}: {error}") from error
        return self._periods[star]


def _choose_layout(modality: str, columns: Sequence[str], path: Path) -> tuple[Channel, ...]:
    for channels in _LAYOUTS[modality]:
        if all(channel.name in columns for channel in channels):
            return channels
    wanted = " or ".join(", ".join(c.name for c in layout) for layout in _LAYOUTS[modality])
    raise DataError(f"{path}: needs the columns {wanted}; it has {', '.join(columns)}.")
