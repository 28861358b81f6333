"""What the thumbnails show, read back from the axes."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.figure import Figure

from domains.astro.schemas import (
    CATALOGUE_PHOTOMETRY,
    PHOTOMETRY,
    PROCESSED_PHOTOMETRY,
    PROCESSED_SPECTRA,
    SPECTRA,
)
from domains.astro.thumbnails import light_curve, spectrum
from shared.errors import SchemaError
from shared.schema import Channel, Schema

DRAW = {"photometry": light_curve, "spectra": spectrum}


def drawn(modality, schemas, raw):
    axes = Figure().subplots()
    DRAW[modality](axes, schemas, raw)
    return axes


def curve(n=50, period=2.5):
    rng = np.random.default_rng(0)
    time = 2457123.4 + np.sort(rng.uniform(0, 100, n))
    flux = 10 + np.sin(2 * np.pi * (time - time.min()) / period)
    return np.stack([time, flux, np.full(n, 0.1)], axis=1)


def test_light_curve_against_time():
    raw = curve()
    axes = drawn("photometry", {"photometry": PHOTOMETRY}, {"photometry": raw})
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(x + 2457100, raw[:, 0])
    np.testing.assert_array_equal(y, raw[:, 1])
    assert axes.get_xlabel() == "time − 2457100 [d]"
    assert axes.get_ylabel() == "flux [mJy]"
    assert len(axes.collections[0].get_segments()) == len(raw)


def test_a_known_period_folds_over_two_cycles():
    raw = curve()
    constants = np.broadcast_to([0.5, 2.5, 0.1, 0.9], (len(raw), 4))
    table = np.concatenate([raw, constants], axis=1)
    axes = drawn("photometry", {"photometry": CATALOGUE_PHOTOMETRY}, {"photometry": table})
    x, y = axes.lines[0].get_data()
    np.testing.assert_allclose(y, 10 + np.sin(2 * np.pi * x), atol=1e-6)
    assert axes.get_xlim() == (0, 2)
    assert axes.get_xlabel() == "phase"
    assert [t.get_text() for t in axes.texts] == ["2.5 d"]


@pytest.mark.parametrize(("period", "label"), [(2.5, "phase"), (np.nan, "time − 2457100 [d]")])
def test_the_period_may_stand_in_the_catalogue(period, label):
    columns = (Channel("colour", "mag"), Channel("period", "d", allow_missing=True))
    schemas = {"photometry": PHOTOMETRY, "metadata": Schema("metadata", ("channel",), columns)}
    raw = {"photometry": curve(), "metadata": np.array([1.0, period])}
    assert drawn("photometry", schemas, raw).get_xlabel() == label
    without = {"photometry": raw["photometry"]}
    assert drawn("photometry", schemas, without).get_xlabel() == "time − 2457100 [d]"


def test_magnitudes_grow_downwards():
    channels = (Channel("time", "d"), Channel("magnitude", "mag"))
    schema = replace(PHOTOMETRY, channels=channels)
    axes = drawn("photometry", {"photometry": schema}, {"photometry": curve()[:, :2]})
    assert axes.get_ylabel() == "magnitude [mag]"
    low, high = axes.get_ylim()
    assert low > high


def test_scaled_tables_are_neither_folded_nor_given_units():
    raw = np.random.default_rng(0).random((20, len(PROCESSED_PHOTOMETRY.names)))
    axes = drawn("photometry", {"photometry": PROCESSED_PHOTOMETRY}, {"photometry": raw})
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("scaled time", "flux")
    raw = np.random.default_rng(0).random((2575, 3))
    axes = drawn("spectra", {"spectra": PROCESSED_SPECTRA}, {"spectra": raw})
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("grid point", "flux")


@pytest.mark.parametrize("n", [1, 7, 999, 3909])
def test_spectrum_and_its_means(n):
    wavelength = np.linspace(3800, 9100, n)
    raw = np.stack([wavelength, 3 + wavelength / 1000, np.ones(n)], axis=1)
    axes = drawn("spectra", {"spectra": SPECTRA}, {"spectra": raw})
    for line in axes.lines:
        x, y = line.get_data()
        np.testing.assert_allclose(y, 3 + x / 1000)
    assert len(axes.lines[0].get_xdata()) == n
    assert axes.get_xlabel() == "wavelength [Å]"


def test_continuum_divided_spectra():
    channels = (Channel("wavelength", "Angstrom"), Channel("flattened_flux"))
    schema = replace(SPECTRA, channels=channels)
    axes = drawn("spectra", {"spectra": schema}, {"spectra": np.ones((30, 2))})
    assert axes.get_ylabel() == "flattened flux"


@pytest.mark.parametrize("modality", ["photometry", "spectra"])
def test_without_the_channels_there_is_nothing_to_draw(modality):
    schema = Schema(modality, ("time", "channel"), (Channel("counts"),))
    with pytest.raises(SchemaError, match=r"to be drawn it needs flux or .*gives counts"):
        drawn(modality, {modality: schema}, {modality: np.ones((3, 1))})
