"""Images with several captions: a sample is an image in training, a caption in evaluation."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from shared.data.dataset import SAMPLE, WHOLE, Dataset, Raw, SampleTable
from shared.data.generic import TEXT
from shared.errors import DataError
from shared.schema import Schema

CAPTIONS = Schema("text", ("caption",), (), "str")
"""What a dataset says of its `text` where a sample's is a tuple of captions."""


def has_captions(schema: Schema) -> bool:
    """Whether a modality may hold several texts a sample."""
    return schema.dtype == "str" and schema.axes == CAPTIONS.axes


class CaptionRows(Dataset):
    """A dataset of images with captions, seen with one row a caption.

    Row `<image id>#<k>` (k from 0) is the image with its caption k; the rows of an image are
    neighbours and give the same objects for all that is not text, since it is read once. What is
    known of the image is known of each row, its group and split too. The annotation `SAMPLE` says
    which rows show one image: these are each other's positives in retrieval, and of one modality
    an image counts once.

    Args:
        dataset: Of which some modality holds captions (`CAPTIONS`).
        counts: Captions of every sample, at least one.
    """

    def __init__(self, dataset: Dataset, counts: Sequence[int]) -> None:
        self.describe_as(dataset)
        self.schemas = {
            modality: replace(TEXT, modality=modality) if has_captions(schema) else schema
            for modality, schema in dataset.schemas.items()
        }
        self._dataset = dataset
        self._samples = np.repeat(np.arange(len(counts)), counts)
        first = np.cumsum([0, *counts[:-1]])
        self._captions = np.arange(len(self._samples)) - first[self._samples]
        self._last: tuple[int, dict[str, Any], dict[str, DataError]] = (-1, {}, {})

    def make_table(self) -> SampleTable:
        base, rows = self._dataset, self._samples
        ids = base.ids[rows]
        return SampleTable(
            ids=[f"{name}#{k}" for name, k in zip(ids, self._captions, strict=True)],
            labels=base.labels[rows],
            classes=base.classes,
            groups=base.groups[rows].tolist(),
            splits=base.splits[rows].tolist(),
            tags={name: values[rows] for name, values in base.tags.items()},
            targets={name: values[rows] for name, values in base.targets.items()},
            subgroups={name: values[rows] for name, values in base.subgroups.items()},
            annotations={
                SAMPLE: ids,
                **{n: values[rows] for n, values in base.annotations.items()},
            },
        )

    def read(self, index: int) -> Raw:
        sample, number = int(self._samples[index]), int(self._captions[index])
        if self._last[0] != sample:
            self._last = (sample, *self._dataset.parts(sample))
        _, given, errors = self._last
        if WHOLE in errors:
            raise errors[WHOLE]
        raw: dict[str, Any] = {**given, **errors}
        for modality in given:
            if has_captions(self._dataset.schemas[modality]):
                raw[modality] = self._caption(given[modality], number, index)
        return raw

    def _caption(self, texts: str | Sequence[str], number: int, index: int) -> str:
        captions = (texts,) if isinstance(texts, str) else texts
        if number < len(captions):
            return captions[number]
        raise DataError(
            f"{self.where(index)}: has {len(captions)} captions, where its dataset counts more. "
            "The file has changed meanwhile: start anew."
        )

    def content(self, raw: Raw) -> Raw:
        """The image: a copy of it is one whatever its captions are."""
        schemas = self._dataset.schemas
        return {m: value for m, value in raw.items() if not has_captions(schemas[m])} or raw

    def file(self, index: int, modality: str) -> str:
        return self._dataset.file(int(self._samples[index]), modality)

    def content_fingerprint(self) -> str:
        return f"{self._dataset.fingerprint}, a row a caption"
