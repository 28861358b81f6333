"""What a modality holds: channels with units, a shape rule and a dtype.

A dataset states the schema of what it gives, a preprocessor the channels it takes; `Schema.select`
compares the two and `Schema.check` holds one raw input against its schema. Adapters between
schemas are named functions that the user chooses; nothing is converted or filled silently.
"""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError, DataError, SchemaError, suggest
from shared.settings import check_fields

Array = NDArray[Any]

DTYPES = ("float64", "float32", "uint8", "str", "mapping")
POSITIVE = (float(np.finfo(np.float64).tiny), None)
"""`valid_range` of what has to be above 0: bounds are inclusive, this is the next number."""


@dataclass(frozen=True)
class Channel:
    """One measured quantity.

    Attributes:
        name: Noun, such as `flux`.
        unit: Unit of the values, in the spelling of the FITS standard (`d`, `mJy`, `Angstrom`,
            `mag`); empty for dimensionless values.
        valid_range: Smallest and largest value that can be right; None leaves a side open.
        allow_missing: Whether NaN is a legitimate "not measured" (the preprocessor handles it).
    """

    name: str
    unit: str = ""
    valid_range: tuple[float | None, float | None] = (None, None)
    allow_missing: bool = False

    def __str__(self) -> str:
        return f"{self.name} [{self.unit or 'dimensionless'}]"


@dataclass(frozen=True)
class Schema:
    """What one modality of one dataset holds.

    Attributes:
        modality: Name of the modality.
        axes: Shape rule: the name of each axis, the last one being `channel` where the input has
            channels. `("time", "channel")` is any number of times by the listed channels; of
            texts, `("caption",)` is one or more a sample, `()` one.
        channels: The channels in the order of the last axis; empty for text.
        dtype: One of `DTYPES`.
    """

    modality: str
    axes: tuple[str, ...]
    channels: tuple[Channel, ...] = ()
    dtype: str = "float64"

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(channel.name for channel in self.channels)

    def channel(self, name: str) -> Channel:
        return self.channels[self.names.index(name)]

    def select(
        self, required: tuple[Channel, ...], *, taker: str, given_by: str, remedy: str = ""
    ) -> list[int]:
        """Positions in this schema of the channels a model takes.

        Args:
            required: The channels.
            taker: Who takes them, for the message.
            given_by: Who gives this schema, for the message.
            remedy: What helps where they do not fit; by default an adapter.

        Raises:
            SchemaError: A channel is not given, or given in another unit.
        """
        remedy = remedy or _adapter_hint(self.modality)
        for wanted in required:
            if wanted.name not in self.names:
                near = f" {suggest(wanted.name, self.names)}" if self.names else ""
                raise SchemaError(
                    f"{self.modality}: {taker} takes channel {wanted}, which {given_by} does not "
                    f"give.{near} {remedy}"
                )
            given = self.channel(wanted.name)
            if given.unit != wanted.unit:
                raise SchemaError(
                    f"{self.modality}: {taker} takes channel {wanted}, {given_by} gives {given}. "
                    f"{remedy}"
                )
        return [self.names.index(channel.name) for channel in required]

    def check(self, value: object, where: str) -> None:
        """Hold one raw input against this schema.

        Args:
            value: Array of shape `axes` (the last axis in the order of `channels`); where `dtype`
                says so, a str (with an axis, a tuple of them too), or a mapping whose contents the
                preprocessor checks.
            where: File, row or sample id, for the message.

        Raises:
            DataError: Wrong kind, shape, number of channels, a NaN or a value out of range.
        """
        if self.dtype == "str":
            texts = value if self.axes and isinstance(value, tuple) else (value,)
            if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
                kind = "non-empty text, nor a tuple of such" if self.axes else "non-empty text"
                raise DataError(f"{where}: {self.modality} is not a {kind}.")
            return
        if self.dtype == "mapping":
            if not isinstance(value, Mapping):
                kind = type(value).__name__
                raise DataError(f"{where}: {self.modality} is a {kind}, not a mapping of arrays.")
            return
        if not isinstance(value, np.ndarray):
            raise DataError(
                f"{where}: {self.modality} is a {type(value).__name__}, not an array of shape "
                f"({', '.join(self.axes)})."
            )
        if value.ndim != len(self.axes) or 0 in value.shape:
            raise DataError(
                f"{where}: {self.modality} has shape {value.shape}, not ({', '.join(self.axes)})."
            )
        if self.channels and value.shape[-1] != len(self.channels):
            raise DataError(
                f"{where}: {self.modality} has {value.shape[-1]} channels, not "
                f"{len(self.channels)} ({', '.join(self.names)})."
            )
        for position, channel in enumerate(self.channels):
            _check_channel(value[..., position], channel, f"{where}: {self.modality}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, as written beside weights."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "Schema":
        """Inverse of `to_dict`.

        Raises:
            ConfigError: It is not what `to_dict` gives.
        """
        check_fields(cls, data, "a schema", whole=True)
        where = f"the schema of {data['modality']}"
        for channel in data["channels"]:
            check_fields(Channel, channel, f"a channel in {where}", whole=True)
        if data["dtype"] not in DTYPES:
            raise ConfigError(f"{where}: dtype={data['dtype']!r} is none of {', '.join(DTYPES)}.")
        channels = tuple(
            Channel(c["name"], c["unit"], tuple(c["valid_range"]), c["allow_missing"])
            for c in data["channels"]
        )
        return cls(data["modality"], tuple(data["axes"]), channels, data["dtype"])


def _adapter_hint(modality: str) -> str:
    return f"An adapter may make it: data.adapters.{modality}=NAME (`zoo list adapters`)."


def _check_channel(values: Array, channel: Channel, where: str) -> None:
    """Raise a DataError for values that cannot be right."""
    bad = np.isinf(values) if channel.allow_missing else ~np.isfinite(values)
    if bad.any():
        row = int(np.argwhere(bad)[0][0]) if values.ndim else 0
        raise DataError(
            f"{where}: channel {channel.name!r} is {values[bad].flat[0]} in row {row} "
            f"({int(bad.sum())} such values). Remove or mask these rows."
        )
    low, high = channel.valid_range
    wrong = np.zeros(values.shape, dtype=bool)
    if low is not None:
        wrong |= values < low
    if high is not None:
        wrong |= values > high
    if wrong.any():
        row = int(np.argwhere(wrong)[0][0]) if values.ndim else 0
        raise DataError(
            f"{where}: channel {channel} is {values[wrong].flat[0]:g} in row {row}, but has to be "
            f"{_range_text(channel)}. Check the unit and mask bad points."
        )


def _range_text(channel: Channel) -> str:
    low, high = channel.valid_range
    lower = "> 0" if low == POSITIVE[0] else f">= {low:g}" if low is not None else ""
    upper = f"<= {high:g}" if high is not None else ""
    return " and ".join(filter(None, (lower, upper)))


@dataclass(frozen=True)
class Adapter:
    """An explicit conversion of one modality from one schema to another.

    Attributes:
        name: What a user writes after `data.adapters.<modality>=`.
        convert_schema: Schema given → schema made; raises SchemaError where it does not apply.
        convert: Raw input of the first schema → raw input of the second.
    """

    name: str
    convert_schema: Callable[[Schema], Schema]
    convert: Callable[[Schema, Array], Array]
