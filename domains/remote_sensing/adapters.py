"""Conversions between schemas; the user names one, none is applied silently."""

from dataclasses import replace

import numpy as np

from domains.remote_sensing.bands import REFLECTANCE
from shared.data.image_files import RGB
from shared.schema import Adapter, Array, Channel, Schema

WHITE = 0.3
"""Reflectance that becomes 255: the range that TorchGeo's EuroSAT is drawn with, 0–3000 in steps of
1e-4 (torchgeo/datasets/eurosat.py). Never of the image: the same field stays of one colour."""

_TAKEN = tuple(Channel(channel.name, REFLECTANCE) for channel in RGB)


def _positions(schema: Schema) -> list[int]:
    return schema.select(_TAKEN, taker="the adapter true_colour", given_by="the dataset")


def _convert_schema(schema: Schema) -> Schema:
    _positions(schema)
    return replace(schema, channels=RGB, dtype="uint8")


def _convert(schema: Schema, raw: Array) -> Array:
    """(height, width, channel) reflectance → (height, width, 3) uint8. No data becomes 0, as in the
    true-colour image of Sentinel-2's products (ESA, Sentinel-2 MSI user guide, definitions)."""
    colours = np.nan_to_num(raw[..., _positions(schema)] / WHITE)
    return (255 * np.clip(colours, 0, 1)).round().astype(np.uint8)


TRUE_COLOUR = Adapter("true_colour", _convert_schema, _convert)
"""Red, green and blue [reflectance] → a picture of 8 bits; other bands are left out."""
