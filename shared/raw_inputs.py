"""Raw inputs as users have them → arrays in the channel order of a schema."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError, SchemaError, suggest
from shared.schema import Schema


def as_array(value: Any, schema: Schema, where: str) -> Any:
    """A raw input in the channel order of a schema; mappings and tables are stacked by name.

    Raises:
        SchemaError: A table lacks a channel, or has it in another unit.
        DataError: Values are masked, complex or no numbers.
    """
    if isinstance(value, str) or not schema.channels:
        return value
    if not hasattr(value, "keys"):
        if getattr(value, "unit", None) is not None:
            raise SchemaError(
                f"{where}: {schema.modality} is an array with one unit ({value.unit}); give a "
                f"table of the columns {', '.join(map(str, schema.channels))}."
            )
        return _numbers(value, schema, f"{where}: {schema.modality}")
    names = list(value.keys())
    for channel in schema.channels:
        if channel.name not in names:
            raise SchemaError(
                f"{schema.modality}: the input lacks channel {channel}. "
                f"{suggest(channel.name, names)}"
            )
    columns = []
    for channel in schema.channels:
        column, unit = value[channel.name], getattr(value[channel.name], "unit", None)
        if unit is not None and str(unit).replace(" ", "") != channel.unit:
            raise SchemaError(
                f"{where}: {schema.modality}: column {channel.name} is in {unit}, the model takes "
                f"{channel}. Convert it first, such as by table[{channel.name!r}].to(…)."
            )
        columns.append(_numbers(column, schema, f"{where}: {schema.modality}: {channel.name}"))
    if len({column.shape for column in columns}) > 1:
        raise DataError(f"{where}: the columns of {schema.modality} differ in length.")
    return np.stack(columns, axis=-1)


def _numbers(value: Any, schema: Schema, where: str) -> NDArray[Any]:
    """Plain numbers of the schema's dtype; never what hides under a mask."""
    if np.ma.is_masked(value):
        raise DataError(f"{where} has masked values. Remove these rows.")
    try:
        array = np.asarray(value)
        if array.dtype.kind not in "biuf":
            raise TypeError(f"it holds {array.dtype}")
        with np.errstate(invalid="ignore"):  # numbers that do not fit are told below
            converted = array.astype(schema.dtype, copy=False)
    except (TypeError, ValueError) as error:
        raise DataError(f"{where} is no array of real numbers: {error}.") from error
    if np.dtype(schema.dtype).kind == "u" and not np.array_equal(converted, array):
        low, high = np.min(array), np.max(array)
        raise DataError(
            f"{where} has numbers from {low:g} to {high:g}, and the model takes whole ones from 0 "
            f"to {np.iinfo(converted.dtype).max}. Scale it back, such as by (255 * x).round()."
        )
    return converted
