"""Embeddings of a whole dataset, extracted once and cached."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Dataset
from shared.data.prepared import Progress, silent
from shared.errors import DataError, EvaluationError, SchemaError, UnknownNameError, suggest
from shared.evaluation.embedding_set import EmbeddingSet
from shared.evaluation.evaluator import Evaluator
from shared.schema import Schema

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
        DataError: A sample cannot be read.
    """
    modalities = embedder.modalities(dataset.schemas)
    path = None
    if cache is not None and embedder.revision:
        parts = (version("domain-zoo"), embedder.revision, dataset.fingerprint, *modalities)
        key = "|".join(parts)
        path = cache / f"{hashlib.sha256(key.encode()).hexdigest()[:24]}.npz"
        if (found := _cached(path)) is not None:
            # the same weights may go by another name now
            return replace(found, model=embedder.name)

    def embed(raws: Sequence[Mapping[str, Any]]) -> dict[str, list[Vectors | None]]:
        return {m: _embed_present(embedder, m, raws, dataset.schemas[m]) for m in modalities}

    rows = _collect(dataset, modalities, embed, batch_size, progress, f"embedding {dataset.name}")
    embeddings = _assemble(dataset, rows, embedder.name)
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

    def compute(raws: Sequence[Mapping[str, Any]]) -> dict[str, list[Vectors | None]]:
        return {
            m: [f(dataset.schemas[m], raw[m]) if m in raw else None for raw in raws]
            for m, f in functions.items()
        }

    rows = _collect(dataset, tuple(functions), compute, 64, progress, "simple features")
    return _assemble(dataset, rows, "simple features")


def _collect(
    dataset: Dataset,
    modalities: Sequence[str],
    compute: Callable[[Sequence[Mapping[str, Any]]], dict[str, list[Vectors | None]]],
    batch_size: int,
    progress: Progress,
    what: str,
) -> dict[str, list[Vectors | None]]:
    """Vectors of all samples, in order, reading a batch at a time."""
    rows: dict[str, list[Vectors | None]] = {m: [] for m in modalities}
    chunk: list[Mapping[str, Any]] = []
    for index in progress(range(len(dataset)), what):
        chunk.append(dataset[index])
        if len(chunk) == batch_size or index == len(dataset) - 1:
            for modality, vectors in compute(chunk).items():
                rows[modality] += vectors
            chunk = []
    return rows


def _embed_present(
    embedder: Embedder, modality: str, raws: Sequence[Mapping[str, Any]], schema: Schema
) -> list[Vectors | None]:
    have = [raw[modality] for raw in raws if modality in raw]
    vectors: Iterable[Vectors] = iter(embedder.embed(modality, have, schema) if have else ())
    return [next(iter(vectors)) if modality in raw else None for raw in raws]


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
        model: Any,
        name: str,
        output: str,
        device: str,
        precision: str,
        chosen: Sequence[str] | None = None,
    ) -> None:
        """`chosen`: modalities to embed; None: all that model and data share."""
        self.name, self._model = name, model
        self._modalities = tuple(model.modalities if chosen is None else chosen)
        for modality in self._modalities:
            if modality not in model.modalities:
                raise UnknownNameError(
                    f"{name} has no modality {modality!r}. {suggest(modality, model.modalities)}"
                )
        self._options = {"output": output, "device": device, "precision": precision}
        self.revision = f"{model.fingerprint()}|{output}|{precision}"

    def modalities(self, schemas: Mapping[str, Schema]) -> tuple[str, ...]:
        both = tuple(m for m in self._modalities if m in schemas)
        if not both:
            raise SchemaError(
                f"{self.name} is to embed {', '.join(self._modalities)}; the data give "
                f"{', '.join(schemas)}: nothing in common."
            )
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
        vectors: Vectors = self._model.embed(**{modality: inputs}, **self._options)
        return vectors

    def _positions(self, modality: str, schema: Schema) -> list[int]:
        taken = self._model.schemas[modality].channels
        return schema.select(taken, taker=self.name, given_by="the dataset")
