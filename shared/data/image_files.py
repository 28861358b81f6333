"""Files of pictures → arrays of red, green and blue."""

import io
import logging
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError
from shared.schema import Channel, Schema
from shared.untrusted import read_bytes

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageFile import ImageFile

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")
RGB = tuple(Channel(name, valid_range=(0, 255)) for name in ("red", "green", "blue"))
IMAGE = Schema("image", ("height", "width", "channel"), RGB, "uint8")

# Only these decoders are tried: Pillow has others that start external programs.
_FORMATS = ("PNG", "JPEG", "TIFF", "WEBP", "BMP")
# Pillow's modes of at most 8 bits a channel whose conversion to RGB keeps the values' meaning.
_MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr")
_BITS_PER_SAMPLE, _SAMPLES_PER_PIXEL, _STRIP_BYTE_COUNTS = 258, 277, 279  # tags of TIFF 6.0
_SAMPLE_FORMAT, _SIGNED = 339, 2
_BMP_HEADER = b"\x28\0\0\0"  # the common one, after which nothing follows the pixels
# what Pillow logs of a broken file is in the error that it raises, too
logging.getLogger("PIL").addHandler(logging.NullHandler())


def read_image(path: Path) -> NDArray[np.uint8]:
    """(height, width, 3) array of red, green and blue, converted as `ImageFolder` says.

    Raises:
        DataError: Not a whole image of a known format, more than 8 bits a channel, several pages,
            or so large when decoded that Pillow takes it for a decompression bomb.
    """
    return decode_image(read_bytes(path), str(path))


def decode_image(content: bytes, where: str) -> NDArray[np.uint8]:
    """`read_image` of the content of a file; `where` names it, for messages."""
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of odd tags, and of sizes that are not yet too large
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                _check_image(image, where, content)
                image.verify()  # the check sums of PNG, of which decoding leaves out some
            with Image.open(io.BytesIO(content), formats=_FORMATS) as image:
                return rgb_pixels(image, where)
    except Image.DecompressionBombError as error:
        raise DataError(f"{where}: {error} Scale it down or cut it into tiles.") from error
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise almost any kind on broken files
        why: object = error
        if isinstance(error, UnidentifiedImageError):  # its message is of the object in memory
            why = "its content is of another kind" if content else "it is empty"
        raise DataError(
            f"{where}: is not a whole {', '.join(_FORMATS)} image ({why}). Get it anew, or remove "
            "it."
        ) from error


def rgb_pixels(image: "Image", where: str) -> NDArray[np.uint8]:
    """An image of Pillow's → (height, width, 3), converted as `ImageFolder` says.

    Raises:
        DataError: More than 8 bits a channel, or other channels than grey or colours.
    """
    from PIL import ImageOps

    _check_colours(image, where)
    upright = ImageOps.exif_transpose(image)
    if image.mode in ("P", "PA"):
        upright = upright.convert("RGBA")  # resolves the palette's transparent entries
    return np.array(upright.convert("RGB"))


def _check_colours(image: "Image", where: str) -> None:
    if image.mode not in _MODES or _bits(image) > 8:
        raise DataError(
            f"{where}: is an image of mode {image.mode} with more than 8 bits a channel, or with "
            "other channels than grey or colours. Scale it to 8-bit RGB yourself: which values "
            "become 0 and 255 is a choice."
        )
    if image.format == "TIFF" and _SIGNED in image.tag_v2.get(_SAMPLE_FORMAT, ()):  # type: ignore[attr-defined]
        raise DataError(
            f"{where}: holds signed numbers, which are no colours. Convert it yourself."
        )


def _check_image(image: "ImageFile", where: str, content: bytes) -> None:
    _check_colours(image, where)
    if (rows := _rows_stored(image, content)) != image.height:
        raise DataError(
            f"{where}: holds {rows} rows of pixels, where its header states {image.height}, which "
            "is damaged or not of this image. Get it anew."
        )
    pages = getattr(image, "n_frames", 1)
    if pages > 1 and image.format != "MPO":  # a camera's JPEG with a preview is one picture
        raise DataError(f"{where}: holds {pages} pages or frames. Save each one as a file.")


def _bits(image: "Image") -> int:
    """Bits a channel in the file: Pillow opens 16-bit colour as mode RGB without a word."""
    if image.format == "TIFF":
        return int(max(image.tag_v2.get(_BITS_PER_SAMPLE, (1,))))  # type: ignore[attr-defined]
    deep = image.format == "PNG" and any(
        ";16" in str(tile[3])
        for tile in image.tile  # type: ignore[attr-defined]
    )
    return 16 if deep else 8


def _rows_stored(image: "ImageFile", content: bytes) -> int:
    """Rows of pixels that an uncompressed image holds. Pillow reads as many as the header states:
    it leaves out the others, and fills in what a TIFF lacks, both without a word."""
    if image.format == "BMP" and content[14:18] == _BMP_HEADER:
        tile: Any = image.tile[0]
        if tile.codec_name == "raw":
            stored = int((len(content) - tile.offset) // tile.args[1])
            return max(stored, image.height)  # fewer are an error of Pillow's
    if image.format == "TIFF" and image.info.get("compression") == "raw":
        tags = image.tag_v2  # type: ignore[attr-defined]
        if _STRIP_BYTE_COUNTS in tags:
            bits = image.width * tags.get(_SAMPLES_PER_PIXEL, 1) * _bits(image)
            return int(sum(tags[_STRIP_BYTE_COUNTS]) // ((bits + 7) // 8))
    return image.height
