"""Conversions between schemas of light curves; the user names one, none is applied silently."""

from dataclasses import replace

import numpy as np

from shared.schema import Adapter, Array, Channel, Schema

AB_ZERO_POINT = 3.631e6
"""Flux density [mJy] of AB magnitude 0: 3631 Jy, Oke & Gunn 1983 (ApJ 266, 713)."""

_MADE = {
    "magnitude": Channel("flux", "mJy"),
    "magnitude_error": Channel("flux_error", "mJy", (np.finfo(np.float64).tiny, None)),
}
_TAKEN = (Channel("magnitude", "mag"), Channel("magnitude_error", "mag"))


def _convert_schema(schema: Schema) -> Schema:
    schema.select(_TAKEN, taker="the adapter ab_magnitude_to_flux", given_by="the dataset")
    return replace(schema, channels=tuple(_MADE.get(c.name, c) for c in schema.channels))


def _convert(schema: Schema, raw: Array) -> Array:
    magnitude, error = schema.select(_TAKEN, taker="ab_magnitude_to_flux", given_by="the dataset")
    made = np.array(raw, dtype=np.float64)
    made[..., magnitude] = AB_ZERO_POINT * 10 ** (-0.4 * made[..., magnitude])
    # first-order propagation: dF = 0.4 ln(10) F dm
    made[..., error] *= 0.4 * np.log(10) * made[..., magnitude]
    return made


AB_MAGNITUDE_TO_FLUX = Adapter("ab_magnitude_to_flux", _convert_schema, _convert)
"""magnitude, magnitude_error [mag] → flux, flux_error [mJy]; other channels stay as they are.

Magnitudes are taken as AB whatever the band. For Vega magnitudes (the B and V of most supernova
photometry) the fluxes are then off by a constant factor of a few per cent, up to two near U and in
the infrared, which `LightCurve` mostly removes by scaling."""
