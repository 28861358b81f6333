"""The adapter against its closed form."""

import numpy as np
import pytest

from domains.astro.adapters import AB_MAGNITUDE_TO_FLUX
from domains.astro.datasets.simulated import PHOTOMETRY
from domains.astro.preprocess import LightCurve
from shared.errors import SchemaError
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
