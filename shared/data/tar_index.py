"""Which samples the shards of a webdataset hold, and where: arrays, kept in a file between runs.

A sample is the members `<key>.<ending>` that are neighbours in a tar; the key goes up to the first
dot of the name behind its folders, the ending is in lower case (webdataset's `base_plus_ext` and
`group_by_keys`).
"""

import hashlib
import json
import zipfile
from array import array
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.tar_scan import DamagedTarError, Member, scan
from shared.errors import DataError, WriteError
from shared.files import atomic_path, readable
from shared.home import zoo_home

_FORMAT = "1"
"""Of the files; another one, and those of before are not looked at."""
_WORTH_KEEPING = 1000
"""Samples of a shard from which on its index is kept in a file: fewer are found as quickly."""
REST = "rest"
"""Key of the sample that stands for what of a shard cannot be read."""


@dataclass(frozen=True)
class ShardIndex:
    """The samples of one shard.

    Attributes:
        keys: UTF-8 of all keys, one behind the other.
        key_ends: (n,) int64, where each ends.
        member_ends: (n,) int64: the members of sample i are those from `member_ends[i - 1]` on.
        offsets: (members,) int64, of the content in the shard.
        sizes: (members,) int64, bytes.
        endings: (members,) int64 index into `names`.
        names: Distinct endings.
        problems: Number of a sample → why nothing of it can be read.
    """

    keys: NDArray[np.uint8]
    key_ends: NDArray[np.int64]
    member_ends: NDArray[np.int64]
    offsets: NDArray[np.int64]
    sizes: NDArray[np.int64]
    endings: NDArray[np.int64]
    names: tuple[str, ...]
    problems: dict[int, str]

    def __len__(self) -> int:
        return len(self.key_ends)

    def key(self, sample: int) -> str:
        start = self.key_ends[sample - 1] if sample else 0
        return self.keys[start : self.key_ends[sample]].tobytes().decode()

    def endings_of(self, sample: int) -> list[str]:
        """Endings of the members of a sample, in their order."""
        start = self.member_ends[sample - 1] if sample else 0
        return [self.names[e] for e in self.endings[start : self.member_ends[sample]]]

    def find(self, endings: Sequence[str]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the member with one of these endings lies, the first that a sample has.

        Returns:
            (n,) offsets, -1 where a sample has none, and (n,) sizes.
        """
        offsets, sizes = np.full(len(self), -1), np.zeros(len(self), np.int64)
        counts = np.diff(self.member_ends, prepend=0)
        sample_of = np.repeat(np.arange(len(self)), counts)
        for ending in reversed([e for e in endings if e in self.names]):
            at = np.flatnonzero(self.endings == self.names.index(ending))
            offsets[sample_of[at]], sizes[sample_of[at]] = self.offsets[at], self.sizes[at]
        return offsets, sizes


def read_index(path: Path) -> ShardIndex:
    """The index of a shard: as it was kept, or made from the headers of its members.

    Raises:
        DataError: The shard holds a link or a device, or two samples have one key.
    """
    state = path.stat()
    what = f"{_FORMAT}\x1f{path.resolve()}\x1f{state.st_size}\x1f{state.st_mtime_ns}"
    digest = hashlib.sha256(what.encode(errors="surrogateescape")).hexdigest()
    kept = zoo_home() / "shards" / f"{digest[:32]}.npz"
    # one that is missing or damaged is made anew
    with suppress(OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return _load(kept)
    index = _make(path)
    if len(index) >= _WORTH_KEEPING:
        with suppress(WriteError):
            _save(kept, index)
    return index


_ARRAYS = ("keys", "key_ends", "member_ends", "offsets", "sizes", "endings")


def _save(path: Path, index: ShardIndex) -> None:
    with atomic_path(path) as temporary:
        about = json.dumps([index.names, list(index.problems.items())])
        arrays = {name: getattr(index, name) for name in _ARRAYS}
        np.savez(temporary, about=np.frombuffer(about.encode(), np.uint8), **arrays)


def _load(path: Path) -> ShardIndex:
    if not path.is_file():
        raise FileNotFoundError(path)
    with np.load(path, allow_pickle=False) as file:
        names, problems = json.loads(file["about"].tobytes())
        arrays: dict[str, Any] = {name: file[name] for name in _ARRAYS}
    return ShardIndex(**arrays, names=tuple(names), problems=dict(problems))


def _make(path: Path) -> ShardIndex:
    samples = _Samples(path)
    try:
        for member in scan(path):
            samples.add(member)
    except (DamagedTarError, OSError) as error:
        samples.end_with(str(error))
    return samples.index()


class _Samples:
    """Collects members to samples."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._keys: dict[str, None] = {}
        self._key = ""
        self._member_ends, self._problems = array("q"), dict[int, str]()
        self._offsets, self._sizes, self._endings = array("q"), array("q"), array("q")
        self._names: dict[str, int] = {}

    def add(self, member: Member) -> None:
        folder, _, file = member.name.rpartition("/")
        stem, dot, ending = file.partition(".")
        # what webdataset takes for no part of a sample, too
        if not (stem and dot and ending) or stem.startswith("__"):
            return
        key = readable(f"{folder}/{stem}".lstrip("./"))
        if not self._keys or key != self._key:
            self._begin(key)
        ending = readable(ending).lower()
        number = self._names.setdefault(ending, len(self._names))
        if number in self._endings[self._start() :]:  # which image goes with which text?
            self._problems[len(self._keys) - 1] = f"the sample {key!r} has two members .{ending}."
        self._offsets.append(member.offset)
        self._sizes.append(member.size)
        self._endings.append(number)
        self._member_ends[-1] += 1

    def end_with(self, problem: str) -> None:
        """What follows cannot be read. The last sample, which may lack members, counts as whole if
        it has all endings of the one before it."""
        if len(self._keys) > 1:
            last, before = self._start(), self._member_ends[-3:-2] or [0]
            if set(self._endings[before[0] : last]) > set(self._endings[last:]):
                self._keys.popitem()
                self._problems.pop(len(self._keys), None)
                self._member_ends.pop()
                del self._offsets[last:], self._sizes[last:], self._endings[last:]
        whole = len(self._keys)
        self._begin(REST)
        self._problems[whole] = f"{problem} {whole} samples are whole."

    def index(self) -> ShardIndex:
        keys = [key.encode() for key in self._keys]
        return ShardIndex(
            keys=np.frombuffer(b"".join(keys), np.uint8),
            key_ends=np.cumsum([len(key) for key in keys], dtype=np.int64),
            member_ends=np.array(self._member_ends, np.int64),
            offsets=np.array(self._offsets, np.int64),
            sizes=np.array(self._sizes, np.int64),
            endings=np.array(self._endings, np.int64),
            names=tuple(self._names),
            problems=self._problems,
        )

    def _begin(self, key: str) -> None:
        if key in self._keys:
            raise DataError(
                f"{self._path}: the key {key!r} stands more than once. The members of a sample "
                "have to be neighbours, and keys unique: write the shard anew."
            )
        self._keys[key], self._key = None, key
        self._member_ends.append(len(self._offsets))

    def _start(self) -> int:
        return self._member_ends[-2] if len(self._member_ends) > 1 else 0
