"""`data.on_error=skip`: samples that cannot be used are left out, counted and listed."""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import WHOLE, Dataset, Raw, SampleTable
from shared.errors import DataError
from shared.files import write_json

FILE = "skipped.json"
_LINES = 5
_QUOTED_OR_NUMBER = re.compile(r"'[^']*'|[-+]?\d[\d.,]*(e[-+]?\d+)?")

Refused = tuple[int, str, str]
"""Row, modality (`WHOLE`: the sample) and reason of what could not be used."""


@dataclass(frozen=True)
class Skipped:
    """What was left out and why.

    Attributes:
        id: Of the sample.
        modality: The one that could not be used; None: nothing of the sample could be read.
        reason: The message of the error.
        file: Where it was to be read from; None where the dataset has no files.
    """

    id: str
    modality: str | None
    reason: str
    file: str | None = None

    @property
    def kind(self) -> str:
        """The reason without what differs from sample to sample: file, names and numbers."""
        text = self.reason.replace(self.file or "\0", "").replace(self.id, "")
        return _QUOTED_OR_NUMBER.sub("#", text)


class SkippingDataset(Dataset):
    """A dataset in which a modality that cannot be read or prepared is absent from its sample.

    Rows, ids and splits stay those of the dataset; a sample of which nothing can be read has no
    modality. Each is noted once, whoever finds it: the reader, the schema or the preprocessor.
    Where evaluation reads one row a caption, an image that cannot be read is noted with each of its
    captions: those are the rows that the scores lack.
    """

    def __init__(self, dataset: Dataset) -> None:
        self.describe_as(dataset)
        self._dataset = dataset
        self._reasons: dict[tuple[int, str], str] = {}

    def evaluated(self) -> Dataset:
        inner = self._dataset.evaluated()
        return self if inner is self._dataset else SkippingDataset(inner)

    def content(self, raw: Raw) -> Raw:
        return self._dataset.content(raw)

    def make_table(self) -> SampleTable:
        return self._dataset.table

    def read(self, index: int) -> Raw:
        return self._read(index, None)

    def read_only(self, index: int, modalities: Collection[str]) -> Raw:
        return self._read(index, modalities)

    def _read(self, index: int, modalities: Collection[str] | None) -> Raw:
        raw, errors = self._dataset.parts(index, modalities)
        for modality, error in errors.items():
            self.refuse(index, modality, error)
        return raw

    def refuse(self, index: int, modality: str, error: DataError) -> None:
        self._reasons.setdefault((int(index) % len(self), modality), str(error))

    def file(self, index: int, modality: str) -> str:
        return self._dataset.file(index, modality)

    def order(
        self, rows: NDArray[np.int64], rng: np.random.Generator, batch_size: int
    ) -> NDArray[np.int64]:
        return self._dataset.order(rows, rng, batch_size)

    def content_fingerprint(self) -> str:
        return f"{self._dataset.content_fingerprint()}, on_error=skip"

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """In the order of the samples."""
        return tuple(
            Skipped(
                str(self.table.ids[row]), modality or None, reason, self.file(row, modality) or None
            )
            for (row, modality), reason in sorted(self._reasons.items())
        )

    def refused(self, rows: Collection[int]) -> list[Refused]:
        """Row, modality and reason of what was left out of some rows, in their order."""
        reasons = sorted(self._reasons.items())
        return [(row, modality, why) for (row, modality), why in reasons if row in rows]

    def check_skipped(self, used: Mapping[str, int], n_samples: int) -> None:
        counts = Counter(modality for _, modality in self._reasons)
        for modality, good in {WHOLE: n_samples - counts[WHOLE], **used}.items():
            if counts[modality] > good:
                first = next(r for (_, m), r in sorted(self._reasons.items()) if m == modality)
                what = f"no {modality}" if modality else "nothing"
                raise DataError(
                    f"{self.name}: {counts[modality]} of {counts[modality] + good} samples have "
                    f"{what} that can be used, which is too many to skip. The first: {first}"
                )


def skipped_of(dataset: Dataset) -> tuple[Skipped, ...]:
    """What a dataset has left out so far; nothing where errors are raised."""
    return dataset.skipped if isinstance(dataset, SkippingDataset) else ()


def refused_of(dataset: Dataset, rows: Collection[int]) -> list[Refused]:
    """Row, modality and reason of what a dataset has left out of some rows so far."""
    return dataset.refused(rows) if isinstance(dataset, SkippingDataset) else []


def describe_skipped(skipped: Sequence[Skipped]) -> list[str]:
    """Lines for people: counts, then the most frequent kinds of reasons, each by its first sample;
    none where nothing was left out."""
    if not skipped:
        return []
    counts = Counter(entry.modality or "whole samples" for entry in skipped)
    numbers = ", ".join(f"{what} {n}" for what, n in sorted(counts.items()))
    lines = [f"left out, since they cannot be used (data.on_error=skip): {numbers}"]
    kinds: dict[tuple[str | None, str], list[Skipped]] = defaultdict(list)
    for entry in skipped:
        kinds[entry.modality, entry.kind].append(entry)
    frequent = sorted(kinds.values(), key=len, reverse=True)
    for entries in frequent[:_LINES]:
        first, times = entries[0], f"{len(entries)} × " if len(entries) > 1 else ""
        lines.append(f"  {times}{first.id}, {first.modality or 'whole sample'}: {first.reason}")
    if rest := sum(map(len, frequent[_LINES:])):
        lines.append(f"  … and {rest} more, for {len(frequent) - _LINES} other reasons")
    return lines


def save_skipped(path: Path, skipped: Sequence[Skipped]) -> None:
    """Write a JSON list of id, modality, reason and file; nothing where nothing was left out."""
    if skipped:
        write_json(path, [asdict(entry) for entry in skipped])
