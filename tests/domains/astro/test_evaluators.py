"""Simple features against closed forms."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from domains.astro.datasets.simulated import SimulatedVariableStars
from domains.astro.evaluators import SPECTRUM_BINS, VARIABLE_STARS
from domains.astro.schemas import PHOTOMETRY, SPECTRA
from shared.errors import SchemaError
from shared.schema import Channel, Schema

FEATURES = VARIABLE_STARS.simple_features


def test_light_curve_summary() -> None:
    raw = np.array([[0, 1, 0.1], [1, 1, 0.2], [2, 4, 0.6]])
    made = FEATURES["photometry"](PHOTOMETRY, raw)
    # mean 2, variance 2, third moment (-1 - 1 + 8) / 3 = 2
    np.testing.assert_allclose(made, [3, 2, np.sqrt(2), 3, 2 / 2**1.5, 0.2])
    constant = np.array([[0, 1, 0.1], [1, 1, 0.1]])
    assert np.isfinite(FEATURES["photometry"](PHOTOMETRY, constant)).all()
    with pytest.raises(SchemaError, match="flux and flux_error"):
        FEATURES["photometry"](SPECTRA, raw)


@given(scale=st.floats(1e-3, 1e3))
def test_binned_spectrum_is_the_shape_of_the_spectrum(scale: float) -> None:
    centre = (SPECTRUM_BINS[1:] + SPECTRUM_BINS[:-1]) / 2
    flux = scale * np.linspace(1, 3, 64)
    raw = np.stack([centre, flux, np.ones(64)], axis=1)[::-1]
    np.testing.assert_allclose(FEATURES["spectra"](SPECTRA, raw), np.linspace(1, 3, 64) / 2)


def test_bins_without_a_point_are_interpolated() -> None:
    raw = np.array([[3850.0, 1, 1], [9000, 2, 1]])
    made = FEATURES["spectra"](SPECTRA, raw)
    assert (np.diff(made) > 0).all()


def test_missing_columns_are_told() -> None:
    schema = Schema("metadata", ("channel",), (Channel("a"), Channel("b", allow_missing=True)))
    assert FEATURES["metadata"](schema, np.array([2.0, np.nan])).tolist() == [2, 0, 1]
    assert FEATURES["metadata"](schema, np.array([2.0, 0.0])).tolist() == [2, 0, 0]


def test_features_of_the_simulated_sky_are_finite() -> None:
    dataset = SimulatedVariableStars(50)
    for index in range(50):
        for modality, value in dataset[index].items():
            made = FEATURES[modality](dataset.schemas[modality], value)
            assert made.ndim == 1
            assert np.isfinite(made).all()
