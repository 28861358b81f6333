"""From raw inputs to tensors: one preprocessor a modality, saved with the weights."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shared.schema import Array, Channel, Schema

if TYPE_CHECKING:
    from torch import Tensor

Prepared = Mapping[str, Array]
"""One prepared sample of one modality: named arrays, of any length along their first axis."""


def pick(number: int, rng: np.random.Generator | None) -> int:
    """Which of so many views of a sample is read: any of them in training, the first without rng.

    Nothing is drawn of one, so that what else is drawn for the sample stays the same.
    """
    return 0 if rng is None or number == 1 else int(rng.integers(number))


class Preprocessor(ABC):
    """Raw input of one modality → named arrays → a padded batch of tensors.

    A subclass takes `schema` (what the dataset gives, or what it took when it was saved) as its
    first argument and calls `super().__init__` with the channels it uses.

    Attributes:
        takes: The channels it reads, in the order in which `__call__` receives them.
        settings: What the constructor was given; with `takes` and `state` it rebuilds the object.
        remedy: What helps where a model has it and data do not give what it takes; empty: an
            adapter may.
    """

    remedy: str = ""

    def __init__(
        self, schema: Schema, used: tuple[Channel, ...], settings: Mapping[str, Any]
    ) -> None:
        """Raises SchemaError when the schema lacks a channel or has it in another unit."""
        name = type(self).__name__
        schema.select(used, taker=name, given_by="the dataset", remedy=self.remedy)
        channels = tuple(schema.channel(c.name) for c in used)
        self.takes = replace(schema, channels=channels)
        self.settings = dict(settings)

    @property
    @abstractmethod
    def sizes(self) -> Mapping[str, int]:
        """What an encoder has to know (`in_channels`, `input_length`, …), handed to its constructor
        by parameter name."""

    @abstractmethod
    def __call__(self, raw: Any) -> Prepared:
        """Raw input with the channels of `takes` → arrays, without batch axis.

        Raises:
            DataError: The input cannot be normalised (for example, it is constant).
        """

    def fit(self, raws: Iterable[Any]) -> None:  # noqa: B027 - most have nothing to learn
        """Learn statistics from the raw inputs of the training split; default: nothing."""

    def state(self) -> dict[str, Any]:
        """What `fit` learned, as plain data."""
        return {}

    def load_state(self, state: Mapping[str, Any]) -> None:  # noqa: B027 - see fit
        """Inverse of `state`."""

    def views(self, prepared: Prepared) -> Sequence[Prepared] | None:
        """All that `crop` may give of an input, each as likely, the one of evaluation first; None
        where it draws more than can be listed, such as a random window. Default: the whole input,
        or None where a subclass crops in its own way."""
        return [prepared] if type(self).crop is Preprocessor.crop else None

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        """Random window (training) or fixed window (rng None); default: one of the views."""
        views = self.views(prepared)
        assert views is not None
        return views[pick(len(views), rng)]

    def collate(self, samples: Sequence[Prepared]) -> dict[str, "Tensor"]:
        """Stack samples to (batch, …) tensors, zero-padding the first axis of every array whose
        lengths differ; `mask` arrays are padded with False.

        A preprocessor with sequences must give a `mask` array, True where there is data.
        """
        import torch

        batch: dict[str, Tensor] = {}
        for name in samples[0]:
            arrays = [np.asarray(sample[name]) for sample in samples]
            if arrays[0].ndim == 0:
                batch[name] = torch.from_numpy(np.stack(arrays))
                continue
            length = max(len(array) for array in arrays)
            padded = np.zeros((len(arrays), length, *arrays[0].shape[1:]), arrays[0].dtype)
            for row, array in zip(padded, arrays, strict=True):
                row[tuple(slice(n) for n in array.shape)] = array
            batch[name] = torch.from_numpy(padded)
        return batch


class Series(NamedTuple):
    """The measured values along a sequence, of a batch.

    Attributes:
        values: (rows, length) float, as the encoder sees them.
        error: (rows, length) float, standard deviations of `values`; 0 where it is not known.
        present: (rows, length) bool, True where something was measured.
    """

    values: "Tensor"
    error: "Tensor"
    present: "Tensor"


class SeriesPreprocessor(Preprocessor):
    """Of a modality that is one quantity measured along a sequence, such as flux over time: it says
    where the measurements are in a collated batch, so that an objective can hide and predict them.
    """

    @abstractmethod
    def series(self, inputs: Mapping[str, "Tensor"]) -> Series:
        """The measurements in collated inputs."""

    @abstractmethod
    def hide(self, inputs: Mapping[str, "Tensor"], hidden: "Tensor") -> dict[str, "Tensor"]:
        """Inputs without the measurements at some positions.

        Args:
            inputs: Collated; they stay as they are.
            hidden: (rows, length) bool.

        Returns:
            Inputs whose values and errors are 0 at these positions, and `hidden` itself, which
            encoders with a mask token read.
        """
