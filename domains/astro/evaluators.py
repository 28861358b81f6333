"""How embeddings of variable stars are judged, and the features a careful person tries first."""

import numpy as np
from numpy.typing import NDArray

from domains.astro.thumbnails import light_curve, spectrum
from shared.errors import SchemaError
from shared.evaluation.evaluator import STANDARD, Evaluator
from shared.schema import Array, Schema

SPECTRUM_BINS = np.linspace(3850.0, 9000.0, 65)
"""Edges [Angstrom] of the 64 bins, over the range that AstroM3 uses."""


def light_curve_summary(schema: Schema, raw: Array) -> NDArray[np.float64]:
    """(6,) count, mean, standard deviation, range and skewness of the flux or magnitude, and the
    median error.

    Raises:
        SchemaError: There is neither a flux nor a magnitude with its error.
    """
    for name in ("flux", "magnitude"):
        if name in schema.names and f"{name}_error" in schema.names:
            values = np.asarray(raw[:, schema.names.index(name)], dtype=np.float64)
            error = np.median(raw[:, schema.names.index(f"{name}_error")])
            std = values.std()
            skewness = ((values - values.mean()) ** 3).mean() / std**3 if std > 0 else 0.0
            return np.array([len(values), values.mean(), std, np.ptp(values), skewness, error])
    raise SchemaError(
        f"{schema.modality}: simple features need flux and flux_error, or magnitude and "
        f"magnitude_error; the dataset gives {', '.join(schema.names)}."
    )


def binned_spectrum(schema: Schema, raw: Array) -> NDArray[np.float64]:
    """(64,) mean flux, or flattened flux, in equal bins of wavelength, over the mean absolute flux
    of all bins; an empty bin takes the value interpolated at its centre. Spectra without wavelength
    are taken to lie on a regular grid over the range."""
    name = "flattened_flux" if "flattened_flux" in schema.names else "flux"
    wavelength = np.linspace(SPECTRUM_BINS[0], SPECTRUM_BINS[-1], len(raw))
    if "wavelength" in schema.names:
        wavelength = np.asarray(raw[:, schema.names.index("wavelength")], dtype=np.float64)
    order = np.argsort(wavelength)
    wavelength = wavelength[order]
    flux = np.asarray(raw[order, schema.names.index(name)], dtype=np.float64)
    count, _ = np.histogram(wavelength, SPECTRUM_BINS)
    total, _ = np.histogram(wavelength, SPECTRUM_BINS, weights=flux)
    centre = (SPECTRUM_BINS[1:] + SPECTRUM_BINS[:-1]) / 2
    bins = np.where(count > 0, total / np.maximum(count, 1), np.interp(centre, wavelength, flux))
    level = np.abs(bins).mean()
    return np.asarray(bins / level if level > 0 else bins)


def catalogue_columns(schema: Schema, raw: Array) -> NDArray[np.float64]:
    """The columns as they are, then one 0/1 column for each that may be missing. A missing value
    is 0, which the 0/1 column tells from a measured 0."""
    row = np.asarray(raw, dtype=np.float64)
    missing = np.isnan(row)
    optional = np.array([channel.allow_missing for channel in schema.channels], dtype=bool)
    return np.concatenate([np.where(missing, 0.0, row), missing[optional]])


VARIABLE_STARS = Evaluator(
    protocols=(*STANDARD, "nearest_neighbour"),
    simple_features={
        "photometry": light_curve_summary,
        "spectra": binned_spectrum,
        "metadata": catalogue_columns,
    },
    thumbnails={"photometry": light_curve, "spectra": spectrum},
)
