"""What a dataset is: samples with one or more modalities, ids, labels, groups and splits."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from shared.data.splits import SPLITS as SPLITS
from shared.data.splits import assign_splits
from shared.errors import DataError
from shared.schema import Schema
from shared.untrusted import check_regular

_T = TypeVar("_T")

Raw = Mapping[str, Any]
"""One sample: modality → raw input in the units of the dataset's schema. A modality that the
sample lacks is not a key."""

Numbers = Sequence[float] | NDArray[np.floating[Any]]

SAMPLE = "sample"
"""Annotation of a view with several rows a sample: whose row it is."""
WHOLE = ""
"""Stands for all modalities of a sample where nothing of it can be read."""
_REMEDY = "To leave out what cannot be used: data.on_error=skip."


@dataclass(frozen=True)
class SampleTable:
    """What is known of every sample before it is read, row by row.

    Attributes:
        ids: Unique names, one a sample.
        labels: Index into `classes`, -1 where unknown; None for a set without labels.
        classes: Class names.
        groups: Unit that must not straddle splits (star, patient, scene); None = the sample.
        splits: `train`, `val` or `test`, one a sample; None = stratified by hash of the group.
        tags: By name, 0, 1 or NaN (unknown) of each sample, which may have several tags or none.
        targets: By name, a number of each sample, NaN where unknown.
        subgroups: By name (`hospital`, `telescope`), what each sample belongs to, empty where
            unknown: scores are told for each, and nothing is split or resampled by it.
        annotations: By name, a text of each sample that one protocol reads (outlines as JSON),
            empty where it has none: nothing is predicted, and no scores are told apart by it.
    """

    ids: Sequence[str]
    labels: Sequence[int] | NDArray[np.int64] | None = None
    classes: tuple[str, ...] = ()
    groups: Sequence[str] | None = None
    splits: Sequence[str] | NDArray[np.str_] | None = None
    tags: Mapping[str, Numbers] = field(default_factory=dict)
    targets: Mapping[str, Numbers] = field(default_factory=dict)
    subgroups: Mapping[str, Sequence[str] | NDArray[np.str_]] = field(default_factory=dict)
    annotations: Mapping[str, Sequence[str] | NDArray[np.str_]] = field(default_factory=dict)


class Dataset(ABC):
    """Samples of one or more modalities. Reads lazily: `table` is cheap, `read` opens files.

    A subclass sets `name` and `schemas`, and gives `make_table`, `read` and `content_fingerprint`.

    Attributes:
        version: Of a simulator; it stands beside every figure made on its data.
        source: File or folder that says which samples there are, for messages; empty where none.
        synthetic: Whether nobody measured the data.
        split_seed: Another one, another split, where the table does not say the splits.
        evaluator: Name of the registered evaluator that suits it; empty: the domain's first.
        paths: Which settings are paths as the user wrote them, `~` and relative ones included.
        streamed: Whether it may outgrow memory: a few samples are read before training instead of
            all, none is kept, and the reader holds ids to be unique.
    """

    name: str
    version: str = ""
    source: str = ""
    synthetic: bool = False
    split_seed: int = 0
    evaluator: str = ""
    paths: ClassVar[tuple[str, ...]] = ("root",)
    streamed: bool = False
    schemas: Mapping[str, Schema]

    @abstractmethod
    def make_table(self) -> SampleTable:
        """Ids, labels, groups and splits of every sample."""

    @abstractmethod
    def read(self, index: int) -> Raw:
        """Raw inputs of one sample, float64 where times are concerned.

        Where one modality cannot be read but others can, the DataError that says why may stand in
        its place (`or_error`).

        Raises:
            DataError: The sample's file is missing, truncated or not what it should be.
        """

    def read_only(self, index: int, modalities: Collection[str]) -> Raw:
        """Some modalities of what `read` gives; overridden where the others cost time to read."""
        return {m: value for m, value in self.read(index).items() if m in modalities}

    @abstractmethod
    def content_fingerprint(self) -> str:
        """What identifies the bytes behind the samples: a version for simulators, hashes of files
        (or sizes and times for large sets) for readers."""

    @property
    def caption_counts(self) -> Sequence[int] | None:
        """Captions of every sample, where a modality holds several texts a sample (`CAPTIONS`)."""
        return None

    def evaluated(self) -> "Dataset":
        """This dataset as evaluation reads it: with one row a caption where samples have several
        (`CaptionRows`), else itself."""
        from shared.data.captions import CaptionRows  # built on this module

        counts = self.caption_counts
        return self if counts is None else CaptionRows(self, counts)

    def content(self, raw: Raw) -> Raw:
        """What of a sample its copies share, by which duplicates are found: all of it, unless a
        view says otherwise."""
        return raw

    def order(
        self, rows: NDArray[np.int64], rng: np.random.Generator, batch_size: int
    ) -> NDArray[np.int64]:
        """Rows of a split in the order in which an epoch of training reads them.

        Args:
            rows: (n,) ascending.
            rng: A function of seed and epoch.
            batch_size: Rows of each batch over all ranks, which take equal parts of it in turn.

        Returns:
            All the rows, or as many as fill whole batches.
        """
        return rng.permutation(rows)

    def describe_as(self, dataset: "Dataset") -> None:
        """Say of this dataset, a view of another, what the other says of itself."""
        self.name, self.version, self.source = dataset.name, dataset.version, dataset.source
        self.synthetic, self.evaluator = dataset.synthetic, dataset.evaluator
        self.split_seed, self.schemas = dataset.split_seed, dataset.schemas
        self.streamed = dataset.streamed

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} version {self.version}" if self.version else self.name

    @cached_property
    def table(self) -> SampleTable:
        table = self.make_table()
        if len(table.ids) == 0:
            raise DataError(f"{self._listed}: no sample was found.")
        if not self.streamed and len(set(table.ids)) != len(table.ids):
            seen: set[str] = set()
            twice = next(i for i in table.ids if i in seen or seen.add(i))  # type: ignore[func-returns-value]
            raise DataError(f"{self._listed}: the id {twice!r} stands more than once.")
        self._check_truths(table)
        return table

    def _check_truths(self, table: SampleTable) -> None:
        """Tags, targets and texts: one entry a sample, and numbers that can be right."""
        truths: dict[str, Mapping[str, Any]]
        truths = {"tag": table.tags, "target": table.targets}
        truths |= {"subgroup": table.subgroups, "annotation": table.annotations}
        for kind, columns in truths.items():
            for name, column in columns.items():
                if len(column) != len(table.ids):
                    raise DataError(
                        f"{self._listed}: {kind} {name!r} has {len(column)} entries, but there are "
                        f"{len(table.ids)} samples."
                    )
        for kind, numbers in (("tag", table.tags), ("target", table.targets)):
            for name, values in _arrays(numbers).items():
                right = np.isin(values, (0, 1)) if kind == "tag" else np.isfinite(values)
                wrong = np.flatnonzero(~(right | np.isnan(values)))
                if wrong.size:
                    takes = "0, 1 or NaN" if kind == "tag" else "a finite number or NaN"
                    raise DataError(
                        f"{self._listed}: {kind} {name!r} of {str(table.ids[wrong[0]])!r} is "
                        f"{values[wrong[0]]}; it takes {takes} (unknown)."
                    )

    @property
    def _listed(self) -> str:
        return f"{self.name} ({self.source})" if self.source else self.name

    @property
    def ids(self) -> NDArray[np.str_]:
        return np.asarray(self.table.ids, dtype=np.str_)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.table.classes

    @cached_property
    def labels(self) -> NDArray[np.int64]:
        """(n,) index into `classes`, -1 where unknown."""
        if self.table.labels is None:
            return np.full(len(self), -1, dtype=np.int64)
        return np.asarray(self.table.labels, dtype=np.int64)

    @property
    def groups(self) -> NDArray[np.str_]:
        return self.ids if self.table.groups is None else np.asarray(self.table.groups, np.str_)

    @cached_property
    def splits(self) -> NDArray[np.str_]:
        if self.table.splits is not None:
            return np.asarray(self.table.splits, np.str_)
        return assign_splits(self.groups, self.labels, self.split_seed)

    @cached_property
    def tags(self) -> dict[str, NDArray[np.float64]]:
        """By name, (n,) 0, 1 or NaN where unknown."""
        return _arrays(self.table.tags)

    @cached_property
    def targets(self) -> dict[str, NDArray[np.float64]]:
        """By name, (n,) numbers to predict, NaN where unknown."""
        return _arrays(self.table.targets)

    @cached_property
    def subgroups(self) -> dict[str, NDArray[np.str_]]:
        """By name, (n,) what each sample belongs to, empty where unknown."""
        return {name: np.asarray(c, np.str_) for name, c in self.table.subgroups.items()}

    @cached_property
    def annotations(self) -> dict[str, NDArray[np.str_]]:
        """By name, (n,) texts that one protocol reads, empty where there is none."""
        return {name: np.asarray(c, np.str_) for name, c in self.table.annotations.items()}

    def __len__(self) -> int:
        return len(self.table.ids)

    def __getitem__(self, index: int) -> Raw:
        """`read`, with every modality held against its schema."""
        return self.usable(index)

    def usable(self, index: int, modalities: Collection[str] | None = None) -> Raw:
        """What can be used of all or of some modalities of a sample; `refuse` is told the rest."""
        raw, errors = self.parts(index, modalities)
        for modality, error in errors.items():
            self.refuse(index, modality, error)
        return raw

    def parts(
        self, index: int, modalities: Collection[str] | None = None
    ) -> tuple[dict[str, Any], dict[str, DataError]]:
        """What can be used of all or of some modalities of a sample, and why the rest cannot, by
        modality; by `WHOLE` where nothing can be read."""
        try:
            raw = self.read(index) if modalities is None else self.read_only(index, modalities)
        except DataError as error:
            return {}, {WHOLE: error}
        good: dict[str, Any] = {}
        errors: dict[str, DataError] = {}
        for modality, value in raw.items():
            try:
                if isinstance(value, DataError):
                    raise value
                self.schemas[modality].check(value, self.where(index, modality))
                good[modality] = value
            except DataError as error:
                errors[modality] = error
        return good, errors

    def file(self, index: int, modality: str) -> str:
        """The file behind a modality of a sample (`WHOLE`: the sample), for messages; empty where
        there is none, as in a simulator."""
        return ""

    def where(self, index: int, modality: str = WHOLE) -> str:
        """The dataset, the sample and its file, for messages."""
        file = self.file(index, modality)
        place = f" ({file})" if file else ""
        return f"{self.name}, sample {self.table.ids[index]!r}{place}"

    def refuse(self, index: int, modality: str, error: DataError) -> None:
        """Told when a modality of a sample cannot be used (`WHOLE`: the sample).

        Raises:
            DataError: Always here; a dataset that skips errors notes it instead.
        """
        raise DataError(f"{error} {_REMEDY}") from error

    def check_skipped(self, used: Mapping[str, int], n_samples: int) -> None:  # noqa: B027
        """Told after a pass over `n_samples` samples how many had each modality.

        Raises:
            DataError: More than half of the samples had to be skipped.
        """

    def indices(self, split: str) -> NDArray[np.int64]:
        """Rows of one split (`train`, `val`, `test`)."""
        return np.flatnonzero(self.splits == split)

    @cached_property
    def fingerprint(self) -> str:
        """Data fingerprint: ids, labels, classes, groups, splits, contents and, where there are
        any, tags, targets, subgroups and annotations; 16 hex digits."""
        digest = hashlib.sha256(self.content_fingerprint().encode())
        if self.streamed:  # its content says the rest, and the ids of all samples are many
            digest.update(f"split_seed={self.split_seed}".encode())
            return digest.hexdigest()[:16]
        labels = self.labels.astype(np.str_).tolist()
        for column in (self.ids.tolist(), labels, self.classes, self.groups, self.splits):
            digest.update("\x1f".join(column).encode() + b"\x1e")
        truths: dict[str, Mapping[str, Any]]
        truths = {"tag": self.tags, "target": self.targets}
        truths |= {"subgroup": self.subgroups, "annotation": self.annotations}
        for kind, columns in truths.items():
            for name, values in columns.items():
                texts = np.asarray(values).astype(np.str_).tolist()
                digest.update("\x1f".join((kind, name, *texts)).encode() + b"\x1e")
        return digest.hexdigest()[:16]


def _arrays(columns: Mapping[str, Numbers]) -> dict[str, NDArray[np.float64]]:
    return {name: np.asarray(column, dtype=np.float64) for name, column in columns.items()}


def or_error(read: Callable[..., _T], *args: object) -> _T | DataError:
    """What `read` gives, or the DataError that says why it cannot."""
    try:
        return read(*args)
    except DataError as error:
        return error


def hash_files(paths: Sequence[Any]) -> str:
    """Hash of files' names, sizes and contents (sha256); one that is no file or cannot be opened
    counts by its name, since reading it tells what is wrong."""
    digest = hashlib.sha256()
    for path in sorted(paths):
        try:
            check_regular(path)
            with path.open("rb") as file:
                digest.update(os.fsencode(f"{path.name}:{path.stat().st_size}\x1f"))
                while block := file.read(1 << 20):
                    digest.update(block)
        except (OSError, DataError):
            digest.update(os.fsencode(f"{path.name}:unreadable\x1f"))
    return digest.hexdigest()
