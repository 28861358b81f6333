"""Raw inputs as users have them → arrays in the channel order of a schema."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError, SchemaError, suggest
from shared.raw_images import check_image, files_in, is_image, open_image
from shared.schema import Channel, Schema


def as_list(value: Any, schema: Schema | None) -> list[Any]:
    """One raw input or several → several; a folder stands for the images right in it.

    Args:
        value: What a user gives of a modality.
        schema: Of that modality; None: the model has no such.

    Raises:
        DataError: A folder without images.
    """
    if isinstance(value, list | tuple):
        return list(value)
    files = files_in(value) if schema is not None and is_image(schema) else None
    return [value] if files is None else [*files]


def as_array(value: Any, schema: Schema, where: str) -> Any:
    """A raw input in the channel order of a schema; mappings and tables are stacked by name, files
    and images of Pillow's are read where the schema is of 8-bit red, green and blue.

    Raises:
        SchemaError: A table lacks a channel, or has it in another unit.
        DataError: Values are masked, complex or no numbers; an image cannot be read, or is of
            another shape or scale.
    """
    if is_image(schema):
        value = open_image(value, schema, where)
    if isinstance(value, str) or not schema.channels:
        return value
    if hasattr(value, "keys"):
        columns = [_column(value, channel, schema, where) for channel in schema.channels]
        kinds = {np.asarray(value[name]).dtype for name in schema.names}
        if len({column.shape for column in columns}) > 1:
            raise DataError(f"{where}: the columns of {schema.modality} differ in length.")
        array = np.stack(columns, axis=-1)
    else:
        if getattr(value, "unit", None) is not None:
            raise SchemaError(
                f"{where}: {schema.modality} is an array with one unit ({value.unit}); give a "
                f"table of the columns {', '.join(map(str, schema.channels))}."
            )
        array = _numbers(value, schema, f"{where}: {schema.modality}")
        kinds = {np.asarray(value).dtype}
    if is_image(schema):
        check_image(array, kinds, schema, where)
    return array


def _column(value: Any, channel: Channel, schema: Schema, where: str) -> NDArray[Any]:
    """The numbers of one channel of a mapping or table."""
    names = list(value.keys())
    if channel.name not in names:
        raise SchemaError(
            f"{where}: {schema.modality}: the input lacks channel {channel}. "
            f"{suggest(channel.name, names)}"
        )
    column = value[channel.name]
    unit = getattr(column, "unit", None)
    if unit is not None and str(unit).replace(" ", "") != channel.unit:
        raise SchemaError(
            f"{where}: {schema.modality}: column {channel.name} is in {unit}, the model takes "
            f"{channel}. Convert it first, such as by table[{channel.name!r}].to(…)."
        )
    return _numbers(column, schema, f"{where}: {schema.modality}: {channel.name}")


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
        remedy = "Scale it back, such as by (255 * x).round()."
        if np.isnan(low):
            remedy = "Fill what is no number first."
        elif high > 1:
            remedy = "Which of them become 0 and 255 is a choice, made for data by an adapter."
        raise DataError(
            f"{where} has numbers from {low:g} to {high:g}, and the model takes whole ones from 0 "
            f"to {np.iinfo(converted.dtype).max}. {remedy}"
        )
    return converted
