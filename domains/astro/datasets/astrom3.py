"""AstroM3's variable stars as published (AstroMLCore/AstroM3Dataset; arXiv:2411.08842)."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np

from domains.astro.datasets.fits_files import open_fits
from domains.astro.datasets.members import (
    find_members,
    parse_csv,
    read_text,
    to_numbers,
)
from domains.astro.schemas import (
    CATALOGUE_PHOTOMETRY,
    META_COLUMNS,
    METADATA,
    PHOTO_COLUMNS,
    SPECTRA,
)
from shared.data.dataset import SPLITS, Dataset, Raw, SampleTable, hash_files, or_error
from shared.errors import DataError, first_line, suggest
from shared.files import inside
from shared.schema import Array
from shared.untrusted import is_gzip, read_bytes, unpack_gzip

_TEXT = ("name", "spec_filename", "target")
_COLUMNS = (*PHOTO_COLUMNS, *META_COLUMNS)
_DAT_COLUMNS = ("HJD", "MAG", "MAG_ERR", "FLUX", "FLUX_ERR")
_DAT_HEADER_LINES = 2


class AstroM3(Dataset):
    """ASAS-SN variable stars with a LAMOST spectrum and catalogue columns, in published splits.

    Layout::

        photometry.zip                     or the extracted folder photometry; <name>.dat anywhere
                                           inside, the name without its spaces
        spectra/<class>/<spec_filename>    LAMOST FITS, possibly gzipped
        splits/<sub>/<seed>/{train,val,test}.csv
                                           name, spec_filename, target (class) and 38 columns
        splits/<sub>/<seed>/info.json      their mean and deviation, if there

    - `photometry` (n, 7): HJD [d], V-band flux [mJy], its error [mJy]; then amplitude [mag], period
      [d], lksl_statistic and rfr_score of the star, from the catalogue, on every row.
    - `spectra` (n, 3): wavelength [Angstrom], relative flux, inverse variance.
    - `metadata` (34,): Gaia, 2MASS and WISE columns, raw.

    Classes are in alphabetical order. A spectrum in another folder than that of its class is found
    by its file name.

    Args:
        root: The folder with this layout.
        sub: Share of the training set: `full`, `sub50`, `sub25` or `sub10`.
        seed: Of the split.

    Attributes:
        statistics_path: `info.json` of the split; None where it is not there.

    Raises:
        DataError: A file or column is missing, damaged, or a cell is empty or no number.
    """

    name = "astrom3"
    schemas = {  # noqa: RUF012
        "photometry": CATALOGUE_PHOTOMETRY,
        "spectra": SPECTRA,
        "metadata": METADATA,
    }

    def __init__(self, root: str, sub: str = "full", seed: int = 42) -> None:
        self.root, self.sub, self.seed = Path(root), sub, seed
        self._folder = self.root / "splits" / sub / str(seed)
        self.source = str(self._folder)
        if not self._folder.is_dir():
            found = sorted(
                p.relative_to(self.root / "splits").as_posix()
                for p in (self.root / "splits").glob("*/*")
                if p.is_dir()
            )
            there = f"There are {', '.join(found)}." if found else "Give root=<the folder>."
            raise DataError(f"{self._folder}: no such folder; it should hold train.csv. {there}")
        info = self._folder / "info.json"
        self.statistics_path = info if info.is_file() else None
        self._light_curves = find_members(self.root, "photometry", ".dat")

    def make_table(self) -> SampleTable:
        names, _, targets = zip(*self._texts, strict=True)
        classes = tuple(sorted(set(targets)))
        return SampleTable(
            ids=list(names),
            labels=[classes.index(target) for target in targets],
            classes=classes,
            splits=self._splits,
        )

    def read(self, index: int) -> Raw:
        name, spectrum, target = self._texts[index]
        return {
            "photometry": or_error(self._read_light_curve, name, index),
            "spectra": or_error(self._read_spectrum, spectrum, target),
            "metadata": or_error(self._read_columns, index, slice(len(PHOTO_COLUMNS), None)),
        }

    def file(self, index: int, modality: str) -> str:
        name, spectrum, target = self._texts[index]
        if modality == "photometry":
            member = self._dat.get(_stem(name), f"{_stem(name)}.dat")
            return self._light_curves.where(member)
        if modality == "spectra":
            found = or_error(self._find_spectrum, spectrum, target)
            return str(found if isinstance(found, Path) else self.root / "spectra" / spectrum)
        return str(self._folder / f"{self._splits[index]}.csv")

    def content_fingerprint(self) -> str:
        """Hash of the tables; of the many files of stars, names, sizes and times only."""
        digest = hashlib.sha256()
        for path in (*self._light_curves.paths(), *sorted(self._spectra.values())):
            try:
                status = path.stat()
                state = f"{status.st_size}:{status.st_mtime_ns}"
            except OSError:  # reading it tells what is wrong
                state = "unreadable"
            digest.update(f"{path.relative_to(self.root)}:{state}\x1f".encode())
        return f"{hash_files(self._tables)}, {digest.hexdigest()}"

    @property
    def _tables(self) -> list[Path]:
        return [self._folder / f"{split}.csv" for split in SPLITS]

    @cached_property
    def _rows(self) -> list[tuple[str, list[str], Array | DataError]]:
        """Split, texts and numbers of every star, or why it has no numbers."""
        rows = []
        for split, path in zip(SPLITS, self._tables, strict=True):
            cells = parse_csv(read_text(self.root, path), (*_TEXT, *_COLUMNS), str(path))
            for number, row in enumerate(cells, start=1):
                texts = [cell.strip() for cell in row[: len(_TEXT)]]
                for column, text in zip(_TEXT, texts, strict=True):
                    if not text:
                        raise DataError(f"{path}, row {number}: {column!r} is empty. Correct it.")
                values = or_error(_row_numbers, row[len(_TEXT) :], f"{path}, row {number}")
                rows.append((split, texts, values))
        if not rows:
            raise DataError(f"{self._folder}: train.csv, val.csv and test.csv have no rows.")
        return rows

    @cached_property
    def _texts(self) -> list[list[str]]:
        return [texts for _, texts, _ in self._rows]

    @cached_property
    def _splits(self) -> list[str]:
        return [split for split, _, _ in self._rows]

    @cached_property
    def _dat(self) -> dict[str, str]:
        """Name without spaces → file."""
        return {Path(name).stem: name for name in self._light_curves.names}

    @cached_property
    def _spectra(self) -> dict[str, Path]:
        """`<class>/<file>` → path of every spectrum, without the ending `.gz`."""
        folder = self.root / "spectra"
        paths = sorted(p for p in folder.rglob("*") if p.name.endswith((".fits", ".fits.gz")))
        if not paths:
            raise DataError(f"{folder}: holds no file *.fits or *.fits.gz. Put spectra/ there.")
        return {f"{p.parent.name}/{_bare(p.name)}": p for p in paths}

    @cached_property
    def _spectra_by_name(self) -> dict[str, list[Path]]:
        found: dict[str, list[Path]] = {}
        for path in self._spectra.values():
            found.setdefault(_bare(path.name), []).append(path)
        return found

    def _read_columns(self, index: int, part: slice) -> Array:
        """Some of a star's 38 numbers, in the order of `_COLUMNS`."""
        values = self._rows[index][2]
        if isinstance(values, DataError):
            raise values
        return values[part]

    def _read_spectrum(self, file_name: str, target: str) -> Array:
        return read_lamost(inside(self.root, self._find_spectrum(file_name, target)))

    def _find_spectrum(self, file_name: str, target: str) -> Path:
        bare = _bare(file_name.replace("\\", "/").split("/")[-1])
        if path := self._spectra.get(f"{target}/{bare}"):
            return path
        paths = self._spectra_by_name.get(bare, [])
        folder = self.root / "spectra"
        if not paths:
            raise DataError(
                f"{folder / target / bare}: no such file, nor is it elsewhere in {folder}. Get it "
                "anew."
            )
        if len(paths) > 1:
            places = " and ".join(str(path.relative_to(folder)) for path in paths)
            raise DataError(f"{folder}: {bare} is there as {places}. Keep one of them.")
        return paths[0]

    def _read_light_curve(self, name: str, index: int) -> Array:
        photo = self._read_columns(index, slice(len(PHOTO_COLUMNS)))
        stem = _stem(name)
        if stem not in self._dat:
            raise DataError(
                f"{self._light_curves.source}: lacks {stem}.dat, the light curve of {name!r}. "
                f"{suggest(stem, self._dat, limit=3)}"
            )
        member = self._dat[stem]
        text = self._light_curves.read(member).decode(errors="replace")
        curve = _parse_dat(text, self._light_curves.where(member))
        return np.hstack([curve, np.tile(photo, (len(curve), 1))])


def _stem(name: str) -> str:
    """Of the light curve of a star."""
    return name.replace(" ", "")


def _bare(name: str) -> str:
    return name.removesuffix(".gz")


def _row_numbers(cells: Sequence[str], where: str) -> Array:
    values = []
    for column, cell in zip(_COLUMNS, cells, strict=True):
        try:
            value = float(cell) if cell.strip() else np.nan
        except ValueError as error:
            raise DataError(
                f"{where}: column {column!r} holds {cell!r} where a number should be. Correct it."
            ) from error
        if not np.isfinite(value):
            raise DataError(
                f"{where}: column {column!r} is missing or not finite ({cell!r}). Fill it in, or "
                "remove the row."
            )
        values.append(value)
    return np.array(values)


def _parse_dat(text: str, where: str) -> Array:
    """(n, 3) HJD, flux and its error of an ASAS-SN table."""
    lines = text.splitlines()
    rows = []
    for number, line in enumerate(lines[_DAT_HEADER_LINES:], start=_DAT_HEADER_LINES + 1):
        cells = line.split()
        if cells and len(cells) != len(_DAT_COLUMNS):
            raise DataError(
                f"{where}, line {number}: {len(cells)} columns, not {len(_DAT_COLUMNS)} "
                f"({', '.join(_DAT_COLUMNS)}); the file may be truncated."
            )
        if cells:
            rows.append([cells[_DAT_COLUMNS.index(name)] for name in ("HJD", "FLUX", "FLUX_ERR")])
    for number, line in enumerate(lines[:_DAT_HEADER_LINES], start=1):
        if _is_data(line):
            raise DataError(
                f"{where}, line {number}: a row of numbers where one of the "
                f"{_DAT_HEADER_LINES} header lines should be."
            )
    if not rows:
        raise DataError(f"{where}: has no observations below its {_DAT_HEADER_LINES} header lines.")
    return to_numbers(rows, where)


def _is_data(line: str) -> bool:
    try:
        return len([float(cell) for cell in line.split()]) == len(_DAT_COLUMNS)
    except ValueError:
        return False


def read_lamost(path: Path) -> Array:
    """(n, 3) wavelength [Angstrom], relative flux and inverse variance of a LAMOST spectrum.

    With one HDU, its image has the flux in row 0 and the inverse variance in row 1, at
    10^(COEFF0 + i COEFF1) Angstrom; with two, the first row of the table in the second holds flux,
    inverse variance and wavelength.

    Raises:
        DataError: It is missing, no FITS file, cut short, or of neither layout.
    """
    content = read_bytes(path)
    if is_gzip(content):
        content = unpack_gzip(content, path)
    try:
        with open_fits(content) as units, np.errstate(all="ignore"):
            if len(units) == 1:
                data, header = units[0].data, units[0].header
                pixels = np.arange(data.shape[-1])
                wavelength = 10 ** (header["COEFF0"] + pixels * header["COEFF1"])
                columns = [wavelength, data[0], data[1]]
            elif len(units) == 2:
                flux, inverse_variance, wavelength = list(units[1].data[0])[:3]
                columns = [wavelength, flux, inverse_variance]
            else:
                raise ValueError(f"{len(units)} HDUs instead of 1 or 2")
            spectrum = np.stack([np.asarray(c, dtype=np.float64) for c in columns], axis=1)
    # astropy raises many kinds of error on broken files, also bare Exception
    except Exception as error:
        raise DataError(
            f"{path}: cannot be read as a LAMOST spectrum ({first_line(error)}). Get it anew."
        ) from error
    if (
        spectrum.ndim != 2
        or not np.isfinite(spectrum[:, 0]).all()
        or not (np.diff(spectrum[:, 0]) > 0).all()
    ):
        raise DataError(
            f"{path}: the wavelengths of a LAMOST spectrum should increase from pixel to pixel. "
            "Get it anew."
        )
    return spectrum
