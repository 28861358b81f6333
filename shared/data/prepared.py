"""A dataset as a model sees it: selected channels, preprocessed, cropped by a counted state."""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from shared.data.batch import EMBEDDED, Batch, PreparedSample, collate
from shared.data.dataset import Dataset, Raw
from shared.data.stored import StoredEmbeddings
from shared.errors import DataError, SchemaError
from shared.preprocess import Prepared, Preprocessor, pick
from shared.random import sample_seed

Progress = Callable[[Sequence[int], str], Iterable[int]]
"""Wraps an iteration with a progress bar: (rows, what) → the same rows."""


def silent(rows: Sequence[int], what: str) -> Iterable[int]:
    """No progress bar."""
    return rows


class PreparedDataset:
    """Samples of a dataset through the preprocessors of a model.

    Indexed by `(epoch, row)`; what is random in a sample is a function of (seed, epoch, id).
    `epoch=None` asks for the fixed crop of evaluation, and for draws that are always the same.

    Args:
        dataset: The samples.
        preprocessors: By modality. One that the dataset lacks is an error.
        seed: Of the random crops and views.
        in_memory: Keep what `load` prepared; otherwise every access reads and prepares anew.

    Raises:
        SchemaError: The dataset lacks a modality or a channel, or has it in another unit.
    """

    def __init__(
        self,
        dataset: Dataset,
        preprocessors: Mapping[str, Preprocessor],
        seed: int = 0,
        in_memory: bool = True,
    ) -> None:
        for modality in preprocessors:
            if modality not in dataset.schemas:
                raise SchemaError(
                    f"{dataset.name} does not give {modality}; it gives "
                    f"{', '.join(sorted(dataset.schemas))}."
                )
        self.dataset, self.preprocessors, self.seed = dataset, preprocessors, seed
        self._positions = {
            modality: dataset.schemas[modality].select(
                preprocessor.takes.channels,
                taker=type(preprocessor).__name__,
                given_by=dataset.name,
            )
            for modality, preprocessor in preprocessors.items()
        }
        # without groups each sample is its own
        no_groups = dataset.table.groups is None
        self._groups = (
            np.arange(len(dataset))
            if no_groups
            else np.unique(dataset.groups, return_inverse=True)[1]
        )
        self._memory: dict[int, Mapping[str, Prepared]] | None = {} if in_memory else None
        self._templates: dict[str, Prepared] = {}
        self._stored: dict[str, StoredEmbeddings] = {}

    def use_stored(self, stored: Mapping[str, StoredEmbeddings]) -> None:
        """From now on, read these embeddings instead of the inputs of their modalities."""
        self._stored = dict(stored)
        for modality, embeddings in stored.items():
            if embeddings.dim:
                self._templates[modality] = {EMBEDDED: np.zeros(embeddings.dim, np.float32)}
            for row, part, reason in embeddings.refused:
                self.dataset.refuse(row, part, DataError(reason))

    def views(self, row: int, modalities: Collection[str]) -> dict[str, Sequence[Prepared] | None]:
        """All that may be read of some modalities of a sample, of those that it has; None where
        preprocessing draws more than can be listed."""
        prepared = self._prepare(row, modalities)
        return {m: self.preprocessors[m].views(value) for m, value in prepared.items()}

    def select(self, raw: Raw, modality: str) -> Any:
        """The channels of one modality that its preprocessor takes."""
        value = raw[modality]
        return value[..., self._positions[modality]] if self._positions[modality] else value

    def fit_preprocessors(
        self, rows: Sequence[int], progress: Progress = silent, keep: Collection[str] = ()
    ) -> None:
        """Let the preprocessors that learn something see these rows of the training split, except
        those of the modalities to `keep`."""
        for modality, preprocessor in self.preprocessors.items():
            if modality not in keep and type(preprocessor).fit is not Preprocessor.fit:
                seen = progress(rows, f"statistics of {modality}")
                try:
                    preprocessor.fit(self._raws(seen, modality))
                except DataError:
                    preprocessor.fit(self._raws(self._fitting(rows, modality), modality))

    def _raws(self, rows: Iterable[int], modality: str) -> Iterator[Any]:
        """One modality of the samples that have it."""
        for row in rows:
            raw = self.dataset.usable(row, [modality])
            if modality in raw:
                yield self.select(raw, modality)

    def _fitting(self, rows: Sequence[int], modality: str) -> list[int]:
        """Those rows that a preprocessor can learn from; the dataset is told of the others."""
        fitting = []
        for row in rows:
            for raw in self._raws([row], modality):
                try:
                    self.preprocessors[modality].fit([raw])
                    fitting.append(row)
                except DataError as error:
                    self._refuse(row, modality, error)
        return fitting

    def load(self, rows: Sequence[int], progress: Progress = silent) -> None:
        """Prepare these rows now, so that bad data speak before training starts.

        Raises:
            DataError: A sample cannot be read or prepared (where errors are skipped: more than
                half of them), or no sample has some modality.
        """
        counts = dict.fromkeys(self.preprocessors, 0)
        left = self._left()
        for row in progress(rows, f"reading {self.dataset.name}") if left else []:
            prepared = self._prepare(row, left)
            for modality, value in prepared.items():
                if modality not in self._templates:
                    self._templates[modality] = self.preprocessors[modality].crop(value, None)
                counts[modality] += 1
            if self._memory is not None:
                self._memory[row] = prepared
        for modality, embeddings in self._stored.items():
            counts[modality] = sum(len(embeddings.views(row)) > 0 for row in rows)
        self.dataset.check_skipped(counts, len(rows))
        for modality in self.preprocessors:
            if modality not in self._templates:
                raise DataError(
                    f"{self.dataset.name}: none of the {len(rows)} samples has {modality}."
                )

    def __getitem__(self, key: tuple[int | None, int]) -> PreparedSample:
        epoch, row = key
        memory = self._memory or {}
        prepared = memory[row] if row in memory else self._prepare(row, self._left())
        seed = sample_seed(self.seed, epoch, str(self.dataset.table.ids[row]))
        rng = None if epoch is None else np.random.default_rng(seed)
        inputs: dict[str, Prepared] = {}
        # in this order whatever is stored: all draw from one generator
        for modality, preprocessor in self.preprocessors.items():
            if modality in self._stored:
                views = self._stored[modality].views(row)
                if len(views):
                    inputs[modality] = {EMBEDDED: views[pick(len(views), rng)]}
            elif modality in prepared:
                inputs[modality] = preprocessor.crop(prepared[modality], rng)
        return PreparedSample(
            inputs, int(self.dataset.labels[row]), int(self._groups[row]), int(row), seed
        )

    def collate(self, samples: Sequence[PreparedSample]) -> Batch:
        """Join samples to a batch."""
        return collate(samples, self.preprocessors, self._templates)

    def _left(self) -> list[str]:
        """The modalities whose inputs are read."""
        return [m for m in self.preprocessors if m not in self._stored]

    def _prepare(self, row: int, modalities: Collection[str]) -> dict[str, Prepared]:
        if not modalities:
            return {}
        some = len(modalities) < len(self.preprocessors)
        raw = self.dataset.usable(row, modalities) if some else self.dataset[row]
        prepared = {}
        for modality in modalities:
            if modality in raw:
                try:
                    prepared[modality] = self.preprocessors[modality](self.select(raw, modality))
                except DataError as error:
                    self._refuse(row, modality, error)
        return prepared

    def _refuse(self, row: int, modality: str, error: DataError) -> None:
        where = self.dataset.where(row, modality)
        self.dataset.refuse(row, modality, DataError(f"{where}: {error}"))
