"""RS5M (Zhang et al. 2024, arXiv 2306.11300): five million images with a text each, in shards."""

import tarfile
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Dataset, Raw, SampleTable, or_error
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE, decode_image
from shared.errors import DataError
from shared.files import inside, readable
from shared.untrusted import check_regular, check_size

_IMAGE, _CAPTION = "img_content", "caption"
_LARGEST = 256 * 2**20
"""Bytes of one member that are read."""
_SHARDS = "{pub11,rs3}-{train,val}-0000.tar"


@dataclass
class _Entry:
    """Where the members of one sample lie in a shard.

    Attributes:
        path: The shard.
        key: What the names of its members begin with.
        places: Ending of a member's name → offset and size in bytes.
        problem: Why nothing of it can be read; empty where it can.
    """

    path: Path
    key: str
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    problem: str = ""

    @property
    def is_whole(self) -> bool:
        """Whether no member that is read is missing or cut short."""
        ends = [offset + size for offset, size in self.places.values()]
        return {_IMAGE, _CAPTION} <= self.places.keys() and max(ends) <= self.path.stat().st_size


class RS5M(Dataset):
    """The tars of RS5M, `{pub11,rs3}-{train,val}-0000.tar` and so on, read in place.

    A sample has the members `<key>.img_content` (an encoded image), `<key>.caption` (UTF-8) and
    `<key>.img_name` (not read). Gives `image`: uint8 (height, width, 3), red, green, blue, 0–255,
    and `text`: str. The split is in the name of the file.

    When it is made ready, the headers of all members are read once; their places are kept in
    memory, and nothing is unpacked. Where a tar is cut short or one of its headers is damaged, the
    sample at that place and all behind it are one sample, `<tar>/rest`, that cannot be read.

    The set's other form, `*_intermediate.csv` with the name of an image in the first column and its
    caption in the second, is read by the dataset `caption_csv`.

    Args:
        root: Folder of the tars; any number of those published.

    Raises:
        DataError: There is no tar, one has no split in its name, or holds a link or a device.
    """

    name = "rs5m"
    evaluator = "remote_sensing"

    def content(self, raw: Raw) -> Raw:
        """The image: a copy of it is one whatever its caption is."""
        return {"image": raw["image"]} if "image" in raw else raw

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()
        self.source = str(self.root)
        self.schemas = {"image": IMAGE, "text": TEXT}

    @cached_property
    def _paths(self) -> list[Path]:
        if not self.root.is_dir():
            raise DataError(f"{self.root}: there is no such folder. Give data.root=FOLDER.")
        paths = sorted(self.root.glob("*.tar"))
        if not paths:
            raise DataError(f"{self.root}: holds no tar. The files are named {_SHARDS}.")
        for path in paths:
            check_regular(inside(self.root, path))
        return paths

    @cached_property
    def _entries(self) -> list[_Entry]:
        return [entry for path in self._paths for entry in _index(path)]

    def make_table(self) -> SampleTable:
        return SampleTable(
            ids=[f"{entry.path.stem}/{entry.key}" for entry in self._entries],
            splits=[_split_of(entry.path) for entry in self._entries],
        )

    def read(self, index: int) -> Raw:
        entry = self._entries[index]
        if entry.problem:
            raise DataError(f"{entry.path}: {entry.problem} Get it anew.")
        return {"image": or_error(_read_image, entry), "text": or_error(_read_caption, entry)}

    def file(self, index: int, modality: str) -> str:
        return f"{self._entries[index].path}, {self._entries[index].key}"

    def content_fingerprint(self) -> str:
        """Names, sizes and times of the tars: some 500 GB are not read for it."""
        states = ((path.name, path.stat()) for path in self._paths)
        return "|".join(f"{name}:{s.st_size}:{s.st_mtime_ns}" for name, s in states)


def _index(path: Path) -> list[_Entry]:
    """The samples of a tar, from its headers. Members of one sample are neighbours."""
    entries: list[_Entry] = []
    try:
        with tarfile.open(path, "r:") as tar:
            for member in tar:
                if member.isdir():
                    continue
                # a negative size would lead back, and round for ever
                if not member.isreg() or member.issparse() or member.size < 0:
                    raise DataError(f"{path} is refused: its member {member.name!r} is no file.")
                folder, _, name = member.name.rpartition("/")
                key, _, ending = name.partition(".")
                key = readable(f"{folder}/{key}".lstrip("./"))
                if not entries or entries[-1].key != key:
                    entries.append(_Entry(path, key))
                if ending in entries[-1].places:  # which image goes with which text?
                    entries[-1].problem = f"the sample {key!r} has two members .{ending}."
                entries[-1].places[ending] = (member.offset_data, member.size)
            problem = _unended(path, tar.offset)
    except (tarfile.TarError, OSError, ValueError, RecursionError) as error:
        problem = f"is no whole tar ({error})."
    if problem:
        if entries and not entries[-1].is_whole:
            entries.pop()
        entries.append(_Entry(path, "rest", problem=f"{problem} {len(entries)} samples are whole."))
    return entries


def _unended(path: Path, offset: int) -> str:
    """What is wrong at the place where reading a tar ended: `tarfile` takes a damaged header, and
    the end of a file cut between two members, for the end of the tar without a word. That is marked
    by two blocks of zeros (POSIX.1, pax, ustar interchange format); only zeros fill the
    record behind them, and `tarfile` never comes to a second tar there."""
    with path.open("rb") as file:
        file.seek(offset)
        mark = file.read(2 * tarfile.BLOCKSIZE)
        goes_on = any(block.strip(b"\0") for block in iter(lambda: file.read(2**20), b""))
    if any(mark):
        return f"has a damaged header at byte {offset:,}."
    if len(mark) < 2 * tarfile.BLOCKSIZE:
        return f"is cut short at byte {offset:,}: the mark of the end of a tar is missing."
    if goes_on:
        return f"goes on behind its end at byte {offset:,}, as two tars in one file do. Split it."
    return ""


def _split_of(path: Path) -> str:
    for split in ("train", "val"):
        if f"-{split}-" in path.name:
            return split
    raise DataError(f"{path}: has no split in its name. The files are named {_SHARDS}.")


def _member(entry: _Entry, ending: str) -> bytes:
    """Content of a member.

    Raises:
        DataError: It is missing, too large, or cannot be read.
    """
    where = f"{entry.path}, {entry.key}"
    if ending not in entry.places:
        raise DataError(f"{where}: has no member .{ending}, only {', '.join(entry.places)}.")
    offset, size = entry.places[ending]
    check_size(size, f"{where}.{ending}", _LARGEST)
    try:
        with entry.path.open("rb") as file:
            file.seek(offset)
            content = file.read(size)
    except OSError as error:
        raise DataError(f"{where}: cannot be read ({error.strerror}).") from error
    if len(content) < size:
        raise DataError(f"{where}: is cut short. Get the tar anew.")
    return content


def _read_image(entry: _Entry) -> NDArray[np.uint8]:
    return decode_image(_member(entry, _IMAGE), f"{entry.path}, {entry.key}")


def _read_caption(entry: _Entry) -> str:
    try:
        return _member(entry, _CAPTION).decode()
    except UnicodeDecodeError as error:
        raise DataError(
            f"{entry.path}, {entry.key}: its caption is not UTF-8 ({error})."
        ) from error
