"""Preprocessors against NumPy closed forms and against the reference of AstroM3."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from domains.astro.datasets.simulated import SimulatedVariableStars
from domains.astro.preprocess.light_curve import LightCurve
from domains.astro.preprocess.metadata import MetadataTable
from domains.astro.preprocess.spectrum import Spectrum
from domains.astro.schemas import METADATA, PHOTOMETRY, SPECTRA
from shared.errors import ConfigError, DataError, SchemaError
from shared.schema import Channel, Schema

DATA = Path(os.environ.get("ZOO_DATA", Path(__file__).parents[4] / "shared" / "data"))

curves = hnp.arrays(
    np.float64,
    st.tuples(st.integers(5, 30), st.just(3)),
    elements=st.floats(1, 100, width=32),
    unique=True,
)


def test_light_curve_closed_form() -> None:
    raw = np.array([[3.0, 5.0, 1.0], [1.0, 1.0, 0.5], [2.0, 2.0, 0.5], [1.0, 1.0, 0.5]])
    made = LightCurve(PHOTOMETRY)(raw)  # the repeated row counts once; mean 8/3, MAD 1
    np.testing.assert_array_equal(made["time"], [0, 1, 2])
    np.testing.assert_allclose(made["values"][:, 0], np.array([1, 2, 5]) - 8 / 3, rtol=1e-6)
    np.testing.assert_allclose(made["values"][:, 1], [0.5, 0.5, 1.0])
    np.testing.assert_allclose(made["context"], np.log10([1, 8 / 3, 2]), rtol=1e-6, atol=1e-7)
    assert made["mask"].all()
    assert made["mask"].dtype == bool
    assert {made[k].dtype for k in ("time", "values", "context")} == {np.dtype("float32")}


def test_mean_flux_below_the_mad_is_told_as_the_mad() -> None:
    raw = np.array([[0.0, -2.0, 1.0], [1.0, 0.0, 1.0], [2.0, 2.0, 1.0]])
    np.testing.assert_allclose(LightCurve(PHOTOMETRY)(raw)["context"][:2], np.log10([2, 2]))


def test_times_keep_their_precision_until_they_are_relative() -> None:
    raw = np.array([[2_456_700.123456, 1.0, 1.0], [2_456_700.123556, 2.0, 1.0]])
    assert LightCurve(PHOTOMETRY)(raw)["time"][1] == pytest.approx(1e-4, rel=1e-3)


@settings(max_examples=30, deadline=None)
@given(raw=curves, seed=st.integers(0, 1000))
def test_the_order_of_rows_does_not_matter(raw: np.ndarray, seed: int) -> None:
    shuffled = np.random.default_rng(seed).permutation(raw)
    for prepare in (LightCurve(PHOTOMETRY), Spectrum(SPECTRA, 20, 80, 1, min_coverage=0)):
        try:
            first = prepare(raw)
        except DataError:
            with pytest.raises(DataError):
                prepare(shuffled)
            continue
        again = prepare(shuffled)
        for name in first:
            np.testing.assert_array_equal(first[name], again[name])


@settings(max_examples=30, deadline=None)
@given(raw=curves, scale=st.floats(0.1, 10), shift=st.floats(-100, 100))
def test_values_do_not_know_level_and_scale_but_the_context_does(
    raw: np.ndarray, scale: float, shift: float
) -> None:
    prepare = LightCurve(PHOTOMETRY)
    moved = raw * [1, scale, scale] + [0, shift, 0]
    first, again = prepare(raw), prepare(moved)
    np.testing.assert_allclose(first["values"], again["values"], rtol=1e-3, atol=1e-3)
    assert again["context"][0] - first["context"][0] == pytest.approx(np.log10(scale), abs=1e-3)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (np.array([[1.0, 2.0, 1.0]]), "it has one observation"),
        (
            np.array([[1.0, 2.0, 1.0], [2.0, 2.0, 1.0], [3.0, 2.0, 1.0]]),
            "3 distinct rows more than half",
        ),
        (np.array([[1.0, 2.0, 1.0], [1.0, 3.0, 1.0]]), "times are equal"),
    ],
)
def test_light_curves_that_cannot_be_scaled(raw: np.ndarray, message: str) -> None:
    with pytest.raises(DataError, match=message):
        LightCurve(PHOTOMETRY)(raw)


def test_crop() -> None:
    prepare = LightCurve(PHOTOMETRY, max_length=4)
    rng = np.random.default_rng(0)
    raw = np.stack([np.arange(9.0), rng.normal(size=9), np.ones(9)], axis=1)
    whole = prepare(raw)
    centre = prepare.crop(whole, None)
    np.testing.assert_array_equal(centre["time"], [2, 3, 4, 5])  # (9 - 4) // 2 = 2
    np.testing.assert_array_equal(centre["values"], whole["values"][2:6])
    np.testing.assert_array_equal(centre["context"], whole["context"])
    starts = {int(prepare.crop(whole, rng)["time"][0]) for _ in range(200)}
    assert starts == {0, 1, 2, 3, 4, 5}
    assert LightCurve(PHOTOMETRY, max_length=9).crop(whole, rng) is whole


def test_light_curves_of_unequal_length_make_a_masked_batch() -> None:
    dataset = SimulatedVariableStars(3)
    prepare = LightCurve(PHOTOMETRY, max_length=200)
    samples = [prepare.crop(prepare(dataset[i]["photometry"]), None) for i in range(3)]
    batch = prepare.collate(samples)
    assert batch["mask"].sum(1).tolist() == [len(s["time"]) for s in samples]
    assert (batch["values"][~batch["mask"]] == 0).all()
    assert batch["context"].shape == (3, prepare.sizes["context_dim"])
    assert batch["values"].shape[2] == prepare.sizes["in_channels"]


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(ConfigError, match="max_length=0"):
        LightCurve(PHOTOMETRY, max_length=0)
    with pytest.raises(ConfigError, match="make no grid"):
        Spectrum(SPECTRA, start=5000, stop=4000)


def test_every_simulated_star_can_be_prepared() -> None:
    dataset = SimulatedVariableStars(100, seed=5)
    table = MetadataTable(dataset.schemas["metadata"])
    table.fit(dataset.read(i)["metadata"] for i in range(100))
    prepare = {
        "photometry": LightCurve(PHOTOMETRY),
        "spectra": Spectrum(SPECTRA),
        "metadata": table,
    }
    for index in range(100):
        for modality, raw in dataset[index].items():
            for array in prepare[modality](raw).values():
                assert np.isfinite(array).all()
                assert np.abs(array).max() < 1e4


def test_spectrum_closed_form() -> None:
    prepare = Spectrum(SPECTRA, start=10, stop=20, step=2)
    wavelength = np.array([8.0, 14.0, 22.0])
    raw = np.stack([wavelength, 3 * wavelength, wavelength], axis=1)  # linear: interpolates exactly
    made = prepare(raw)["values"]
    grid = np.arange(10, 20, 2)  # 10 … 18: mean 14, MAD of the flux 3 · 2
    np.testing.assert_allclose(made[0], (3 * grid - 42) / 6, rtol=1e-6)
    np.testing.assert_allclose(made[1], grid / 6, rtol=1e-6)
    np.testing.assert_allclose(made[2], np.log10(6), rtol=1e-6)
    assert made.dtype == np.float32
    assert made.shape == (prepare.sizes["in_channels"], prepare.sizes["input_length"])


def test_spectrum_without_inverse_variance_has_two_rows() -> None:
    schema = Schema("spectra", SPECTRA.axes, SPECTRA.channels[:2])
    prepare = Spectrum(schema)
    raw = SimulatedVariableStars(1, spectra_fraction=1.0).read(0)["spectra"]
    assert prepare(raw[:, :2])["values"].shape == (2, 2575)
    assert prepare.sizes == {"in_channels": 2, "input_length": 2575}
    np.testing.assert_array_equal(
        prepare(raw[:, :2])["values"], Spectrum(SPECTRA)(raw)["values"][[0, 2]]
    )


def test_spectrum_refuses_what_it_would_have_to_invent() -> None:
    raw = np.array([[5000.0, 1, 1], [6000, 3, 1], [7000, 2, 1]])
    with pytest.raises(DataError, match=r"5000 to 7000 Angstrom cover 39% .*min_coverage=50%"):
        Spectrum(SPECTRA)(raw)
    assert np.isfinite(Spectrum(SPECTRA, min_coverage=0.3)(raw)["values"]).all()


@pytest.mark.parametrize("level", [0.0, 4.0])
def test_constant_spectrum(level: float) -> None:
    raw = np.array([[3000.0, level, 1], [9500, level, 1]])
    with pytest.raises(DataError, match="same on more than half"):
        Spectrum(SPECTRA)(raw)


@pytest.mark.parametrize("prepare", [LightCurve, Spectrum])
def test_missing_channel_or_unit(prepare: type[LightCurve] | type[Spectrum]) -> None:
    with pytest.raises(SchemaError):
        prepare(METADATA)
    wrong = Schema(
        "photometry",
        ("time", "channel"),
        (Channel("time", "s"), Channel("wavelength", "nm"), Channel("flux"), Channel("flux_error")),
    )
    with pytest.raises(SchemaError, match="adapter"):
        prepare(wrong)


COLUMNS = Schema(
    "metadata",
    ("channel",),
    (Channel("a", "mag"), Channel("b", allow_missing=True), Channel("c", "deg")),
)
ROWS = [np.array([1.0, 4.0, 7.0]), np.array([3.0, np.nan, 7.0]), np.array([5.0, 8.0, 7.0])]


def test_metadata_closed_form() -> None:
    prepare = MetadataTable(COLUMNS)
    prepare.fit(ROWS)
    assert prepare.sizes == {"in_channels": 4}
    std = np.sqrt(8 / 3)
    np.testing.assert_allclose(prepare(ROWS[0])["values"], [-2 / std, -1, 0, 0], rtol=1e-6)
    np.testing.assert_allclose(prepare(ROWS[1])["values"], [0, 0, 0, 1], atol=1e-7)
    assert prepare(ROWS[1])["values"].dtype == np.float32


def test_metadata_state_travels_as_json() -> None:
    prepare, other = MetadataTable(COLUMNS), MetadataTable(COLUMNS)
    prepare.fit(ROWS)
    other.load_state(json.loads(json.dumps(prepare.state())))
    for row in ROWS:
        np.testing.assert_array_equal(prepare(row)["values"], other(row)["values"])


def test_a_value_that_was_never_missing_in_training_is_not_filled() -> None:
    prepare = MetadataTable(COLUMNS)
    prepare.fit(ROWS)
    with pytest.raises(DataError, match="'c' is missing"):
        prepare(np.array([1.0, np.nan, np.nan]))


def test_metadata_must_be_fitted() -> None:
    with pytest.raises(DataError, match="fit"):
        MetadataTable(COLUMNS)(ROWS[0])
    with pytest.raises(DataError, match="no training sample"):
        MetadataTable(COLUMNS).fit([])


def test_metadata_of_a_column_that_is_never_there() -> None:
    prepare = MetadataTable(COLUMNS)
    prepare.fit([np.array([1.0, np.nan, 2.0]), np.array([2.0, np.nan, 2.0])])
    np.testing.assert_allclose(prepare(np.array([1.5, 3.0, 2.0]))["values"], [0, 3, 0, 0])


@pytest.mark.parametrize(
    "state",
    [
        {"mean": [0.0, 0.0, 0.0]},
        {"mean": [0.0], "std": [1.0]},
        {"mean": [0.0, 0.0, 0.0], "std": [1.0, 0.0, 1.0]},
        {"mean": [0.0, float("nan"), 0.0], "std": [1.0, 1.0, 1.0]},
        {"mean": "x", "std": [1.0, 1.0, 1.0]},
        {"mean": [[0.0], 1.0, 2.0], "std": [1.0, 1.0, 1.0]},
    ],
)
def test_damaged_statistics_are_refused(state: dict[str, object]) -> None:
    with pytest.raises(DataError, match="statistics of MetadataTable are damaged"):
        MetadataTable(COLUMNS).load_state(state)
