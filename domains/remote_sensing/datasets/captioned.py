"""What the datasets of images with captions have in common."""

import logging
import re
from abc import abstractmethod
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from shared.data.captions import CAPTIONS
from shared.data.dataset import Dataset, Raw, SampleTable, hash_files, or_error
from shared.data.image_files import IMAGE, read_image
from shared.data.splits import assign_splits
from shared.errors import DataError
from shared.files import inside
from shared.untrusted import read_json

LARGEST_JSON = 512 * 2**20
"""Bytes of a file of annotations that are read: RSICD's holds 54,605 captions with their words."""
_SCENE = re.compile(r"([A-Za-z]\D*?)_?\d+")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Captioned:
    """One image and what is said of it.

    Attributes:
        file: Path below the folder of the images; it is the sample's id.
        captions: Texts, in the order of the file; none where all were blank.
        split: `train`, `val` or `test`; empty where the file does not say.
        label: Scene class, empty where unknown.
        group: What must not straddle splits; empty: the image.
    """

    file: str
    captions: tuple[str, ...]
    split: str = ""
    label: str = ""
    group: str = ""


class CaptionedImages(Dataset):
    """Images in a folder, each with one or more captions.

    Gives `image`: uint8 (height, width, 3), red, green, blue, 0–255, and `text`: a tuple of the
    captions. An image that is missing or damaged is an error of that sample's `image` alone.

    A subclass gives `entries`.

    Args:
        source: File that names the images, for messages.
        images: The folder.
    """

    evaluator = "remote_sensing"

    def __init__(self, source: Path, images: Path) -> None:
        self.source, self.images = str(source), images
        self.schemas = {"image": IMAGE, "text": CAPTIONS}

    @property
    @abstractmethod
    def entries(self) -> list[Captioned]:
        """The images in their order, each named once; read once."""

    @property
    def caption_counts(self) -> Sequence[int]:
        """One where all captions of an image were blank: its row says so when it is read."""
        return [max(1, len(entry.captions)) for entry in self.entries]

    def make_table(self) -> SampleTable:
        entries = self.entries
        splits = [entry.split for entry in entries]
        groups = [entry.group or entry.file for entry in entries]
        return SampleTable(
            ids=[entry.file for entry in entries],
            groups=groups,
            splits=splits if all(splits) else None,
            **labels_of([entry.label for entry in entries]),
        )

    def read(self, index: int) -> Raw:
        return self.read_only(index, self.schemas)

    def read_only(self, index: int, modalities: Collection[str]) -> Raw:
        entry = self.entries[index]
        raw: dict[str, Any] = {}
        if "image" in modalities:
            path = self.images / entry.file
            raw["image"] = or_error(lambda: read_image(inside(self.images, path)))
        if "text" in modalities:
            raw["text"] = entry.captions
        return raw

    def file(self, index: int, modality: str) -> str:
        return self.source if modality == "text" else str(self.images / self.entries[index].file)

    def content_fingerprint(self) -> str:
        texts = "\x1f".join("\x1e".join(entry.captions) for entry in self.entries)
        return f"{hash_files([self.images / e.file for e in self.entries])}|{texts}"


def labels_of(names: Sequence[str]) -> dict[str, Any]:
    """Arguments of a `SampleTable`: labels and classes, from the class of each sample."""
    classes = tuple(sorted({name for name in names if name}))
    index = {name: i for i, name in enumerate(classes)}
    return {"labels": [index.get(name, -1) for name in names], "classes": classes}


def scene_of(file: str) -> str:
    """Scene class in a file name (`rsicd_images/airport_61.jpg` → `airport`), in lower case; empty
    where there is only a number."""
    match = _SCENE.fullmatch(PurePosixPath(file).stem)
    return match[1].lower() if match else ""


def without_blanks(entries: Sequence[Captioned], source: Path) -> list[Captioned]:
    """Entries without blank captions, whose number is logged: the first release of RSITMD had some
    (its README, news of 2021-10-28)."""
    kept = [replace(e, captions=tuple(c for c in e.captions if c.strip())) for e in entries]
    total = sum(len(entry.captions) for entry in entries)
    if blank := total - sum(len(entry.captions) for entry in kept):
        _log.warning("%s: left out %d blank captions of %d", source, blank, total)
    return kept


def with_validation(entries: Sequence[Captioned]) -> list[Captioned]:
    """Entries with a validation split: where a file names `train` images and no `val`, the images
    of `train` which a hash of the group chooses (about 15 %) become `val`."""
    splits = {entry.split for entry in entries}
    if "val" in splits or "train" not in splits:
        return list(entries)
    groups = [entry.group or entry.file for entry in entries]
    chosen = assign_splits(groups, np.zeros(len(groups), np.int64)) == "val"
    return [
        replace(entry, split="val") if entry.split == "train" and held_out else entry
        for entry, held_out in zip(entries, chosen, strict=True)
    ]


def check_names(entries: Sequence[Captioned], source: Path) -> None:
    """Hold that every image has a name, and no two the same.

    Raises:
        DataError: One has none, or that of another.
    """
    seen: set[str] = set()
    for number, entry in enumerate(entries):
        if not entry.file.strip():
            raise DataError(f"{source}: the image {number} (from 0) has an empty name.")
        if entry.file in seen:
            raise DataError(
                f"{source}: the image {entry.file!r} stands more than once. Keep one of its "
                "entries, with all captions."
            )
        seen.add(entry.file)


def find(root: Path, names: Sequence[str], chosen: str | None, setting: str) -> Path:
    """A file or folder below the root: the one the user chose, else the first of the usual names
    that is there.

    Raises:
        DataError: There is none, or it leads out of the root.
    """
    for name in (chosen,) if chosen else names:
        if (root / name).exists():
            return inside(root, root / name)
    if not root.exists():
        raise DataError(f"{root}: there is no such folder. Give data.root=FOLDER.")
    raise DataError(
        f"{root}: has no {chosen or ' or '.join(names)}. Name what is there by data.{setting}=NAME."
    )


def read_records(path: Path, key: str) -> list[dict[str, Any]]:
    """The list of mappings under a key of a JSON file.

    Raises:
        DataError: The file is missing or damaged, or there is no such list.
    """
    records = read_json(path, LARGEST_JSON).get(key)
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise DataError(f"{path}: {key!r} is no list of objects. Is it the file of annotations?")
    return records


def text(record: Any, key: str, where: str) -> str:
    """A text of a JSON object.

    Raises:
        DataError: It is missing, no text, or holds half a character (a lone surrogate).
    """
    value = field(record, key, str, where)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{where}: {key!r} is no valid text ({error.reason}).") from error
    return str(value)


def field(record: Any, key: str, kind: type, where: str) -> Any:
    """A value of a JSON object that has to be of a kind.

    Raises:
        DataError: It is missing or of another kind.
    """
    value = record.get(key) if isinstance(record, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool) is not (kind is bool):
        raise DataError(f"{where}: {key!r} is missing or of the wrong kind ({value!r:.80}).")
    return value
