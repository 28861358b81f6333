"""The samples of all shards of a set, without a Python object for any of them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import overload

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import track

from shared.data.open_files import State, state_of
from shared.data.tar_index import read_index


@dataclass(frozen=True, eq=False)
class SetIndex(Sequence[str]):
    """As a sequence, the ids of all samples, `<shard>/<key>`; some 50 bytes a sample.

    Attributes:
        paths: Of the shards.
        states: Of the shards, before they were looked into.
        names: Of the shards: the path below the folder of all, without `.tar`.
        shards: (n,) int32, number of each sample's shard.
        first: (shards,) number of the first sample of each.
        keys: UTF-8 of all keys, one behind the other.
        key_ends: (n,) int64, where each ends.
        places: By modality, (n,) offsets [bytes], -1 where a sample has no such member, and sizes.
        problems: Number of a sample → why nothing of it can be read.
    """

    paths: list[Path]
    states: list[State]
    names: list[str]
    shards: NDArray[np.int32]
    first: NDArray[np.int64]
    keys: NDArray[np.uint8]
    key_ends: NDArray[np.int64]
    places: dict[str, tuple[NDArray[np.int64], NDArray[np.int64]]]
    problems: dict[int, str]

    def __len__(self) -> int:
        return len(self.key_ends)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[row] for row in range(*index.indices(len(self)))]
        return f"{self.names[self.shards[index]]}/{self.key(index)}"

    def key(self, index: int) -> str:
        row = range(len(self))[int(index)]
        start = self.key_ends[row - 1] if row else 0
        return self.keys[start : self.key_ends[row]].tobytes().decode()

    def path(self, index: int) -> Path:
        return self.paths[int(self.shards[index])]

    def state(self, index: int) -> State:
        return self.states[int(self.shards[index])]

    def where(self, index: int) -> str:
        """Shard and key, for messages."""
        return f"{self.path(index)}, {self.key(index)}"

    def place(self, index: int, modality: str) -> tuple[int, int]:
        """Offset (-1: there is none) and size of a member [bytes]."""
        offsets, sizes = self.places[modality]
        return int(offsets[index]), int(sizes[index])

    def endings_of(self, index: int) -> list[str]:
        """Endings of all members of a sample."""
        row = range(len(self))[int(index)]
        return read_index(self.path(row)).endings_of(row - int(self.first[self.shards[row]]))


def read_indices(
    folder: Path, paths: Sequence[Path], endings: Mapping[str, Sequence[str]]
) -> SetIndex:
    """The index of a set, with a bar on a terminal, since many headers take their time.

    Args:
        folder: That holds all shards.
        paths: Of the shards.
        endings: By modality, of its member, the preferred one first.

    Raises:
        DataError: A shard holds a link or a device, or two samples have one key.
    """
    console = Console(stderr=True)
    states = [state_of(path.stat()) for path in paths]
    key_ends, keys, problems = [], [], dict[int, str]()
    places: dict[str, list[tuple[NDArray[np.int64], NDArray[np.int64]]]] = {m: [] for m in endings}
    counts, n_bytes = [0], 0
    hidden = not console.is_terminal
    for path in track(paths, "index of shards", console=console, transient=True, disable=hidden):
        index = read_index(path)
        problems |= {sum(counts) + row: why for row, why in index.problems.items()}
        key_ends.append(index.key_ends + n_bytes)
        keys.append(index.keys)
        n_bytes += len(index.keys)
        counts.append(len(index))
        for modality, names in endings.items():
            places[modality].append(index.find(names))
    return SetIndex(
        paths=list(paths),
        states=states,
        names=[path.relative_to(folder).with_suffix("").as_posix() for path in paths],
        shards=np.repeat(np.arange(len(paths), dtype=np.int32), counts[1:]),
        first=np.cumsum(counts[:-1]),
        keys=np.concatenate(keys),
        key_ends=np.concatenate(key_ends),
        places={
            m: (np.concatenate([o for o, _ in found]), np.concatenate([s for _, s in found]))
            for m, found in places.items()
        },
        problems=problems,
    )
