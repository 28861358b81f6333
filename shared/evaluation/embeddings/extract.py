"""Embeddings of a whole dataset, extracted once and cached; a killed extraction goes on."""

import hashlib
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.code_hash import code_hash
from shared.data.dataset import Dataset, Raw
from shared.data.prepared import Progress, silent
from shared.data.skipping import refused_of, skipped_of
from shared.errors import DataError, EvaluationError, SchemaError
from shared.evaluation.embeddings.chunks import Chunk, ChunkFolder, gaps, join
from shared.evaluation.embeddings.content import content_hash
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.evaluator import Evaluator
from shared.inference import shared_modalities
from shared.schema import Schema

if TYPE_CHECKING:
    from shared.model import Model

_log = logging.getLogger(__name__)

CHUNK_SECONDS = 30.0
"""Work that a kill may cost, at most; each chunk is a file."""
_FORMAT = "2"
"""Of what is cached: another one is extracted anew."""

Vectors = NDArray[np.floating[Any]]


class Embedder(Protocol):
    """Anything that turns raw inputs into vectors.

    Attributes:
        name: What stands beside its scores.
        revision: Equal only for equal weights, preprocessing and precision; empty where that
            cannot be known, and nothing is cached.
    """

    name: str
    revision: str

    def modalities(self, schemas: Mapping[str, Schema]) -> tuple[str, ...]:
        """Which modalities of a dataset with these schemas it embeds.

        Raises:
            SchemaError: None of them fits; the reason is given.
        """
        ...

    def embed(self, modality: str, raws: Sequence[Any], schema: Schema) -> Vectors:
        """(n,) raw inputs of one modality → (n, dim)."""
        ...


def extract(
    embedder: Embedder,
    dataset: Dataset,
    *,
    batch_size: int = 64,
    cache: Path | None = None,
    progress: Progress = silent,
) -> EmbeddingSet:
    """Embed every sample of a dataset, modality by modality.

    What is cached is found again by the embedder's revision (weights, preprocessing, precision),
    the data fingerprint, the modalities and the versions of zoo, torch and numpy. An extraction
    that takes longer than `CHUNK_SECONDS` is written there in chunks, so that one that was killed
    goes on where it was: with the same batch size, to the same numbers.

    Args:
        embedder: A model.
        dataset: The samples.
        batch_size: Samples read and embedded at a time.
        cache: Folder of the cache; nothing is cached of an embedder without a revision.
        progress: Wraps the iteration with a progress bar.

    Raises:
        SchemaError: The dataset gives nothing that the embedder takes.
        DataError: A sample cannot be read or prepared; where errors are skipped, more than half.
    """
    modalities = embedder.modalities(dataset.schemas)
    path = chunks = None
    if cache is not None and embedder.revision:
        path = cache / f"{_key(embedder, dataset, modalities)}.npz"
        chunks = ChunkFolder(path.with_suffix(""))
        if (found := _cached(path, embedder, dataset)) is not None:
            # the same weights may go by another name now
            return replace(found, model=embedder.name)

    last: dict[str, tuple[Any, Vectors]] = {}

    def embed(raws: Mapping[int, Raw]) -> dict[str, dict[int, Vectors]]:
        return {m: _embed_present(embedder, m, raws, dataset, last) for m in modalities}

    what = f"embedding {dataset.name}"
    whole = _collect(dataset, modalities, embed, batch_size, progress, what, chunks)
    dataset.check_skipped({m: int(p.sum()) for m, p in whole.present.items()}, len(dataset))
    embeddings = replace(
        _assemble(dataset, whole, embedder.name),
        revision=_hash(embedder.revision) if embedder.revision else "",
        skipped=skipped_of(dataset),
    )
    if path is not None and chunks is not None:
        try:
            embeddings.save(path)
            chunks.remove()
        except DataError as error:
            _log.warning("embeddings are not cached: %s", error)
    return embeddings


def _key(embedder: Embedder, dataset: Dataset, modalities: Sequence[str]) -> str:
    versions = [version(name) for name in ("domain-zoo", "torch", "numpy")]
    parts = (_FORMAT, *versions, embedder.revision, dataset.fingerprint, *modalities)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:24]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _cached(path: Path, embedder: Embedder, dataset: Dataset) -> EmbeddingSet | None:
    """What the cache holds; an entry that is damaged, or of another name than its own, is as good
    as none."""
    try:
        found = EmbeddingSet.load(path) if path.is_file() else None
    except EvaluationError:
        return None
    expected = (_hash(embedder.revision), dataset.fingerprint)
    if found is None or (found.revision, found.fingerprint) != expected:
        return None
    return found


def simple_features(
    evaluator: Evaluator, dataset: Dataset, modalities: Sequence[str], progress: Progress = silent
) -> EmbeddingSet | None:
    """The evaluator's simple features of every sample; None where it has none for these
    modalities, or none that fits their schemas."""
    functions = {m: f for m, f in evaluator.simple_features.items() if m in modalities}

    def compute(raws: Mapping[int, Raw]) -> dict[str, dict[int, Vectors]]:
        found: dict[str, dict[int, Vectors]] = {}
        for m, f in [*functions.items()]:
            try:
                have = {i: raw[m] for i, raw in raws.items() if m in raw}
                distinct, place = _distinct([*have.values()])
                features = [f(dataset.schemas[m], raw) for raw in distinct]
                found[m] = {i: features[p] for i, p in zip(have, place, strict=True)}
            except SchemaError as error:
                _log.warning("no simple features of %s: %s", m, error)
                del functions[m]
                if not functions:
                    raise
        return found

    if not functions:
        return None
    try:
        whole = _collect(dataset, tuple(functions), compute, 64, progress, "simple features")
    except SchemaError:
        return None
    vectors = {m: whole.vectors[m] for m in functions if m in whole.vectors}
    return _assemble(dataset, replace(whole, vectors=vectors), "simple features")


def _collect(
    dataset: Dataset,
    modalities: Sequence[str],
    compute: Callable[[Mapping[int, Raw]], dict[str, dict[int, Vectors]]],
    batch_size: int,
    progress: Progress,
    what: str,
    folder: ChunkFolder | None = None,
) -> Chunk:
    """Vectors of all samples, in order, a batch at a time; what the folder holds is not computed
    again."""
    n = len(dataset)
    chunks = [] if folder is None else folder.read(n)
    for row, modality, reason in (entry for chunk in chunks for entry in chunk.refused):
        dataset.refuse(row, modality, DataError(reason))
    spans = gaps(chunks, n)
    left = [row for start, stop in spans for row in range(start, stop)]
    if chunks:
        what = f"{what} ({n - len(left):,} of {n:,} done before)"
    span_ends = {stop for _, stop in spans}
    batch_ends = span_ends | {r for a, b in spans for r in range(a + batch_size, b, batch_size)}
    raws: dict[int, Raw] = {}
    fresh: list[Chunk] = []
    written = time.monotonic()
    for row in progress(left, what):
        raws[row] = dataset[row]
        if row + 1 not in batch_ends:
            continue
        # first: a function may write into what it is given
        contents = [content_hash(dataset.content(raw)) for raw in raws.values()]
        content = np.array(contents, dtype=np.str_)
        fresh.append(_chunk(dataset, content, row + 1, compute(raws), modalities))
        raws = {}
        if row + 1 in span_ends or time.monotonic() - written >= CHUNK_SECONDS:
            chunks.append(join(fresh))
            # the whole is saved next
            if folder is not None and row != left[-1]:
                folder.write(chunks[-1])
            fresh, written = [], time.monotonic()
    return join(sorted(chunks, key=lambda chunk: chunk.start))


def _chunk(
    dataset: Dataset,
    content: NDArray[np.str_],
    stop: int,
    found: Mapping[str, Mapping[int, Vectors]],
    modalities: Sequence[str],
) -> Chunk:
    """The vectors of the batch of consecutive rows before `stop`, one array a modality."""
    batch = range(stop - len(content), stop)
    present, vectors = {}, {}
    for modality in modalities:
        have = found.get(modality, {})
        present[modality] = np.array([row in have for row in batch])
        if have:
            width = len(next(iter(have.values())))
            rows = np.full((len(batch), width), np.nan, dtype=np.float32)
            rows[present[modality]] = np.stack([have[row] for row in batch if row in have])
            vectors[modality] = rows
    return Chunk(batch.start, present, vectors, content, refused_of(dataset, batch))


def _embed_present(
    embedder: Embedder,
    modality: str,
    raws: Mapping[int, Raw],
    dataset: Dataset,
    last: dict[str, tuple[Any, Vectors]],
) -> dict[int, Vectors]:
    """Vectors by row, of those that have the modality. `last` holds, by modality, the last input of
    the batch before and its vector, which the same object has here too: in bfloat16 another batch
    moves it by more than `copies` takes for rounding."""
    schema = dataset.schemas[modality]
    have = {row: raw[modality] for row, raw in raws.items() if modality in raw}
    if not have:
        return {}
    distinct, place = _distinct([*have.values()])
    try:
        vectors = embedder.embed(modality, distinct, schema)
    except DataError:
        have = _usable(embedder, modality, have, dataset)
        if not have:
            return {}
        distinct, place = _distinct([*have.values()])
        vectors = embedder.embed(modality, distinct, schema)
    vectors = np.array(vectors)
    if modality in last and distinct[0] is last[modality][0]:
        vectors[0] = last[modality][1]
    last[modality] = (distinct[-1], vectors[-1])
    return dict(zip(have, vectors[place], strict=True))


def _distinct(raws: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """The inputs without those that are the same object as the one before, such as an image that
    stands once a caption; and for each input its place among them."""
    distinct: list[Any] = []
    place = []
    for raw in raws:
        if not distinct or raw is not distinct[-1]:
            distinct.append(raw)
        place.append(len(distinct) - 1)
    return distinct, place


def _usable(
    embedder: Embedder, modality: str, raws: Mapping[int, Any], dataset: Dataset
) -> dict[int, Any]:
    """Those of a batch that can be embedded; the dataset is told of the others."""
    usable = {}
    for row, raw in raws.items():
        try:
            embedder.embed(modality, [raw], dataset.schemas[modality])
            usable[row] = raw
        except DataError as error:
            # what a model says of its first input, without the number, which is of no file
            reason = error.__cause__ if isinstance(error.__cause__, DataError) else error
            dataset.refuse(row, modality, DataError(f"{dataset.where(row, modality)}: {reason}"))
    return usable


def _assemble(dataset: Dataset, whole: Chunk, name: str) -> EmbeddingSet:
    if not whole.vectors:
        raise DataError(f"{dataset.name}: no sample has any of {', '.join(whole.present)}.")
    return EmbeddingSet(
        ids=dataset.ids,
        vectors=whole.vectors,
        present={m: whole.present[m] for m in whole.vectors},
        labels=dataset.labels,
        classes=dataset.classes,
        splits=dataset.splits,
        groups=dataset.groups,
        dataset=dataset.title,
        model=name,
        synthetic=dataset.synthetic,
        fingerprint=dataset.fingerprint,
        tags=dataset.tags,
        targets=dataset.targets,
        subgroups=dataset.subgroups,
        annotations=dataset.annotations,
        content=whole.content,
    )


class ZooEmbedder:
    """A zoo model as an embedder: selects the channels it takes from what the dataset gives."""

    def __init__(
        self,
        model: "Model",
        name: str,
        output: str,
        device: str,
        precision: str,
        chosen: Sequence[str] | None = None,
    ) -> None:
        """`chosen`: modalities to embed; None: all that model and data share."""
        self.name, self._model = name, model
        self._chosen = chosen
        self._options = {"output": output, "device": device, "precision": precision}
        code = code_hash([*model.modules(), *model.preprocessors.values()])
        self.revision = f"{model.fingerprint()}|{code}|{output}|{precision}"

    def modalities(self, schemas: Mapping[str, Schema]) -> tuple[str, ...]:
        both = shared_modalities(self._model, self.name, schemas, self._chosen)
        fitting, problems = [], []
        for modality in both:
            try:
                self._positions(modality, schemas[modality])
                fitting.append(modality)
            except SchemaError as error:
                problems.append(str(error))
        if problems:
            hint = f" Or leave it out: modalities=[{','.join(fitting)}]." if fitting else ""
            raise SchemaError(f"{' '.join(problems)}{hint}")
        return both

    def embed(self, modality: str, raws: Sequence[Any], schema: Schema) -> Vectors:
        positions = self._positions(modality, schema)
        inputs = [raw[..., positions] if positions else raw for raw in raws]
        options: dict[str, Any] = {modality: inputs, **self._options}
        vectors: Vectors = self._model.embed(**options)
        return vectors

    def of_prompts(self) -> "ZooEmbedder":
        """The same for prompts: before the unit norm, so that the average of several texts can be
        taken before it as well as after."""
        prompter = copy(self)
        if self._options["output"] == "projected":
            prompter._options = {**self._options, "output": "unnormalized"}
        return prompter

    def _positions(self, modality: str, schema: Schema) -> list[int]:
        taken = self._model.schemas[modality].channels
        remedy = self._model.preprocessors[modality].remedy
        return schema.select(taken, taker=self.name, given_by="the dataset", remedy=remedy)
