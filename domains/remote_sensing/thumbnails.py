"""Images of the Earth and sentences about them as small pictures, for galleries and maps."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from domains.remote_sensing.adapters import WHITE
from domains.remote_sensing.bands import REFLECTANCE
from shared.data.dataset import Raw
from shared.evaluation.pictures.figures import plain
from shared.evaluation.pictures.thumbnails import MAX_PIXELS, SHOWN_PERCENTILES
from shared.evaluation.pictures.thumbnails import draw_text as draw_text
from shared.schema import Schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

COLOURS = ("red", "green", "blue")
EIGHT_BITS = (0.0, 255.0)


def draw_image(axes: "Axes", schemas: Mapping[str, Schema], raw: Raw) -> None:
    """True colour where the image has red, green and blue; else its first three bands, or its only
    one in grey, with their names.

    Reflectance from 0 to 0.3 goes from black to white, as in the adapter `true_colour`; what is
    stated to lie within 0 … 255, that; anything else, the middle 98 % of each band. No data is
    black.

    Args:
        axes: Empty axes.
        schemas: Of the dataset.
        raw: A sample with `image`, (height, width, channel).
    """
    schema, image = schemas["image"], np.asarray(raw["image"])
    names = COLOURS if set(COLOURS) <= set(schema.names) else _first_bands(schema)
    step = max(1, -(-max(image.shape[:2]) // MAX_PIXELS))
    bands = image[::step, ::step, [schema.names.index(name) for name in names]].astype(np.float64)
    low, high = _range(schema, names[0], bands)
    shown = np.nan_to_num(np.clip((bands - low) / np.maximum(high - low, 1e-12), 0, 1))
    axes.imshow(shown[..., 0] if len(names) == 1 else shown, cmap="gray", vmin=0, vmax=1)
    if names != COLOURS:
        box = {"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1}
        axes.text(
            0.02,
            0.97,
            plain(", ".join(names)),
            ha="left",
            va="top",
            fontsize=6.5,
            bbox=box,
            transform=axes.transAxes,
        )
    axes.set_adjustable("datalim")  # all frames of a gallery are equal, whatever the image's shape
    axes.set_xticks([])
    axes.set_yticks([])


def _first_bands(schema: Schema) -> tuple[str, ...]:
    return schema.names[:3] if len(schema.names) >= 3 else schema.names[:1]


def _range(schema: Schema, name: str, bands: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What is black and what is white, of each band."""
    channel = schema.channel(name)
    if channel.unit == REFLECTANCE:
        return np.array(0.0), np.array(WHITE)
    if channel.valid_range == EIGHT_BITS:
        return np.array(EIGHT_BITS[0]), np.array(EIGHT_BITS[1])
    low, high = np.nanpercentile(bands, SHOWN_PERCENTILES, axis=(0, 1))
    return low, high
