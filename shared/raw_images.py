"""Images as users have them (files, folders, Pillow's, arrays of several kinds) → arrays."""

from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.image_files import IMAGE, IMAGE_SUFFIXES, read_image, rgb_pixels
from shared.errors import DataError
from shared.files import inside
from shared.schema import Schema

BY_NAME = (
    "Bands of an image come by name, as a mapping: of a GeoTIFF, zoo.read_geotiff(path, bands=[…])."
)


def is_image(schema: Schema) -> bool:
    """Whether a modality is a picture of any channels."""
    return schema.axes == IMAGE.axes


def files_in(value: Any) -> list[Path] | None:
    """The images right in a folder, by name; None where the value is no folder.

    Folders in it, hidden files and files of other suffixes than `IMAGE_SUFFIXES` are left out.

    Raises:
        DataError: There is none, or one is a link that leads out of the folder.
    """
    if not isinstance(value, str | Path) or not (folder := Path(value).expanduser()).is_dir():
        return None
    files = [p for p in folder.iterdir() if p.is_file() and not p.name.startswith(".")]
    images = sorted(inside(folder, p) for p in files if p.suffix.lower() in IMAGE_SUFFIXES)
    if not images:
        raise DataError(
            f"{folder}: holds no image ({', '.join(IMAGE_SUFFIXES)}); folders in it are not read."
        )
    return images


def open_image(value: Any, schema: Schema, where: str) -> Any:
    """A path or an image of Pillow's as the array that `read_image` makes; all else as it is.

    Raises:
        DataError: It is no 8-bit image of a known format, or the model takes no such images.
    """
    from PIL.Image import Image

    is_file = isinstance(value, str | Path)
    if not is_file and not isinstance(value, Image):
        return value
    if (schema.names, schema.dtype) != (IMAGE.names, IMAGE.dtype):
        raise DataError(f"{where}: a file of colours, and {takes(schema)}. {BY_NAME}")
    if not is_file:
        return rgb_pixels(value, f"{where}: {schema.modality}")
    path = Path(value).expanduser()
    if path.is_dir():
        raise DataError(f"{where}: {path} is a folder: give it alone, outside of a list.")
    try:
        return read_image(path)
    except DataError as error:
        remedy = f" {BY_NAME}" if path.suffix.lower() in (".tif", ".tiff") else ""
        raise DataError(f"{where}: {error}{remedy}") from error


def check_image(
    array: NDArray[Any], kinds: Collection[np.dtype[Any]], schema: Schema, where: str
) -> None:
    """Hold an array against the shape of an image and, where the model takes bytes, against numbers
    that fit into them and were not meant as such.

    Args:
        array: In the dtype of the schema.
        kinds: In which its channels came.
        schema: Of an image.
        where: The input, for the message.

    Raises:
        DataError: It is no (height, width, channel) of as many channels; it came as 16-bit numbers,
            or as fractions of 1, of which all happen to be 0 or 1.
    """
    number = len(schema.channels)
    if array.ndim != 3 or array.shape[2] != number:
        if array.ndim == 4:
            remedy = "Give several images as a list of them: list(images)."
        elif array.ndim == 3 and array.shape[0] == number:
            remedy = "Put the channels last: numpy.moveaxis(image, 0, -1)."
        else:
            remedy = BY_NAME
        raise DataError(
            f"{where}: {schema.modality} has shape {array.shape}, and {takes(schema)}. {remedy}"
        )
    if schema.dtype != "uint8":
        return
    highest = array.max(initial=0)
    fractions = all(kind.kind == "f" for kind in kinds) and 0 < highest <= 1
    wide = any(kind.kind in "iu" and kind.itemsize == 2 for kind in kinds)
    if fractions or wide or any(kind.kind == "b" for kind in kinds):
        raise DataError(
            f"{where}: {schema.modality} is {', '.join(sorted(map(str, kinds)))} with numbers up "
            f"to {highest:g}, and {takes(schema)}. Which of them become 0 and 255 is a choice, "
            "made for data by an adapter (`zoo list adapters`); then give them as uint8."
        )


def takes(schema: Schema) -> str:
    """What a model takes, for the middle of a message."""
    ranges = {channel.valid_range for channel in schema.channels}
    low, high = ranges.pop() if len(ranges) == 1 else (None, None)
    span = f" from {low:g} to {high:g}" if low is not None and high is not None else ""
    channels = ", ".join(map(str, schema.channels)) if not span else ", ".join(schema.names)
    return f"the model takes ({', '.join(schema.axes)}) of {channels}, {schema.dtype}{span}"
