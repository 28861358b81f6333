"""OpenCV, whose rounding and drawing are part of the definition of semantic localisation."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError
from shared.optional import import_optional

Image = NDArray[np.uint8]

CROP_SIZE = 256
"""Side to which every window is scaled, pixels. Source: RS5M's `selo` code."""


def opencv() -> Any:
    """The module `cv2`.

    Raises:
        DependencyError: It is not installed.
    """
    return import_optional("cv2", "remote-sensing", "semantic_localisation")


def jpeg_round_trip(image: Image) -> Image:
    """An image written as JPEG at OpenCV's default quality, 95, and read back.

    Args:
        image: (height, width) grey or (height, width, 3) red, green, blue; uint8.

    Raises:
        DataError: OpenCV cannot write it: JPEG has no side above 65535 pixels.
    """
    cv2 = opencv()
    grey = image.ndim == 2
    try:
        _, content = cv2.imencode(".jpg", image if grey else image[..., ::-1])
        read: Any = cv2.imdecode(content, cv2.IMREAD_GRAYSCALE if grey else cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise DataError(f"an image of shape {image.shape} cannot be written as JPEG.") from error
    return np.ascontiguousarray(read if grey else read[..., ::-1], dtype=np.uint8)


def crop(scene: Image, window: NDArray[np.int64]) -> Image:
    """A window of a scene as the model is given it: scaled to 256 × 256 by OpenCV's cubic
    interpolation, which does not smooth when it scales down, then a JPEG round trip.

    Args:
        scene: (height, width, 3) uint8.
        window: (4,) as in `windows`.

    Returns:
        (256, 256, 3) uint8.
    """
    cv2 = opencv()
    top, bottom, left, right = window.tolist()
    cut = np.ascontiguousarray(scene[top:bottom, left:right])
    scaled = cv2.resize(cut, (CROP_SIZE, CROP_SIZE), interpolation=cv2.INTER_CUBIC)
    return jpeg_round_trip(np.asarray(scaled, dtype=np.uint8))
