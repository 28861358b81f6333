"""Datasets of no domain: a folder of images by class, a table of texts."""

import io
import logging
import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.data.csv_table import CsvTable, read_csv
from shared.data.dataset import SPLITS, Dataset, Raw, SampleTable, hash_files
from shared.errors import ConfigError, DataError
from shared.files import inside
from shared.schema import Channel, Schema
from shared.untrusted import read_bytes

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

_T = TypeVar("_T")

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
RGB = tuple(Channel(name, valid_range=(0, 255)) for name in ("red", "green", "blue"))
IMAGE = Schema("image", ("height", "width", "channel"), RGB, "uint8")
TEXT = Schema("text", (), (), "str")

# Only these decoders are tried: Pillow has others that start external programs.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
# Pillow's modes of at most 8 bits a channel whose conversion to RGB keeps the values' meaning.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_LAYOUTS = "root/<class>/<image> or root/{train,val,test}/<class>/<image>"
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _STRIP_BYTE_COUNTS = 258, 277, 279  # tags of TIFF 6.0
_SAMPLE_FORMAT, _SIGNED = 339, 2
_BMP_HEADER = b"\x28\0\0\0"  # the common one, after which nothing follows the pixels
# what Pillow logs of a broken file is in the error that it raises, too
logging.getLogger("PIL").addHandler(logging.NullHandler())


class ImageFolder(Dataset):
    """Images in one folder a class: `root/<class>/<image>`, split by a hash of the id, or
    `root/{train,val,test}/<class>/<image>`, split as they lie.

    Gives the modality `image`: uint8 (height, width, 3), red, green, blue, 0–255. Grey and palette
    images are converted to RGB, CMYK and YCbCr by Pillow's formulas without a colour profile;
    transparency is dropped. The EXIF orientation is applied: an image stands as viewers show it.
    Files of more than 8 bits a channel are refused, since squeezing them is a scientific choice,
    and so are files of several pages.

    Files with other suffixes than `IMAGE_SUFFIXES` and hidden ones are ignored.

    Args:
        root: The folder.
        metadata: A CSV file that says more of the images: its column `file` names each by its path
            below the root (`<class>/<image>`); rows of other files are ignored.
        group: Column of it: what must not straddle splits (scene, patient).
        targets: Columns of numbers to predict, empty where unknown.
        tags: Columns of 1 (yes) and 0 (no), empty where unknown; an image may have several.
        subgroups: Columns by which scores are told apart (camera), empty where unknown.

    Raises:
        ConfigError: Columns without a file that holds them.
    """

    name = "image_folder"

    def __init__(
        self,
        root: str,
        metadata: str | None = None,
        group: str | None = None,
        targets: Sequence[str] = (),
        tags: Sequence[str] = (),
        subgroups: Sequence[str] = (),
    ) -> None:
        self.root = Path(root).expanduser()
        self.source = str(self.root)
        self.schemas = {"image": IMAGE}
        self._metadata = None if metadata is None else Path(metadata).expanduser()
        self._columns = _Columns(group, tuple(targets), tuple(tags), tuple(subgroups))
        if self._columns and self._metadata is None:
            raise ConfigError(
                "data.group, targets, tags and subgroups are columns of a table: name it by "
                "data.metadata=FILE.csv."
            )

    @cached_property
    def _files(self) -> list[tuple[str | None, str, Path]]:
        """Split (None where the folders say none), class and path of every image."""
        folders = _folders(self.root)
        if not folders:
            raise DataError(f"{self.root}: holds no folder. The layout is {_LAYOUTS}.")
        splits = [folder for folder in folders if folder.name in SPLITS]
        if not splits:
            return [(None, c.name, path) for c in folders for path in _images(c)]
        if len(splits) < len(folders):
            other = ", ".join(f.name for f in folders if f not in splits)
            raise DataError(
                f"{self.root}: holds {', '.join(f.name for f in splits)} beside {other}; the "
                f"layout is {_LAYOUTS}. Rename {other}, or move it away."
            )
        return [(s.name, c.name, path) for s in splits for c in _folders(s) for path in _images(c)]

    def make_table(self) -> SampleTable:
        classes = tuple(sorted({c for _, c, _ in self._files}))
        ids = [path.relative_to(self.root).as_posix() for _, _, path in self._files]
        return SampleTable(
            ids=ids,
            labels=[classes.index(c) for _, c, _ in self._files],
            classes=classes,
            splits=[s for s, _, _ in self._files if s] or None,
            **self._known_of(ids),
        )

    def _known_of(self, ids: Sequence[str]) -> dict[str, Any]:
        """Groups, targets, tags and subgroups of the images, in their order."""
        if self._metadata is None:
            return {}
        table = read_csv(self._metadata, "data.metadata")
        files = table.texts("file", "metadata=FILE.csv")
        row = {name: i for i, name in enumerate(files)}
        if len(row) < len(files):
            twice = next(name for name, n in Counter(files).items() if n > 1)
            raise DataError(f"{self._metadata}: the file {twice!r} stands more than once.")
        for name in ids:
            if name not in row:
                raise DataError(f"{self._metadata}: column 'file' does not name {name!r}.")
        return self._columns.read(table, [row[name] for name in ids])

    def read(self, index: int) -> Raw:
        return {"image": read_image(inside(self.root, self._files[index][2]))}

    def file(self, index: int, modality: str) -> str:
        return str(self._files[index][2])

    def content_fingerprint(self) -> str:
        return hash_files([path for _, _, path in self._files])


def read_image(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) array of red, green and blue, converted as `ImageFolder` says.

    Raises:
        DataError: Not a whole image of a known format, more than 8 bits a channel, several pages,
            or so large when decoded that Pillow takes it for a decompression bomb.
    """
    from PIL import Image, ImageOps

    content = read_bytes(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tags, and of sizes that are not yet too large
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _check_image(image, path, content)
                image.verify()  # the check sums of PNG, of which decoding leaves out some
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                upright = ImageOps.exif_transpose(image)
                if image.mode in ("P", "PA"):
                    upright = upright.convert("RGBA")  # resolves the palette's transparent entries
                return np.array(upright.convert("RGB"))
    except Image.DecompressionBombError as error:
        raise DataError(f"{path}: {error} Scale it down or cut it into tiles.") from error
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise almost any kind on broken files
        raise DataError(
            f"{path}: is not a whole {', '.join(_FORMATS)} image ({error}). Get it anew, or remove "
            "it."
        ) from error


def _check_image(image: "ImageFile", path: Path, content: bytes) -> None:
    if image.mode not in _MODES or _bits(image) > 8:
        raise DataError(
            f"{path}: is an image of mode {image.mode} with more than 8 bits a channel, or with "
            "other channels than grey or colours. Scale it to 8-bit RGB yourself: which values "
            "become 0 and 255 is a choice."
        )
    if image.format == "TIFF" and _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ()):  # type: ignore[attr-defined]
        raise DataError(f"{path}: holds signed numbers, which are no colours. Convert it yourself.")
    if (rows := _rows_stored(image, content)) != image.height:
        raise DataError(
            f"{path}: holds {rows} rows of pixels, where its header states {image.height}, which "
            "is damaged or not of this image. Get it anew."
        )
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":  # a camera's JPEG with a preview is one picture
        raise DataError(f"{path}: holds {pages} pages or frames. Save each one as a file.")


def _bits(image: "ImageFile") -> int:
    """Bits a channel in the file: Pillow opens 16-bit colour as mode RGB without a word."""
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))  # type: ignore[attr-defined]
    deep = image.format == "PNG" and any(";16" in str(tile[3]) for tile in image.tile)
    return 16 if deep else 8


def _rows_stored(image: "ImageFile", content: bytes) -> int:
    """Rows of pixels that an uncompressed image holds. Pillow reads as many as the header states:
    it leaves out the others, and fills in what a TIFF lacks, both without a word."""
    if image.format == "BMP" and content[14:18] == _BMP_HEADER:
        tile: Any = image.tile[0]
        if tile.codec_name == "raw":
            stored = int((len(content) - tile.offset) // tile.args[1])
            return max(stored, image.height)  # fewer are an error of Pillow's
    if image.format == "TIFF" and image.info.get("compression") == "raw":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if _STRIP_BYTE_COUNTS in tags:
            bits = image.width * tags.get(_SAMPLES_PER_PIXEL, 1) * _bits(image)
            return int(sum(tags[_STRIP_BYTE_COUNTS]) // ((bits + 7) // 8))
    return image.height


def _folders(folder: Path) -> list[Path]:
    """Folders in a folder, sorted, hidden ones left out."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Give root=<folder of images>.")
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _images(folder: Path) -> list[Path]:
    """The images of one class.

    Raises:
        DataError: There is none, or there are folders where images should be.
    """
    if inner := _folders(folder):
        raise DataError(
            f"{folder}: is taken for a class, but holds the folder {inner[0].name}. The layout is "
            f"{_LAYOUTS}."
        )
    files = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    images = [p for p in files if p.suffix.lower() in IMAGE_SUFFIXES]
    if not images:
        raise DataError(
            f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)}). Remove it, or put images in."
        )
    return images


class TextTable(Dataset):
    """Texts in a CSV file (RFC 4180, UTF-8, a header line), one a row.

    Gives the modality `text`: str. Rows are counted from 1, the header not included.

    Args:
        root: The file.
        text: Column of the texts; an empty one is an error.
        label: Column of the class names, empty where unknown; None: no labels.
        id: Column of unique names; None: the row number.
        split: Column of `train`, `val`, `test`; None: stratified by a hash of the group.
        group: Column of what must not straddle splits (patient, document); None: the row.
        targets: Columns of numbers to predict, empty where unknown.
        tags: Columns of 1 (yes) and 0 (no), empty where unknown; a row may have several.
        subgroups: Columns by which scores are told apart (hospital), empty where unknown.
    """

    name = "text_table"

    def __init__(
        self,
        root: str,
        text: str = "text",
        label: str | None = "label",
        id: str | None = None,
        split: str | None = None,
        group: str | None = None,
        targets: Sequence[str] = (),
        tags: Sequence[str] = (),
        subgroups: Sequence[str] = (),
    ) -> None:
        self.path = Path(root).expanduser()
        self.source = str(self.path)
        self.schemas = {"text": TEXT}
        self._names = {"text": text, "label": label, "id": id, "split": split, "group": group}
        self._columns = _Columns(group, tuple(targets), tuple(tags), tuple(subgroups))

    @cached_property
    def _csv(self) -> CsvTable:
        return read_csv(self.path)

    @cached_property
    def _texts(self) -> list[str]:
        texts = self._csv.cells(name := str(self._names["text"]), "text=COLUMN")
        for number, text in enumerate(texts, start=1):
            if not text.strip():
                raise DataError(f"{self.path}: row {number}: column {name!r} is empty.")
        return texts

    def make_table(self) -> SampleTable:
        texts, table = self._texts, self._csv
        label, ids, split = (self._names[role] for role in ("label", "id", "split"))
        labels = None if label is None else table.texts(label, "label=COLUMN", required=False)
        classes = tuple(sorted({cell for cell in labels or () if cell}))
        index = {name: i for i, name in enumerate(classes)}
        return SampleTable(
            ids=[str(n) for n in range(1, len(texts) + 1)]
            if ids is None
            else table.texts(ids, "id=COLUMN"),
            labels=None if labels is None else [index.get(cell, -1) for cell in labels],
            classes=classes,
            splits=None if split is None else table.choices(split, "split=COLUMN", SPLITS),
            **self._columns.read(table),
        )

    def read(self, index: int) -> Raw:
        return {"text": self._texts[index]}

    def file(self, index: int, modality: str) -> str:
        return f"{self.path}, row {index + 1}"

    def content_fingerprint(self) -> str:
        chosen = ",".join(f"{role}={name}" for role, name in self._names.items())
        return f"{hash_files([self.path])}|{chosen}"


@dataclass(frozen=True)
class _Columns:
    """Which columns of a table say what is known of the samples, beside their classes."""

    group: str | None
    targets: tuple[str, ...]
    tags: tuple[str, ...]
    subgroups: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.group is not None or any((self.targets, self.tags, self.subgroups))

    def read(self, table: CsvTable, rows: Sequence[int] | None = None) -> dict[str, Any]:
        """Arguments of a `SampleTable`, of these rows in their order (None: all)."""
        order = range(len(table.rows)) if rows is None else rows

        def ordered(cells: Sequence[_T]) -> list[_T]:
            return [cells[row] for row in order]

        group = None if self.group is None else ordered(table.texts(self.group, "group=COLUMN"))
        return {
            "groups": group,
            "targets": {n: ordered(table.numbers(n, "targets=[COLUMN]")) for n in self.targets},
            "tags": {n: ordered(table.tags(n, "tags=[COLUMN]")) for n in self.tags},
            "subgroups": {
                n: ordered(table.texts(n, "subgroups=[COLUMN]", required=False))
                for n in self.subgroups
            },
        }
