"""Spectral bands: names and units of the channels of multispectral images."""

from collections.abc import Sequence

from shared.schema import Channel

REFLECTANCE = "reflectance"
"""Unit of the share of light that is reflected: 1 is all of it. No FITS unit: it tells reflectance
from the numbers of a picture, which have no unit, either."""

REFLECTANCE_RANGE = (-1.0, 7.0)
"""What reflectance can be in a real product: atmospheric correction goes below 0, slopes in the sun
and clouds above 1, and 16 bits in steps of 1e-4 reach 6.5535. Beyond it, nothing was scaled."""

SENTINEL2 = {
    "B01": "coastal",
    "B02": "blue",
    "B03": "green",
    "B04": "red",
    "B05": "rededge071",
    "B06": "rededge075",
    "B07": "rededge078",
    "B08": "nir",
    "B8A": "nir08",
    "B09": "nir09",
    "B10": "cirrus",
    "B11": "swir16",
    "B12": "swir22",
}
"""Band of Sentinel-2's MSI → channel: the common names of STAC's extension Electro-Optical."""


def channels(names: Sequence[str], unit: str, allow_missing: bool) -> tuple[Channel, ...]:
    """Channels of one unit, `REFLECTANCE` with its range."""
    bounds = REFLECTANCE_RANGE if unit == REFLECTANCE else (None, None)
    return tuple(Channel(name, unit, bounds, allow_missing) for name in names)
