"""Conversions between schemas; the user names one, none is applied silently."""

from dataclasses import replace

import numpy as np

from shared.errors import DataError
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


# Blondin & Tonry 2007 (ApJ 666, 1024): a spline through 13 knots over SNID's range of wavelengths
_KNOTS = 13
_RANGE = (2500.0, 10000.0)  # Angstrom
_FAINTEST = 1e-3
_SPECTRUM = (Channel("wavelength", "Angstrom"), Channel("flux"))


def continuum(wavelength: Array, flux: Array, measured: Array) -> Array:
    """(n,) smooth continuum of a spectrum, positive everywhere.

    As in SNID: 2500 to 10000 Angstrom is cut into 13 intervals of equal ln wavelength, and a cubic
    spline is laid through the mean of each, here in ln flux against ln wavelength, so that it stays
    positive; it goes on as a power law beyond the outermost knots, and intervals beyond SNID's
    range have the same width. An interval whose mean is below 1/1000 of the brightest one, or
    negative, gives no knot, and the continuum is nowhere lower than that.

    Args:
        wavelength: (n,) Angstrom, in any order.
        flux: (n,) in any unit.
        measured: (n,) bool, the points that count.

    Raises:
        DataError: No interval has a positive mean.
    """
    from scipy.interpolate import CubicSpline

    x = np.log(wavelength)
    width = np.log(_RANGE[1] / _RANGE[0]) / _KNOTS
    interval = np.floor((x - np.log(_RANGE[0])) / width).astype(int)
    members = [measured & (interval == number) for number in np.unique(interval[measured])]
    knots = np.array([[x[inside].mean(), flux[inside].mean()] for inside in members]).reshape(-1, 2)
    if not (knots[:, 1] > 0).any():
        raise DataError(
            "spectra: the flux has no positive mean anywhere, so there is no continuum to divide "
            "by. Leave this spectrum out."
        )
    faintest = _FAINTEST * knots[:, 1].max()
    knots = knots[knots[:, 1] >= faintest]
    if len(knots) == 1:
        return np.full(len(x), knots[0, 1])
    spline = CubicSpline(knots[:, 0], np.log(knots[:, 1]), bc_type="natural")
    inside = np.clip(x, knots[0, 0], knots[-1, 0])
    level: Array = np.exp(spline(inside) + spline(inside, 1) * (x - inside))
    return np.asarray(np.maximum(level, faintest))


def _flatten_schema(schema: Schema) -> Schema:
    wavelength, _ = schema.select(
        _SPECTRUM, taker="the adapter divide_continuum", given_by="the dataset"
    )
    return replace(schema, channels=(schema.channels[wavelength], Channel("flattened_flux")))


def _flatten(schema: Schema, raw: Array) -> Array:
    positions = schema.select(_SPECTRUM, taker="divide_continuum", given_by="the dataset")
    wavelength, flux = np.asarray(raw, dtype=np.float64)[:, positions].T
    measured = flux != 0
    if "inverse_variance" in schema.names:
        measured &= raw[:, schema.names.index("inverse_variance")] > 0
    flattened = np.where(measured, flux / continuum(wavelength, flux, measured) - 1, 0.0)
    return np.stack([wavelength, flattened], axis=1)


DIVIDE_CONTINUUM = Adapter("divide_continuum", _flatten_schema, _flatten)
"""wavelength [Angstrom], flux → wavelength, flattened_flux: flux / `continuum` - 1, without unit.

Points with flux 0 or inverse variance 0 are not measured and become 0, as in SNID's templates. The
inverse variance and further channels are left out: such spectra are published without them."""
