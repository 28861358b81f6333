"""Finished parts of a long extraction, kept until the whole is there: a killed one goes on."""

import hashlib
import io
import json
import logging
import shutil
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.skipping import Refused
from shared.errors import WriteError
from shared.files import atomic_path

_log = logging.getLogger(__name__)

_SUFFIX = ".chunk"
_DIGEST_BYTES = hashlib.sha256().digest_size


@dataclass(frozen=True)
class Chunk:
    """Embeddings of m consecutive rows of a dataset.

    Attributes:
        start: First row.
        present: By modality, (m,) which rows have it.
        vectors: By modality, (m, d) float32, NaN where absent; a modality that no row has is not a
            key.
        content: (m,) hash of each sample, empty where unknown.
        refused: What of these rows could not be used.
    """

    start: int
    present: Mapping[str, NDArray[np.bool_]]
    vectors: Mapping[str, NDArray[np.float32]]
    content: NDArray[np.str_]
    refused: Sequence[Refused] = field(default_factory=tuple)

    @property
    def stop(self) -> int:
        """The row after the last one."""
        return self.start + len(self.content)


def join(chunks: Sequence[Chunk]) -> Chunk:
    """Chunks that follow each other as one."""
    widths = {m: v.shape[1] for chunk in chunks for m, v in chunk.vectors.items()}
    vectors = {
        modality: np.concatenate(
            [
                c.vectors.get(modality, np.full((len(c.content), width), np.nan, np.float32))
                for c in chunks
            ]
        )
        for modality, width in widths.items()
    }
    present = {m: np.concatenate([c.present[m] for c in chunks]) for m in chunks[0].present}
    content = np.concatenate([c.content for c in chunks])
    refused = [entry for c in chunks for entry in c.refused]
    return Chunk(chunks[0].start, present, vectors, content, refused)


def gaps(chunks: Sequence[Chunk], n: int) -> list[tuple[int, int]]:
    """First row and row after the last one of what sorted chunks leave out of n rows."""
    starts = [0, *(c.stop for c in chunks)]
    stops = [*(c.start for c in chunks), n]
    return [(a, b) for a, b in zip(starts, stops, strict=True) if a < b]


class ChunkFolder:
    """A folder of chunks, one file each: the SHA-256 of what follows, then an `.npz` archive.

    Several processes may write to one folder at once: files appear whole, and where two overlap
    one of them is taken. The name of the folder says what the chunks are of; one that was put there
    from another counts as damaged.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._broken = folder, False

    def read(self, n: int) -> list[Chunk]:
        """Whole chunks of the n rows, sorted, that do not overlap; others count for nothing."""
        files = self._folder.glob(f"[0-9]*{_SUFFIX}")
        chunks = [chunk for path in sorted(files) if (chunk := _read(path)) and chunk.stop <= n]
        chosen: list[Chunk] = []
        for chunk in sorted(chunks, key=lambda c: (c.start, -c.stop)):
            if not chosen or chunk.start >= chosen[-1].stop:
                chosen.append(chunk)
        return chosen

    def write(self, chunk: Chunk) -> None:
        """Keep a chunk; where nothing can be written, that is said once and the work goes on."""
        columns: dict[str, Any] = {f"vectors.{m}": v for m, v in chunk.vectors.items()}
        columns |= {f"present.{m}": p for m, p in chunk.present.items()}
        refused = np.asarray(json.dumps(list(chunk.refused)))
        file = io.BytesIO()
        columns |= {"start": chunk.start, "content": chunk.content, "refused": refused}
        np.savez(file, of=self._folder.name, **columns)
        try:
            with atomic_path(
                self._folder / f"{chunk.start:012d}-{chunk.stop:012d}{_SUFFIX}"
            ) as path:
                path.write_bytes(hashlib.sha256(file.getbuffer()).digest() + file.getbuffer())
        except WriteError as error:
            if not self._broken:
                _log.warning("if this is interrupted, it starts anew: %s", error)
            self._broken = True

    def remove(self) -> None:
        """Delete the folder."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _read(path: Path) -> Chunk | None:
    """A chunk; None where another process has just removed it, or where it is damaged or of another
    folder."""
    try:
        content = path.read_bytes()
        if hashlib.sha256(content[_DIGEST_BYTES:]).digest() != content[:_DIGEST_BYTES]:
            raise ValueError("the check sum does not fit")
        with np.load(io.BytesIO(content[_DIGEST_BYTES:]), allow_pickle=False) as columns:
            if str(columns["of"]) != path.parent.name:
                raise ValueError("it is of something else")
            return Chunk(
                start=int(columns["start"]),
                present=_prefixed(columns, "present."),
                vectors=_prefixed(columns, "vectors."),
                content=columns["content"],
                refused=[(row, m, why) for row, m, why in json.loads(str(columns["refused"]))],
            )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        _log.warning("%s is damaged (%s): its rows are computed again", path, error)
        return None


def _prefixed(columns: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): columns[name] for name in columns if name.startswith(prefix)}
