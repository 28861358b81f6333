"""AstroM3's variable stars, preprocessed (AstroMLCore/AstroM3Processed): Parquet files."""

import json
import re
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from domains.astro.schemas import PROCESSED_METADATA, PROCESSED_PHOTOMETRY, PROCESSED_SPECTRA
from shared.data.dataset import SPLITS, Dataset, Raw, SampleTable, hash_files, or_error
from shared.errors import DataError
from shared.files import inside
from shared.schema import Array
from shared.untrusted import check_growth, check_regular

if TYPE_CHECKING:
    import pyarrow

_MODALITIES = ("photometry", "spectra", "metadata")
_SPLIT_NAMES = {"train": "train", "validation": "val", "val": "val", "test": "test"}
_UNKNOWN: set[int | str | None] = {-1, "", None}
_FILE = re.compile(r"(train|validation|val|test)(-(\d+)-of-(\d+))?(-[0-9a-f]+)?\.parquet")


class AstroM3Processed(Dataset):
    """AstroM3's stars with everything but crop and padding done, in published splits.

    Files `{train,validation,test}-*.parquet` in `root/<config>`, `root/data` or `root` itself, the
    first of these that has any. Columns `photometry` (n rows of 9), `spectra` (3 rows), `metadata`
    (34 values) and `label`; a column `id` or `name`, if there, gives the ids, else they are
    `<split>-<row>`. All values are standardised and have no unit:

    - `photometry` (n, 9): time in 0 … 1, flux, its error, amplitude, period, lksl_statistic,
      rfr_score, log10 MAD, time span [365 d].
    - `spectra` (2575, 3): flux, inverse variance / MAD, log10 MAD at 3850, 3852, … 8998 Angstrom,
      which is the published (3, 2575) transposed. The second is no error and the first no
      wavelength.
    - `metadata` (34,).

    The times were float32 before they were scaled: multiples of 0.25 d. Classes are those of the
    file, in its order; labels without names are their own names. Label -1, an empty
    one or null is unknown.

    One row group is held in memory: reading in order is fast, reading in random order decodes a
    row group for each star.

    Args:
        root: The folder.
        config: `<sub>_<seed>` of the published configurations, a folder in `root`.

    Raises:
        DataError: A file, shard or column is missing or damaged, or a label is out of range.
    """

    name = "astrom3_processed"
    schemas = {  # noqa: RUF012
        "photometry": PROCESSED_PHOTOMETRY,
        "spectra": PROCESSED_SPECTRA,
        "metadata": PROCESSED_METADATA,
    }

    def __init__(self, root: str, config: str = "full_42") -> None:
        self._files = _find_files(Path(root), config)
        self.source = str(self._files[0][1].parent)
        self._group: tuple[tuple[Path, int], pyarrow.Table] | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_group": None}

    def make_table(self) -> SampleTable:
        ids: list[str] = []
        labels: list[int] = []
        splits: list[str] = []
        for split, path in self._files:
            table = _read(path, columns=["label", *self._id_columns])
            given = table[self._id_columns[0]].to_pylist() if self._id_columns else None
            first = splits.count(split)
            for row, value in enumerate(table["label"].to_pylist()):
                if value not in self._label_of:
                    raise DataError(
                        f"{path}, row {row}: label {value!r}, but the file names the "
                        f"{len(self._classes)} classes {', '.join(self._classes)}. Get it anew."
                    )
                labels.append(self._label_of[value])
                ids.append(str(given[row]) if given else f"{split}-{first + row}")
                splits.append(split)
        return SampleTable(ids=ids, labels=labels, classes=self._classes, splits=splits)

    def read(self, index: int) -> Raw:
        path, group, row = self._places[index]
        if self._group is None or self._group[0] != (path, group):
            self._group = (path, group), _read(path, columns=list(_MODALITIES), group=group)
        table = self._group[1]
        where = f"{path}, row {row} of row group {group}"
        return {
            "photometry": or_error(_array, table["photometry"][row], where),
            "spectra": or_error(_spectra, table["spectra"][row], where),
            "metadata": or_error(_array, table["metadata"][row], where),
        }

    def file(self, index: int, modality: str) -> str:
        return str(self._places[index][0])

    def content_fingerprint(self) -> str:
        return hash_files([path for _, path in self._files])

    @cached_property
    def _places(self) -> list[tuple[Path, int, int]]:
        """File, row group and row in it of every sample."""
        places = []
        for _, path in self._files:
            metadata = _open(path).metadata
            for group in range(metadata.num_row_groups):
                rows = metadata.row_group(group).num_rows
                places += [(path, group, row) for row in range(rows)]
        return places

    @cached_property
    def _id_columns(self) -> list[str]:
        """The one column of ids, if every file has it."""
        schemas = [_open(path).schema_arrow for _, path in self._files]
        shared = [c for c in ("id", "name") if all(c in schema.names for schema in schemas)]
        return shared[:1]

    @cached_property
    def _class_names(self) -> tuple[str, ...] | None:
        """Class names by label, as the files state them; None where they do not."""
        stated = {path: _label_names(path) for _, path in self._files}
        first = self._files[0][1]
        for path, names in stated.items():
            if names != stated[first]:
                raise DataError(f"{path}: names other classes than {first}. Get both anew.")
        return stated[first]

    @cached_property
    def _values(self) -> list[int | str]:
        """Known labels of the files, sorted."""
        found = set()
        for _, path in self._files:
            labels = _read(path, columns=["label"])["label"]
            if labels.type.num_fields:  # a list or a mapping
                raise DataError(f"{path}: column 'label' holds {labels.type}, not one label a row.")
            found |= set(labels.unique().to_pylist())
        return sorted(found - _UNKNOWN, key=lambda value: (isinstance(value, str), value))

    @property
    def _classes(self) -> tuple[str, ...]:
        return self._class_names or tuple(map(str, self._values))

    @cached_property
    def _label_of(self) -> dict[int | str | None, int]:
        """Label in the file → index of the class."""
        known = range(len(self._class_names)) if self._class_names else self._values
        return {value: i for i, value in enumerate(known)} | dict.fromkeys(_UNKNOWN, -1)


def _find_files(root: Path, config: str) -> list[tuple[str, Path]]:
    """Split and path of every file, in the order of splits and shards.

    Raises:
        DataError: There is none, a shard is missing, or a file has not the columns or leads out
            of the root.
    """
    for folder in (root / config, root / "data", root):
        matches = [
            (match, path)
            for path in sorted(folder.glob("*.parquet"))
            if (match := _FILE.fullmatch(path.name))
        ]
        if matches:
            break
    else:
        raise DataError(
            f"{root}: holds no train-*.parquet, validation-*.parquet or test-*.parquet, nor do "
            f"{config} and data inside it. Give root=<their folder>."
        )
    files = [(_SPLIT_NAMES[match[1]], path) for match, path in matches]
    for match, path in matches:
        inside(root, path)
        shards = [m for m, _ in matches if m[1] == match[1]]
        if match[4] and len(shards) != int(match[4]):
            raise DataError(
                f"{path.parent}: holds {len(shards)} of the {int(match[4])} files {match[1]}-*. "
                "Get the others, too."
            )
        names = _open(path).schema_arrow.names
        if lacking := [name for name in (*_MODALITIES, "label") if name not in names]:
            raise DataError(
                f"{path}: lacks the column {', '.join(lacking)}; it has {', '.join(names)}."
            )
    return sorted(files, key=lambda file: (SPLITS.index(file[0]), file[1]))


def _open(path: Path) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    check_regular(path)
    try:
        file = pq.ParquetFile(path, page_checksum_verification=True)
        groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
        assert file.schema_arrow.names is not None  # decodes them
    except (pa.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: is not a whole Parquet file ({error}). Get it anew.") from error
    check_growth(path, sum(group.total_byte_size for group in groups))
    return file


def _read(path: Path, columns: list[str], group: int | None = None) -> "pyarrow.Table":
    """Some columns of a file, or of one of its row groups."""
    import pyarrow as pa

    file = _open(path)
    try:
        table = file.read(columns) if group is None else file.read_row_group(group, columns)
        table.validate(full=True)
        return table
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: is damaged inside ({error}). Get it anew.") from error


def _label_names(path: Path) -> tuple[str, ...] | None:
    """Names of the integer labels, as the `datasets` library writes them beside the columns."""
    text = (_open(path).schema_arrow.metadata or {}).get(b"huggingface")
    if text is None:
        return None
    try:
        names = json.loads(text)["info"]["features"]["label"].get("names")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(
            f"{path}: its description of the columns is damaged ({type(error).__name__}: {error}). "
            "Get it anew."
        ) from error
    return tuple(map(str, names)) if isinstance(names, list) else None


def _array(scalar: Any, where: str) -> Array:
    """Lists of numbers, of any kind of list, as float64; NaN where one is null.

    Raises:
        DataError: They are no numbers, or of unequal length.
    """
    try:
        values: Array = np.array(scalar.as_py(), dtype=np.float64)
    except (ValueError, TypeError) as error:
        raise DataError(f"{where}: not a table of numbers ({error}). Get the file anew.") from error
    return values


def _spectra(scalar: Any, where: str) -> Array:
    """(points, 3) of the published (3, points)."""
    values = _array(scalar, where)
    if values.ndim != 2 or len(values) != len(PROCESSED_SPECTRA.channels):
        raise DataError(
            f"{where}: spectra have shape {values.shape}, not (3, points): flux, inverse variance, "
            "log10 MAD. Spectra that are not processed are read by data=astrom3."
        )
    return values.T
