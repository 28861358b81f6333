"""Samples that were preprocessed before, such as those of AstroM3Processed."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from domains.astro.preprocess.light_curve import crop_window, require_positive
from domains.astro.preprocess.series import LightCurveSeries, SpectrumSeries
from domains.astro.schemas import PROCESSED_PHOTOMETRY, PROCESSED_SPECTRA
from shared.errors import ConfigError, DataError
from shared.preprocess import Prepared, Preprocessor, Series
from shared.schema import Array, Channel, Schema

if TYPE_CHECKING:
    from torch import Tensor

_REMEDY = (
    "It takes processed samples. If the weights were imported, import them again with "
    "statistics=info.json: that makes a model of stars as measured."
)


def _dimensionless(schema: Schema) -> tuple[Channel, ...]:
    """All channels of a schema; one with a unit then does not fit."""
    return tuple(Channel(channel.name) for channel in schema.channels)


def _require_names(schema: Schema, names: tuple[str, ...]) -> None:
    if schema.names[: len(names)] != names:
        raise ConfigError(
            f"{schema.modality}: what is measured stands in the channels {', '.join(names)}; the "
            f"dataset gives {', '.join(schema.names)}. Name and order them so."
        )


class ProcessedLightCurve(LightCurveSeries):
    """A table that is scaled already: `values` (n, channels) float32 and `mask` (n,), True.

    Rows stay in their order. Shorter ones are padded with zeros in all channels, as in the code of
    AstroM3 that reads AstroM3Processed.

    Args:
        schema: Any channels without units.
        max_length: Longest window that `crop` keeps.

    Raises:
        ConfigError: `max_length` is not positive.
    """

    flux_column = 1
    remedy = _REMEDY

    def __init__(self, schema: Schema, max_length: int = 200) -> None:
        super().__init__(schema, _dimensionless(schema), {"max_length": max_length})
        self.max_length = require_positive("ProcessedLightCurve", max_length)

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": len(self.takes.channels), "input_length": self.max_length}

    def __call__(self, raw: Array) -> Prepared:
        return {"values": raw.astype(np.float32), "mask": np.ones(len(raw), dtype=bool)}

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        """As `LightCurve.crop`."""
        return crop_window(prepared, self.max_length, rng)

    def series(self, inputs: Mapping[str, "Tensor"]) -> Series:
        """Raises ConfigError unless the channels begin as those of AstroM3Processed."""
        _require_names(self.takes, PROCESSED_PHOTOMETRY.names[:3])
        return super().series(inputs)


class ProcessedSpectrum(SpectrumSeries):
    """A spectrum that is scaled already: `values` (channels, length) float32.

    Args:
        schema: Any channels without units.
        length: Points of the grid.

    Raises:
        ConfigError: `length` is not positive.
    """

    remedy = _REMEDY

    def __init__(self, schema: Schema, length: int = 2575) -> None:
        super().__init__(schema, _dimensionless(schema), {"length": length})
        self.length = require_positive("ProcessedSpectrum", length, "length")

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": len(self.takes.channels), "input_length": self.length}

    def __call__(self, raw: Array) -> Prepared:
        if len(raw) != self.length:
            raise DataError(
                f"spectra: a processed spectrum of {len(raw)} points, and the model takes "
                f"{self.length}. Give one on the model's grid, or raw spectra to a model that "
                "takes those."
            )
        return {"values": np.ascontiguousarray(raw.T, dtype=np.float32)}

    def series(self, inputs: Mapping[str, "Tensor"]) -> Series:
        """Raises ConfigError unless the channels are those of AstroM3Processed."""
        _require_names(self.takes, PROCESSED_SPECTRA.names)
        return super().series(inputs)


class ProcessedMetadata(Preprocessor):
    """A catalogue row that is standardised already: `values` (channels,) float32.

    Args:
        schema: Any channels without units.
    """

    remedy = _REMEDY

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, _dimensionless(schema), {})

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"in_channels": len(self.takes.channels)}

    def __call__(self, raw: Array) -> Prepared:
        return {"values": raw.astype(np.float32)}
