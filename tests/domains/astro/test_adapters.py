"""The adapters against their closed forms."""

import numpy as np
import pytest

from domains.astro.adapters import AB_MAGNITUDE_TO_FLUX, DIVIDE_CONTINUUM, continuum
from domains.astro.preprocess.light_curve import LightCurve
from domains.astro.preprocess.spectrum import Spectrum
from domains.astro.schemas import PHOTOMETRY, SPECTRA
from shared.errors import DataError, SchemaError
from shared.schema import Channel, Schema

MAGNITUDES = Schema(
    "photometry",
    ("time", "channel"),
    (
        Channel("magnitude_error", "mag"),
        Channel("time", "d"),
        Channel("magnitude", "mag"),
        Channel("airmass"),
    ),
)


def test_closed_form_whatever_the_order_of_the_channels() -> None:
    raw = np.array([[0.01, 100.0, 0.0, 1.2], [0.1, 101.0, 20.0, 1.3]])
    before = raw.copy()
    made = AB_MAGNITUDE_TO_FLUX.convert(MAGNITUDES, raw)
    flux = np.array([3631e3, 3631e3 * 1e-8])  # mJy
    error = flux * np.log(10) / 2.5 * raw[:, 0]
    np.testing.assert_allclose(
        made, np.stack([error, raw[:, 1], flux, raw[:, 3]], axis=1), rtol=1e-14
    )
    np.testing.assert_array_equal(raw, before)


def test_error_agrees_with_a_finite_difference() -> None:
    def flux(magnitude: float) -> float:
        row = np.array([[1e-4, 0.0, magnitude, 1.0]])
        return float(AB_MAGNITUDE_TO_FLUX.convert(MAGNITUDES, row)[0, 2])

    error = AB_MAGNITUDE_TO_FLUX.convert(MAGNITUDES, np.array([[1e-4, 0.0, 17.0, 1.0]]))[0, 0]
    assert error == pytest.approx((flux(17 - 1e-4) - flux(17 + 1e-4)) / 2, rel=1e-6)


def test_schema_is_that_of_the_simulator() -> None:
    made = AB_MAGNITUDE_TO_FLUX.convert_schema(MAGNITUDES)
    assert made.names == ("flux_error", "time", "flux", "airmass")
    for name in PHOTOMETRY.names:
        assert made.channel(name) == PHOTOMETRY.channel(name)
    assert LightCurve(made).takes.names == ("time", "flux", "flux_error")


def test_refuses_what_is_not_a_magnitude() -> None:
    with pytest.raises(SchemaError, match=r"takes channel magnitude \[mag\]"):
        AB_MAGNITUDE_TO_FLUX.convert_schema(PHOTOMETRY)


# ---------------------------------------------------------------- divide_continuum

GRID = np.geomspace(3700.0, 9100.0, 4000)
WIDTH = np.log(4) / 13  # of an interval, in ln wavelength
LINES = 0.1 * np.sin(2 * np.pi * np.log(GRID) / (WIDTH / 40))


def with_inverse_variance(flux: np.ndarray) -> np.ndarray:
    return np.stack([GRID, flux, np.full(len(GRID), 4.0)], axis=1)


@pytest.mark.parametrize("index", [-4.0, 0.0, 2.5])
def test_lines_on_a_power_law_are_recovered(index: float) -> None:
    raw = with_inverse_variance(3.0 * (GRID / 5000) ** index * (1 + LINES))
    before = raw.copy()
    made = DIVIDE_CONTINUUM.convert(SPECTRA, raw)
    assert made.shape == (len(GRID), 2)
    np.testing.assert_array_equal(made[:, 0], GRID)
    # the mean of an interval lies (index * WIDTH)^2 / 24 above the power law at its middle
    np.testing.assert_allclose(made[:, 1], LINES, atol=0.007 + (index * WIDTH) ** 2 / 24)
    np.testing.assert_array_equal(raw, before)


def test_flattened_flux_has_no_scale_and_no_order() -> None:
    rng = np.random.default_rng(0)
    raw = with_inverse_variance(np.exp(-(((GRID - 6000) / 2000) ** 2)) + rng.normal(0, 0.02, 4000))
    made = DIVIDE_CONTINUUM.convert(SPECTRA, raw)
    scaled = raw * np.array([1, 1e-17, 1])
    np.testing.assert_allclose(DIVIDE_CONTINUUM.convert(SPECTRA, scaled), made, rtol=1e-9)
    order = rng.permutation(len(raw))
    shuffled = DIVIDE_CONTINUUM.convert(SPECTRA, raw[order])
    np.testing.assert_allclose(shuffled, made[order], rtol=1e-9, atol=1e-12)


def test_unmeasured_points_count_for_nothing_and_become_zero() -> None:
    raw = with_inverse_variance(5.0 * (1 + LINES))
    raw[1000:1400, 1] = 0
    raw[2000:2200, 1:] = [1e6, 0]
    made = DIVIDE_CONTINUUM.convert(SPECTRA, raw)[:, 1]
    assert not made[1000:1400].any()
    assert not made[2000:2200].any()
    rest = np.ones(len(GRID), dtype=bool)
    rest[1000:1400] = rest[2000:2200] = False
    np.testing.assert_allclose(made[rest], LINES[rest], atol=0.007)


def test_continuum_stays_positive_where_the_mean_flux_is_not() -> None:
    flux = np.where(GRID < 4500, -0.2, 1.0) + np.random.default_rng(1).normal(0, 0.05, len(GRID))
    level = continuum(GRID, flux, np.ones(len(GRID), dtype=bool))
    assert (level > 0).all()
    assert np.isfinite(DIVIDE_CONTINUUM.convert(SPECTRA, with_inverse_variance(flux))).all()
    red = continuum(GRID, np.exp((GRID - 9100) / 100), np.ones(len(GRID), dtype=bool))
    assert red.min() >= 1e-3 * red.max() / 10


def test_a_short_spectrum_has_a_constant_continuum() -> None:
    inside = (GRID > 4010) & (GRID < 4040)
    level = continuum(GRID[inside], np.full(inside.sum(), 7.0), np.ones(inside.sum(), dtype=bool))
    np.testing.assert_allclose(level, 7.0)


@pytest.mark.parametrize("flux", [0.0, -1.0])
def test_a_spectrum_without_positive_flux_has_no_continuum(flux: float) -> None:
    with pytest.raises(DataError, match="no continuum to divide by"):
        DIVIDE_CONTINUUM.convert(SPECTRA, with_inverse_variance(np.full(len(GRID), flux)))


def test_flattened_spectra_fit_the_preprocessor_and_are_not_flattened_again() -> None:
    schema = DIVIDE_CONTINUUM.convert_schema(SPECTRA)
    assert schema.names == ("wavelength", "flattened_flux")
    prepare = Spectrum(schema)
    assert prepare.takes.names == ("wavelength", "flattened_flux")
    half = np.stack([np.linspace(3850, 6500, 500), np.linspace(-0.4, 0.6, 500)], axis=1)
    row = prepare(half)["values"][0]
    unseen = row[prepare.grid > 6500]
    np.testing.assert_allclose(unseen, unseen[0])  # the continuum, not the last point
    assert unseen[0] < row[prepare.grid <= 6500].max()
    with pytest.raises(SchemaError, match="divide_continuum takes channel flux"):
        DIVIDE_CONTINUUM.convert_schema(schema)
