"""Datasets of no domain: a folder of images by class, a table of texts."""

import csv
import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import SPLITS, Dataset, Raw, SampleTable, hash_files
from shared.errors import DataError, suggest
from shared.files import inside
from shared.schema import Channel, Schema
from shared.untrusted import read_bytes

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

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
# Python's own limit of 131,072 characters a cell is less than a genome or a report.
_LONGEST_CELL = 2**31 - 1


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
    """

    name = "image_folder"

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()
        self.source = str(self.root)
        self.schemas = {"image": IMAGE}

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
        return SampleTable(
            ids=[path.relative_to(self.root).as_posix() for _, _, path in self._files],
            labels=[classes.index(c) for _, c, _ in self._files],
            classes=classes,
            splits=[s for s, _, _ in self._files if s] or None,
        )

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
    ) -> None:
        self.path = Path(root).expanduser()
        self.source = str(self.path)
        self.schemas = {"text": TEXT}
        self._names = {"text": text, "label": label, "id": id, "split": split, "group": group}

    @cached_property
    def _columns(self) -> dict[str, list[str]]:
        """Cells of the columns that are used, by role."""
        header, rows = _read_csv(self.path)
        used = {role: name for role, name in self._names.items() if name is not None}
        for role, name in used.items():
            if header.count(name) != 1:
                count = "twice" if name in header else "not at all"
                raise DataError(
                    f"{self.path}: column {name!r} stands {count} in the header. "
                    f"{suggest(name, set(header))} Choose it by data.{role}=COLUMN."
                )
        columns = {role: [row[header.index(name)] for row in rows] for role, name in used.items()}
        # ' cat' is the class 'cat'
        columns |= {r: [cell.strip() for cell in c] for r, c in columns.items() if r != "text"}
        for role in columns.keys() - {"label"}:
            for number, cell in enumerate(columns[role], start=1):
                if not cell.strip():
                    raise DataError(f"{self.path}: row {number}: column {used[role]!r} is empty.")
        for number, cell in enumerate(columns.get("split", []), start=1):
            if cell not in SPLITS:
                raise DataError(
                    f"{self.path}: row {number}: the split is {cell!r}, not one of "
                    f"{', '.join(SPLITS)}. Rename it in the file."
                )
        return columns

    def make_table(self) -> SampleTable:
        columns = self._columns
        labels = columns.get("label")
        classes = tuple(sorted({cell for cell in labels or () if cell.strip()}))
        index = {name: i for i, name in enumerate(classes)}
        return SampleTable(
            ids=columns.get("id") or [str(n) for n in range(1, len(columns["text"]) + 1)],
            labels=None if labels is None else [index.get(cell, -1) for cell in labels],
            classes=classes,
            groups=columns.get("group"),
            splits=columns.get("split"),
        )

    def read(self, index: int) -> Raw:
        return {"text": self._columns["text"][index]}

    def file(self, index: int, modality: str) -> str:
        return f"{self.path}, row {index + 1}"

    def content_fingerprint(self) -> str:
        chosen = ",".join(f"{role}={name}" for role, name in self._names.items())
        return f"{hash_files([self.path])}|{chosen}"


def _read_csv(path: Path) -> tuple[list[str], list[list[str]]]:
    """Header and rows.

    Raises:
        DataError: The file is missing, not UTF-8, cut inside quotes, or has a row of another width.
    """
    if not path.exists():
        raise DataError(f"{path}: there is no such file. Give root=FILE.csv.")
    try:
        text = read_bytes(path).decode("utf-8-sig")
        with _long_cells():
            rows = [row for row in csv.reader(io.StringIO(text, newline=""), strict=True) if row]
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: is not a UTF-8 text file ({error}). Save it as UTF-8.") from error
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
    return header, body


@contextmanager
def _long_cells() -> Iterator[None]:
    """Cells of any length; the limit is the process's, and is put back."""
    limit = csv.field_size_limit(_LONGEST_CELL)
    try:
        yield
    finally:
        csv.field_size_limit(limit)
