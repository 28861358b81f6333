"""A dataset in other units: seen through adapters."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import WHOLE, Dataset, Raw, SampleTable, or_error
from shared.errors import DataError
from shared.schema import Adapter


class AdaptedDataset(Dataset):
    """A dataset seen through adapters that the user chose, modality by modality."""

    def __init__(self, dataset: Dataset, adapters: Mapping[str, Adapter]) -> None:
        unknown = set(adapters) - set(dataset.schemas)
        if unknown:
            raise DataError(
                f"data.adapters names {sorted(unknown)}, but {dataset.name} gives "
                f"{sorted(dataset.schemas)}."
            )
        self.describe_as(dataset)
        self._dataset, self._adapters = dataset, adapters
        self.schemas = {
            modality: adapters[modality].convert_schema(schema) if modality in adapters else schema
            for modality, schema in dataset.schemas.items()
        }

    @property
    def caption_counts(self) -> Sequence[int] | None:
        return self._dataset.caption_counts

    def make_table(self) -> SampleTable:
        return self._dataset.table

    def read(self, index: int) -> Raw:
        return self._adapt(*self._dataset.parts(index))

    def read_only(self, index: int, modalities: Collection[str]) -> Raw:
        return self._adapt(*self._dataset.parts(index, modalities))

    def _adapt(self, given: Mapping[str, Any], errors: Mapping[str, DataError]) -> Raw:
        if WHOLE in errors:
            raise errors[WHOLE]
        raw: dict[str, Any] = {**given, **errors}
        for modality, adapter in self._adapters.items():
            if modality in given:
                schema = self._dataset.schemas[modality]
                raw[modality] = or_error(adapter.convert, schema, given[modality])
        return raw

    def file(self, index: int, modality: str) -> str:
        return self._dataset.file(index, modality)

    def order(
        self, rows: NDArray[np.int64], rng: np.random.Generator, batch_size: int
    ) -> NDArray[np.int64]:
        return self._dataset.order(rows, rng, batch_size)

    def content(self, raw: Raw) -> Raw:
        return self._dataset.content(raw)

    def content_fingerprint(self) -> str:
        names = ",".join(f"{m}={a.name}" for m, a in sorted(self._adapters.items()))
        return f"{self._dataset.content_fingerprint()}|{names}"
