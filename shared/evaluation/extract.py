"""Embeddings of a whole dataset, extracted once and cached."""

import hashlib
import logging
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Dataset, Raw, hash_files
from shared.data.prepared import Progress, silent
from shared.data.skipping import skipped_of
from shared.errors import DataError, EvaluationError, SchemaError
from shared.evaluation.embedding_set import EmbeddingSet
from shared.evaluation.evaluator import Evaluator
from shared.inference import shared_modalities
from shared.schema import Schema

if TYPE_CHECKING:
    from shared.model import Model

_log = logging.getLogger(__name__)

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

    Args:
        embedder: A model.
        dataset: The samples.
        batch_size: Samples read and embedded at a time.
        cache: Folder of embeddings, keyed by the embedder's revision and the data fingerprint.
        progress: Wraps the iteration with a progress bar.

    Raises:
        SchemaError: The dataset gives nothing that the embedder takes.
        DataError: A sample cannot be read or prepared; where errors are skipped, more than half.
    """
    modalities = embedder.modalities(dataset.schemas)
    path = None
    if cache is not None and embedder.revision:
        versions = [version(name) for name in ("domain-zoo", "torch", "numpy")]
        parts = (*versions, embedder.revision, dataset.fingerprint, *modalities)
        key = "|".join(parts)
        path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
        if (found := _cached(path)) is not None:
            # the same weights may go by another name now
            return replace(found, model=embedder.name)

    def embed(raws: Mapping[int, Raw]) -> dict[str, dict[int, Vectors]]:
        return {m: _embed_present(embedder, m, raws, dataset) for m in modalities}

    rows = _collect(dataset, modalities, embed, batch_size, progress, f"embedding {dataset.name}")
    used = {m: sum(v is not None for v in column) for m, column in rows.items()}
    dataset.check_skipped(used, len(dataset))
    embeddings = replace(_assemble(dataset, rows, embedder.name), skipped=skipped_of(dataset))
    if path is not None:
        try:
            embeddings.save(path)
        except DataError as error:
            _log.warning("embeddings are not cached: %s", error)
    return embeddings


def _cached(path: Path) -> EmbeddingSet | None:
    """What the cache holds; a damaged entry is as good as none."""
    try:
        return EmbeddingSet.load(path) if path.is_file() else None
    except EvaluationError:
        return None


def simple_features(
    evaluator: Evaluator, dataset: Dataset, modalities: Sequence[str], progress: Progress = silent
) -> EmbeddingSet | None:
    """The evaluator's simple features of every sample; None where it has none for these
    modalities."""
    functions = {m: f for m, f in evaluator.simple_features.items() if m in modalities}
    if not functions:
        return None

    def compute(raws: Mapping[int, Raw]) -> dict[str, dict[int, Vectors]]:
        return {
            m: {row: f(dataset.schemas[m], raw[m]) for row, raw in raws.items() if m in raw}
            for m, f in functions.items()
        }

    rows = _collect(dataset, tuple(functions), compute, 64, progress, "simple features")
    return _assemble(dataset, rows, "simple features")


def _collect(
    dataset: Dataset,
    modalities: Sequence[str],
    compute: Callable[[Mapping[int, Raw]], dict[str, dict[int, Vectors]]],
    batch_size: int,
    progress: Progress,
    what: str,
) -> dict[str, list[Vectors | None]]:
    """Vectors of all samples, in order, reading a batch at a time."""
    rows: dict[str, list[Vectors | None]] = {m: [] for m in modalities}
    chunk: dict[int, Raw] = {}
    for index in progress(range(len(dataset)), what):
        chunk[index] = dataset[index]
        if len(chunk) == batch_size or index == len(dataset) - 1:
            for modality, vectors in compute(chunk).items():
                rows[modality] += [vectors.get(row) for row in chunk]
            chunk = {}
    return rows


def _embed_present(
    embedder: Embedder, modality: str, raws: Mapping[int, Raw], dataset: Dataset
) -> dict[int, Vectors]:
    """Vectors by row, of those that have the modality."""
    schema = dataset.schemas[modality]
    have = {row: raw[modality] for row, raw in raws.items() if modality in raw}
    if not have:
        return {}
    try:
        vectors = embedder.embed(modality, list(have.values()), schema)
    except DataError:
        have = _usable(embedder, modality, have, dataset)
        if not have:
            return {}
        vectors = embedder.embed(modality, list(have.values()), schema)
    return dict(zip(have, vectors, strict=True))


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
            dataset.refuse(row, modality, DataError(f"{dataset.where(row, modality)}: {error}"))
    return usable


def _assemble(
    dataset: Dataset, rows: Mapping[str, Sequence[Vectors | None]], name: str
) -> EmbeddingSet:
    vectors, present = {}, {}
    for modality, column in rows.items():
        width = next((len(v) for v in column if v is not None), None)
        if width is None:
            continue
        absent = np.full(width, np.nan)
        stacked = np.stack([absent if v is None else np.asarray(v) for v in column])
        vectors[modality] = stacked.astype(np.float32)
        present[modality] = np.array([v is not None for v in column])
    if not vectors:
        raise DataError(f"{dataset.name}: no sample has any of {', '.join(rows)}.")
    return EmbeddingSet(
        ids=dataset.ids,
        vectors=vectors,
        present=present,
        labels=dataset.labels,
        classes=dataset.classes,
        splits=dataset.splits,
        groups=dataset.groups,
        dataset=dataset.title,
        model=name,
        synthetic=dataset.synthetic,
        fingerprint=dataset.fingerprint,
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
        self.revision = f"{model.fingerprint()}|{_code_of(model)}|{output}|{precision}"

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

    def _positions(self, modality: str, schema: Schema) -> list[int]:
        taken = self._model.schemas[modality].channels
        remedy = self._model.preprocessors[modality].remedy
        return schema.select(taken, taker=self.name, given_by="the dataset", remedy=remedy)


def _code_of(model: "Model") -> str:
    """Hash of the files that define what a model is made of, since its code may change under one
    version while it is being written."""
    parts = (*model.modules(), *model.preprocessors.values())
    classes = {kind for part in parts for kind in type(part).__mro__ if kind is not object}
    files = {getattr(sys.modules.get(kind.__module__), "__file__", None) for kind in classes}
    return hash_files([Path(file) for file in files if file])
