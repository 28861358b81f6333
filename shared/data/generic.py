"""Datasets of no domain: a folder of images by class, a table of texts."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from shared.data.csv_table import CsvTable, read_csv
from shared.data.dataset import SPLITS, Dataset, Raw, SampleTable, hash_files
from shared.data.image_files import IMAGE, IMAGE_SUFFIXES, read_image
from shared.errors import ConfigError, DataError
from shared.files import inside, readable
from shared.schema import Schema

_T = TypeVar("_T")

TEXT = Schema("text", (), (), "str")

_LAYOUTS = "root/<class>/<image> or root/{train,val,test}/<class>/<image>"


class ImageFile(NamedTuple):
    """One image of a folder of images.

    Attributes:
        split: That the folders state; None where they do not.
        class_name: None where it is not known.
        path: Of the file.
    """

    split: str | None
    class_name: str | None
    path: Path


class ImageFolder(Dataset):
    """Images in one folder a class: `root/<class>/<image>`, split by a hash of the id, or
    `root/{train,val,test}/<class>/<image>`, split as they lie.

    Gives the modality `image`: uint8 (height, width, 3), red, green, blue, 0–255. Grey and palette
    images are converted to RGB, CMYK and YCbCr by Pillow's formulas without a colour profile;
    transparency is dropped. The EXIF orientation is applied: an image stands as viewers show it.
    Files of more than 8 bits a channel are refused, since squeezing them is a scientific choice,
    and so are files of several pages.

    Files with other suffixes than `suffixes` and hidden ones are ignored. Links to folders are not
    followed inside a class, nor where they lead back to a folder that they lie in: each counts as a
    sample that cannot be read.

    Attributes:
        suffixes: Of the files that are images.

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
    paths = ("root", "metadata")
    suffixes: tuple[str, ...] = IMAGE_SUFFIXES

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
    def _files(self) -> list[ImageFile]:
        folders = _folders(self.root)
        if not folders:
            raise DataError(f"{self.root}: holds no folder. The layout is {_LAYOUTS}.")
        splits = [folder for folder in folders if folder.name in SPLITS]
        if not splits:
            return self._files_by_class(self.root, None)
        if len(splits) < len(folders):
            other = ", ".join(f.name for f in folders if f not in splits)
            raise DataError(
                f"{self.root}: holds {', '.join(f.name for f in splits)} beside {other}; the "
                f"layout is {_LAYOUTS}. Rename {other}, or move it away."
            )
        return [file for folder in splits for file in self._files_by_class(folder, folder.name)]

    def _files_by_class(self, root: Path, split: str | None) -> list[ImageFile]:
        files: list[ImageFile] = []
        for folder in _folders(root):
            if _leads_back(folder):
                files.append(ImageFile(split, None, folder))
            else:
                images = find_images(folder, self.suffixes)
                files += [ImageFile(split, readable(folder.name), path) for path in images]
        return files

    def make_table(self) -> SampleTable:
        classes = tuple(sorted({file.class_name for file in self._files if file.class_name}))
        index: dict[str | None, int] = {name: i for i, name in enumerate(classes)}
        ids = [readable(file.path.relative_to(self.root).as_posix()) for file in self._files]
        return SampleTable(
            ids=ids,
            labels=[index.get(file.class_name, -1) for file in self._files] if classes else None,
            classes=classes,
            splits=[file.split for file in self._files if file.split] or None,
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
        return {"image": read_image(inside(self.root, self._files[index].path))}

    def file(self, index: int, modality: str) -> str:
        return str(self._files[index].path)

    def content_fingerprint(self) -> str:
        return hash_files([file.path for file in self._files])


def _folders(folder: Path) -> list[Path]:
    """Folders in a folder, sorted, hidden ones left out."""
    if not folder.is_dir():
        raise DataError(f"{folder}: there is no such folder. Give root=<folder of images>.")
    return sorted(p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))


def _leads_back(folder: Path) -> bool:
    """Whether a folder is a link to one that it lies in: who follows it never ends."""
    return folder.is_symlink() and folder.parent.resolve().is_relative_to(folder.resolve())


def find_images(folder: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> list[Path]:
    """The images of one folder, sorted, and links to folders, which no reader can read.

    Raises:
        DataError: There is none, or there are folders where images should be.
    """
    files = sorted(p for p in folder.iterdir() if not p.name.startswith("."))
    inner = [p for p in files if p.is_dir()]
    if real := [p for p in inner if not p.is_symlink()]:
        raise DataError(
            f"{folder}: is taken for a class, but holds the folder {real[0].name}. The layout is "
            f"{_LAYOUTS}."
        )
    images = [p for p in files if p in inner or p.suffix.lower() in suffixes]
    if not images:
        raise DataError(
            f"{folder}: holds no image ({', '.join(suffixes)}). Remove it, or put images in."
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
