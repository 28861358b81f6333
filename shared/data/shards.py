"""Sets that outgrow memory: shards in webdataset's layout, read in place."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Dataset, Raw, SampleTable, or_error
from shared.data.members import LARGEST, Kind, Source, make_schema, parse_source
from shared.data.open_files import OpenFiles
from shared.data.shard_files import assign_shards, find_shards
from shared.data.shard_index import SetIndex, read_indices
from shared.data.shard_order import shuffle_in_lanes
from shared.errors import ConfigError, DataError
from shared.untrusted import check_size


class WebDataset(Dataset):
    """Shards in webdataset's layout: tars whose neighbouring members `<key>.<ending>` are a sample.

    The headers of all members are read once, and what they say is kept in `ZOO_HOME/shards`. The
    members lie where they lie: a sample is read by its place, in any order. Where a tar is cut
    short or one of its headers is damaged, what follows is one sample, `<shard>/rest`, that cannot
    be read. Nothing is unpickled.

    The split is that of the shard: by `val` and `test`, by a word in its name (`train`, `val`,
    `test` and the like) where every shard has one, and else by a hash of each sample's id, which is
    `<shard>/<key>`.

    Attributes:
        kinds: Further endings and what they are.

    Args:
        root: Folder of the tars, or a pattern, such as `data/{train,val}-{0000..0127}.tar`.
        members: By modality, the ending of its member, several of one kind of which a sample has
            one, or `json.FIELD` for a text in a JSON object and `npz.FIELD` for an array; None: not
            read.
        arrays: By modality that comes from npy or npz, its `axes`, `channels` and `dtype`.
        label: Where the class comes from, such as `cls` or `json.FIELD`; None: no labels. All are
            read before training.
        val: Pattern of the names of the validation shards, such as `*-0099`.
        test: The same of the test shards.
        lanes: Shards that are read side by side, of which every batch takes equal parts; a
            multiple of the number of processes lets each read its own.
        shuffle_window: Samples of a lane that are shuffled among one another.

    Raises:
        ConfigError: No member that can be read, arrays without a schema, or a number below 1.
    """

    name = "webdataset"
    streamed = True
    kinds: ClassVar[Mapping[str, Kind]] = {}

    def __init__(
        self,
        root: str,
        members: Mapping[str, str | Sequence[str] | None],
        arrays: Mapping[str, Mapping[str, Any]] | None = None,
        label: str | None = None,
        val: str | None = None,
        test: str | None = None,
        lanes: int = 8,
        shuffle_window: int = 10_000,
    ) -> None:
        if lanes < 1 or shuffle_window < 1:
            raise ConfigError("data.lanes and data.shuffle_window have to be at least 1.")
        if all(given is None for given in members.values()):
            raise ConfigError("data.members is empty: say which ending is which modality.")
        self.source = self._root = str(root)
        self._sources = {
            modality: parse_source(given, f"data.members.{modality}", self.kinds)
            for modality, given in members.items()
            if given is not None
        }
        self.schemas = {m: make_schema(m, s, arrays or {}) for m, s in self._sources.items()}
        self._label = None if label is None else parse_source(label, "data.label", self.kinds)
        self._val, self._test = val, test
        self._lanes, self._window = lanes, shuffle_window
        self._files = OpenFiles()

    @cached_property
    def index(self) -> SetIndex:
        """Where all members that are read lie."""
        folder, paths = find_shards(self._root)
        sources = {**self._sources, **({} if self._label is None else {"": self._label})}
        return read_indices(folder, paths, {m: s.endings for m, s in sources.items()})

    def splits_of_shards(self, names: list[str]) -> list[str]:
        """Split of every shard; none of all where their names say nothing."""
        return assign_shards(names, self._val, self._test)

    def make_table(self) -> SampleTable:
        index = self.index
        splits = self.splits_of_shards(index.names)
        labels, classes = self._read_labels()
        return SampleTable(
            ids=index,
            labels=labels,
            classes=classes,
            splits=np.array(splits, np.str_)[index.shards] if splits else None,
        )

    def order(
        self, rows: NDArray[np.int64], rng: np.random.Generator, batch_size: int
    ) -> NDArray[np.int64]:
        return shuffle_in_lanes(
            rows,
            self.index.shards[rows],
            rng,
            batch_size=batch_size,
            lanes=self._lanes,
            window=self._window,
        )

    def read(self, index: int) -> Raw:
        return self.read_only(index, self._sources)

    def read_only(self, index: int, modalities: Collection[str]) -> Raw:
        if problem := self.index.problems.get(int(index) % len(self.index)):
            raise DataError(f"{self.index.path(index)}: {problem} Get it anew.")
        return {m: or_error(self._read, index, m, self._sources[m]) for m in modalities}

    def file(self, index: int, modality: str) -> str:
        return self.index.where(index)

    def content(self, raw: Raw) -> Raw:
        """What is no text: a copy of an image is one whatever its caption is."""
        return {m: value for m, value in raw.items() if self.schemas[m].dtype != "str"} or raw

    def content_fingerprint(self) -> str:
        """Names, sizes and times of the shards, which are not read for it, and the settings that
        say what of them is read."""
        folder, paths = find_shards(self._root)
        states = ((path.relative_to(folder), path.stat()) for path in paths)
        settings = (self._sources, self.schemas, self._label, self._val, self._test)
        shards = "|".join(f"{name}:{s.st_size}:{s.st_mtime_ns}" for name, s in states)
        return f"{shards}|{settings}"

    def _read(self, index: int, modality: str, source: Source) -> Any:
        return source.decode(self._member(index, modality, source), self.index.where(index))

    def _member(self, index: int, modality: str, source: Source) -> bytes:
        """Content of a member.

        Raises:
            DataError: It is missing, too large, or cannot be read.
        """
        path, where = self.index.path(index), self.index.where(index)
        offset, size = self.index.place(index, modality)
        if offset < 0:
            there = ", ".join(self.index.endings_of(index))
            raise DataError(
                f"{where}: has no member .{' or .'.join(source.endings)}, only {there}."
            )
        check_size(size, f"{where}.{source.endings[0]}", LARGEST)
        try:
            content = self._files.read(path, self.index.state(index), offset, size)
        except OSError as error:
            raise DataError(f"{where}: cannot be read ({error.strerror}).") from error
        if len(content) < size:
            raise DataError(f"{where}: is cut short. Get the tar anew.")
        return content

    def _read_labels(self) -> tuple[NDArray[np.int64] | None, tuple[str, ...]]:
        """(n,) index of each sample's class, -1 where unknown, and the classes: in the order of
        their numbers where all are numbers."""
        if self._label is None:
            return None, ()
        if not (self.index.places[""][0] >= 0).any():
            raise ConfigError(
                f"data.label: no sample of {self._root} has a member "
                f".{' or .'.join(self._label.endings)}; the first has "
                f"{', '.join(self.index.endings_of(0))}."
            )
        texts = np.array(list(self._label_texts(self._label)))
        names, inverse = np.unique(texts, return_inverse=True)
        known = [name for name in names.tolist() if name]
        if all(name.isdecimal() for name in known):
            known.sort(key=int)
        number = {name: i for i, name in enumerate(known)}
        return np.array([number.get(name, -1) for name in names.tolist()])[inverse], tuple(known)

    def _label_texts(self, source: Source) -> Iterator[str]:
        for row in range(len(self.index)):
            there = row not in self.index.problems and self.index.place(row, "")[0] >= 0
            yield self._read(row, "", source).strip() if there else ""
