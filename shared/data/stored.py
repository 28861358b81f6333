"""Embeddings of a frozen encoder on disk, which training reads instead of the inputs."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from shared.data.skipping import Refused
from shared.errors import WeightsError
from shared.files import write_json
from shared.schema import Array
from shared.weights import read_metadata, read_tensors, write_tensors

_log = logging.getLogger(__name__)

PART_ROWS = 1024
"""Samples of a file: what a kill may cost each process."""
ABOUT = "about.json"
_SUFFIX = ".safetensors"


@dataclass(frozen=True)
class StoredPart:
    """Embeddings of some samples.

    Attributes:
        counts: (m,) int64, views of each sample; 0 where it lacks the modality.
        vectors: (sum of the counts, dim) float32, sample by sample.
        refused: What of these samples could not be used.
    """

    counts: NDArray[np.int64]
    vectors: NDArray[np.float32]
    refused: Sequence[Refused] = ()


class StoredEmbeddings:
    """A folder with the embeddings of one modality of some samples: `about.json`, which says what
    they are of, and one safetensors file for every `PART_ROWS` samples.

    Several processes may fill one folder at once: files appear whole, and each is the same whoever
    writes it. They are mapped, not copied, into memory. The name of the folder is a hash of
    what determines the embeddings; a file of another folder counts as damaged, like one whose
    tensors do not fit the fingerprint in its head.

    Args:
        folder: It need not be there.
        rows: Positions in the dataset of the samples, in the order of the files.
        about: What determines the embeddings, for people.
    """

    def __init__(self, folder: Path, rows: Sequence[int], about: Mapping[str, Any]) -> None:
        self.folder, self._about = folder, about
        self.parts = [tuple(rows[i : i + PART_ROWS]) for i in range(0, len(rows), PART_ROWS)]
        self._read: dict[int, StoredPart] = {}
        size = max(rows, default=-1) + 1
        self._part = np.full(size, -1, np.int64)
        self._first, self._count = np.zeros(size, np.int64), np.zeros(size, np.int64)

    @property
    def whole(self) -> bool:
        return len(self._read) == len(self.parts)

    @property
    def nbytes(self) -> int:
        """Of the vectors."""
        return sum(part.vectors.nbytes for part in self._read.values())

    @property
    def dim(self) -> int:
        """Width of the vectors; 0 where no sample has the modality."""
        return max((part.vectors.shape[1] for part in self._read.values()), default=0)

    @property
    def refused(self) -> list[Refused]:
        """What of the samples could not be used."""
        return [entry for part in self._read.values() for entry in part.refused]

    def has(self, number: int) -> bool:
        """Whether a part is there; a damaged file is not, and is said so once."""
        if number not in self._read and (part := self._open(number)) is not None:
            self._keep(number, part)
        return number in self._read

    def write(self, number: int, part: StoredPart) -> None:
        """Keep a part.

        Raises:
            WriteError: It cannot be written.
        """
        if not (self.folder / ABOUT).exists():
            write_json(self.folder / ABOUT, dict(self._about))
        facts = {"of": self.folder.name, "refused": [list(entry) for entry in part.refused]}
        tensors = {
            "counts": torch.from_numpy(part.counts),
            "vectors": torch.from_numpy(part.vectors),
        }
        write_tensors(self._path(number), tensors, facts)
        if not self.has(number):
            raise WeightsError(
                f"{self._path(number)} was written and cannot be read again: is the disk faulty?"
            )

    def views(self, row: int) -> Array:
        """(views, dim) float32 of a sample; no view where it lacks the modality."""
        part = self._read[int(self._part[row])]
        return part.vectors[self._first[row] : self._first[row] + self._count[row]]

    def _path(self, number: int) -> Path:
        return self.folder / f"{number:08d}{_SUFFIX}"

    def _keep(self, number: int, part: StoredPart) -> None:
        rows = list(self.parts[number])
        self._part[rows], self._count[rows] = number, part.counts
        self._first[rows] = np.cumsum(part.counts) - part.counts
        self._read[number] = part

    def _open(self, number: int) -> StoredPart | None:
        path = self._path(number)
        if not path.exists():
            return None
        try:
            tensors, facts = read_tensors(path), read_metadata(path)
            if facts["of"] != self.folder.name:
                raise ValueError("it is of something else")
            counts, vectors = tensors["counts"].numpy(), tensors["vectors"].numpy()
            if len(counts) != len(self.parts[number]) or counts.sum() != len(vectors):
                raise ValueError("it is of other samples")
            refused = [(int(row), str(m), str(why)) for row, m, why in facts["refused"]]
            return StoredPart(counts, vectors, refused)
        except (WeightsError, KeyError, TypeError, ValueError) as error:
            _log.warning("%s is damaged (%s): its embeddings are computed again", path, error)
            return None
