"""AstroM3's preprocessing, of raw and of processed samples, against closed forms."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.astro.datasets.simulated import SimulatedVariableStars
from domains.astro.preprocess.light_curve import AstroM3LightCurve, LightCurve
from domains.astro.preprocess.metadata import (
    AstroM3Metadata,
    statistics_states,
    transform_columns,
)
from domains.astro.preprocess.processed import (
    ProcessedLightCurve,
    ProcessedMetadata,
    ProcessedSpectrum,
)
from domains.astro.preprocess.scaling import Standardiser
from domains.astro.schemas import (
    CATALOGUE_PHOTOMETRY,
    META_COLUMNS,
    METADATA,
    PHOTO_COLUMNS,
    PHOTOMETRY,
    PROCESSED_METADATA,
    PROCESSED_PHOTOMETRY,
    PROCESSED_SPECTRA,
    SPECTRA,
)
from shared.errors import ConfigError, DataError, SchemaError
from shared.schema import Channel, Schema
from zoo.plugins import plugins

# fluxes of mean 3, median 2, distances 2 0 0 1 6: MAD 1; the first row stands here twice
CURVE = np.array(
    [
        [7300.0, 8.0, 2.0],
        [0.0, 0.0, 1.0],
        [1825.0, 2.0, 1.0],
        [0.0, 0.0, 1.0],
        [3650.0, 2.0, 0.5],
        [5475.0, 3.0, 1.0],
    ]
)
COLUMNS = np.array([0.5, 100.0, 0.1, 0.9])


def with_columns(curve: np.ndarray = CURVE, columns: np.ndarray = COLUMNS) -> np.ndarray:
    return np.hstack([curve, np.tile(columns, (len(curve), 1))])


def fitted(**changes: object) -> AstroM3LightCurve:
    """Learned from two stars: log10 of their periods 1 and 3, all else 0 and 1."""
    prepare = AstroM3LightCurve(CATALOGUE_PHOTOMETRY, columns=PHOTO_COLUMNS, **changes)  # type: ignore[arg-type]
    rows = (np.array([0, 10, 0, 0.0]), np.array([1, 1000, 1, 1.0]))
    prepare.fit(with_columns(CURVE[:2], row) for row in rows)
    return prepare


def test_light_curve_closed_form() -> None:
    prepare = fitted()
    made = prepare(with_columns())
    np.testing.assert_allclose(made["values"][:, 0], [0, 0.25, 0.5, 0.75, 1])
    np.testing.assert_allclose(made["values"][:, 1], [-3, -1, -1, 0, 5], atol=1e-7)
    np.testing.assert_allclose(made["values"][:, 2], [1, 1, 0.5, 1, 2])
    constants = [(0.5 - 0.5) / 0.5, (2 - 2) / 1, (0.1 - 0.5) / 0.5, (0.9 - 0.5) / 0.5, 0, 20]
    np.testing.assert_allclose(made["values"][:, 3:], [constants] * 5, rtol=1e-6)
    assert made["values"].dtype == np.float32
    assert made["mask"].tolist() == [True] * 5
    assert prepare.sizes == {"in_channels": 9, "input_length": 200}


def test_light_curve_without_columns_is_the_rest() -> None:
    alone = AstroM3LightCurve(PHOTOMETRY)
    alone.fit([CURVE])
    assert alone.state() == {}
    alone.load_state(alone.state())
    expected = fitted()(with_columns())["values"][:, [0, 1, 2, 7, 8]]
    np.testing.assert_array_equal(alone(CURVE)["values"], expected)
    assert alone.sizes["in_channels"] == 5


def test_light_curve_scales_as_the_other_preprocessor() -> None:
    for index in range(20):
        raw = SimulatedVariableStars(20).read(index)["photometry"]
        values, other = AstroM3LightCurve(PHOTOMETRY)(raw)["values"], LightCurve(PHOTOMETRY)(raw)
        np.testing.assert_array_equal(values[:, 1:3], other["values"])
        np.testing.assert_allclose(values[:, 0] * values[:, 4] * 365, other["time"], rtol=1e-5)
        np.testing.assert_array_equal(values[:, 3], other["context"][0])


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 10_000), number=st.integers(3, 40))
def test_order_and_repetition_of_rows_do_not_matter(seed: int, number: int) -> None:
    rng = np.random.default_rng(seed)
    curve = rng.normal(size=(number, 3)) ** 2
    again = rng.permutation(np.concatenate([curve, curve[rng.integers(0, number, 5)]]))
    prepare = fitted()
    first, other = prepare(with_columns(curve))["values"], prepare(with_columns(again))["values"]
    np.testing.assert_array_equal(first, other)
    assert first[:, 0].min() == 0
    assert first[:, 0].max() == 1
    assert (np.diff(first[:, 0]) >= 0).all()


def test_times_are_rounded_to_quarters_of_a_day_on_demand() -> None:
    curve = CURVE[[1, 2, 4, 5]] * [1e-3, 1, 1] + [2_456_700.03, 0, 0]
    span = 5.475
    exact = AstroM3LightCurve(PHOTOMETRY)(curve)["values"]
    np.testing.assert_allclose(exact[:, 0], np.array([0, 1.825, 3.65, 5.475]) / span, rtol=1e-6)
    assert exact[0, 4] == pytest.approx(span / 365)
    rounded = AstroM3LightCurve(PHOTOMETRY, time_dtype="float32")(curve)["values"]
    np.testing.assert_allclose(rounded[:, 0], np.array([0, 1.75, 3.75, 5.5]) / 5.5, rtol=1e-6)
    np.testing.assert_array_equal(rounded[:, 1:4], exact[:, 1:4])
    night = np.array([[2_456_700.01, 1, 1], [2_456_700.02, 2, 1], [2_456_700.03, 4, 1.0]])
    assert np.isfinite(AstroM3LightCurve(PHOTOMETRY)(night)["values"]).all()
    with pytest.raises(DataError, match="all times are equal"):
        AstroM3LightCurve(PHOTOMETRY, time_dtype="float32")(night)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[1.0, 2.0, 1.0]], "one observation"),
        ([[1.0, 2.0, 1.0], [1.0, 2.0, 1.0]], "one observation"),
        ([[1.0, 2.0, 1.0], [2.0, 2.0, 1.0], [3.0, 5.0, 1.0]], "more than half of the fluxes"),
        ([[1.0, 2.0, 1.0], [1.0, 3.0, 1.0]], "all times are equal"),
    ],
)
@pytest.mark.parametrize("kind", [LightCurve, AstroM3LightCurve])
def test_light_curves_that_cannot_be_scaled(
    rows: list[list[float]], message: str, kind: type[LightCurve] | type[AstroM3LightCurve]
) -> None:
    with pytest.raises(DataError, match=f"cannot be scaled.*{message}"):
        kind(PHOTOMETRY)(np.array(rows))


def test_columns_have_one_value_a_star() -> None:
    raw = with_columns()
    raw[3, 4] = 200
    with pytest.raises(DataError, match="'period' runs from 100 to 200 within one light curve"):
        fitted()(raw)
    with pytest.raises(DataError, match="'period' is 0, which cannot be"):
        fitted()(with_columns(columns=np.array([1, 0, 1, 1.0])))
    with pytest.raises(DataError, match="'rfr_score' is missing"):
        fitted()(with_columns(columns=np.array([1, 1, 1, np.nan])))
    with pytest.raises(DataError, match="AstroM3LightCurve has no statistics"):
        AstroM3LightCurve(CATALOGUE_PHOTOMETRY, columns=["period"])(with_columns()[:, [0, 1, 2, 4]])
    with pytest.raises(DataError, match="no training sample has photometry"):
        AstroM3LightCurve(CATALOGUE_PHOTOMETRY, columns=["period"]).fit([])


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(SchemaError, match=r"takes channel period \[d\]"):
        AstroM3LightCurve(PHOTOMETRY, columns=["period"])
    hours = Schema(
        "photometry", ("time", "channel"), (*PHOTOMETRY.channels, Channel("period", "h"))
    )
    with pytest.raises(SchemaError, match=r"period \[d\], the dataset gives period \[h\]"):
        AstroM3LightCurve(hours, columns=["period"])
    for columns in (["flux"], ["period", "period"]):
        with pytest.raises(ConfigError, match="each catalogue column once"):
            AstroM3LightCurve(CATALOGUE_PHOTOMETRY, columns=columns)
    with pytest.raises(ConfigError, match="max_length=0"):
        AstroM3LightCurve(PHOTOMETRY, max_length=0)
    build = plugins().registries.preprocessors.build
    with pytest.raises(ConfigError, match="padding='repeat' has to be 'zeros' or 'columns'"):
        build("astrom3_light_curve", "here", PHOTOMETRY, padding="repeat")
    with pytest.raises(ConfigError, match="max_length=0"):
        ProcessedLightCurve(PROCESSED_PHOTOMETRY, max_length=0)
    with pytest.raises(ConfigError, match="length=0"):
        ProcessedSpectrum(PROCESSED_SPECTRA, length=0)


def test_a_column_that_astrom3_does_not_know_is_standardised_as_it_is() -> None:
    schema = Schema("photometry", ("time", "channel"), (*PHOTOMETRY.channels, Channel("skew", "x")))
    prepare = AstroM3LightCurve(schema, columns=["skew"])
    prepare.fit(with_columns(columns=np.array([value])) for value in (1.0, 2.0, 6.0))
    made = prepare(with_columns(columns=np.array([4.0])))["values"]
    np.testing.assert_allclose(made[:, 3], 1 / np.sqrt(14 / 3), rtol=1e-6)


def test_crop_and_padding() -> None:
    curve = np.stack([np.arange(11.0), np.arange(11.0) ** 2, np.ones(11)], axis=1)
    zeros = fitted(max_length=4)
    whole = zeros(with_columns(curve))
    centre = zeros.crop(whole, None)
    np.testing.assert_array_equal(centre["values"], whole["values"][3:7])  # (11 - 4) // 2 = 3
    rng = np.random.default_rng(0)
    starts = {round(float(zeros.crop(whole, rng)["values"][0, 0]) * 10) for _ in range(300)}
    assert starts == set(range(8))  # the last window, too

    for padding, rest in (("zeros", np.zeros(6)), ("columns", whole["values"][0, 3:])):
        prepare = fitted(max_length=13, padding=padding)
        cropped = prepare.crop(prepare(with_columns(curve)), rng)
        assert len(cropped["mask"]) == (11 if padding == "zeros" else 13)
        longer = fitted(max_length=13).crop(
            fitted()(with_columns(np.vstack([curve + 20, curve]))), None
        )
        batch = prepare.collate([cropped, {k: longer[k] for k in cropped}])
        assert batch["values"].shape == (2, 13, 9)
        assert batch["mask"].sum(1).tolist() == [11, 13]
        np.testing.assert_array_equal(batch["values"][0, :11], whole["values"])
        np.testing.assert_array_equal(batch["values"][0, 11:, :3], 0)
        np.testing.assert_array_equal(batch["values"][0, 11:, 3:], [rest] * 2)


def row(**changes: float) -> np.ndarray:
    """A catalogue row: distinct values, parallax 10 mas."""
    values = dict(zip(META_COLUMNS, np.linspace(10, 20, len(META_COLUMNS)), strict=True))
    return np.array(list((values | {"parallax": 10.0, "l": 60.0, "b": -30.0} | changes).values()))


def test_transforms() -> None:
    absolute = {
        *("mean_vmag", "phot_g_mean_mag", "phot_bp_mean_mag", "phot_rp_mean_mag", "j_mag"),
        *("h_mag", "k_mag", "w1_mag", "w2_mag", "w3_mag", "w4_mag"),
    }
    for parallax, shift in ((10.0, -5.0), (1000.0, 5.0), (0.0, -10.0), (-3.0, -10.0)):
        raw = row(parallax=parallax)
        made = dict(zip(META_COLUMNS, transform_columns(META_COLUMNS, raw), strict=True))
        assert made.pop("l") == pytest.approx(0.5)
        assert made.pop("b") == pytest.approx(-0.5)
        for name, value in made.items():
            before = raw[META_COLUMNS.index(name)]
            assert value == pytest.approx(before + shift * (name in absolute)), name
    assert transform_columns(["x", "period"], np.array([[5, 10.0], [6, 0.1]])).tolist() == [
        [5, 1],
        [6, -1],
    ]
    with pytest.raises(ConfigError, match="'j_mag' is made absolute with 'parallax'"):
        transform_columns(["j_mag"], np.ones(1))


def test_metadata() -> None:
    prepare = AstroM3Metadata(METADATA)
    rows = [row(), row(mean_vmag=12, l=0, parallax=-1), row(mean_vmag=11, b=90, parallax=100)]
    prepare.fit(rows)
    made = np.stack([prepare(r)["values"] for r in rows])
    transformed = np.stack([transform_columns(META_COLUMNS, r) for r in rows])
    varies = transformed.std(0) > 1e-9
    expected = (transformed - transformed.mean(0)) / np.where(varies, transformed.std(0), 1)
    np.testing.assert_allclose(made, expected, rtol=1e-5, atol=1e-6)
    assert varies.sum() == 14  # 11 magnitudes, parallax, l, b
    other = AstroM3Metadata(METADATA)
    other.load_state(json.loads(json.dumps(prepare.state())))
    np.testing.assert_array_equal(other(rows[1])["values"], made[1])
    assert made.dtype == np.float32
    assert prepare.sizes == {"in_channels": 34}


def test_metadata_finds_its_columns_by_name() -> None:
    channels = (Channel("other"), *reversed(METADATA.channels))
    prepare = AstroM3Metadata(Schema("metadata", ("channel",), channels))
    assert prepare.takes.names == META_COLUMNS
    with pytest.raises(SchemaError, match=r"takes channel mean_vmag \[mag\]"):
        AstroM3Metadata(PROCESSED_METADATA)


def test_metadata_lacks_nothing() -> None:
    prepare = AstroM3Metadata(METADATA)
    with pytest.raises(DataError, match="call fit first"):
        prepare(row())
    prepare.fit([row(), row(l=0)])
    for name in ("parallax", "w3_mag", "b"):
        with pytest.raises(DataError, match=f"metadata: '{name}' is missing"):
            prepare(row(**{name: np.nan}))
        with pytest.raises(DataError, match=f"metadata: '{name}' is missing"):
            prepare.fit([row(), row(**{name: np.nan})])


def test_statistics_of_the_published_files() -> None:
    info = {"mean": list(range(38)), "std": [1 + i / 10 for i in range(38)], "else": 1}
    states = statistics_states(info)
    curve = AstroM3LightCurve(CATALOGUE_PHOTOMETRY, columns=PHOTO_COLUMNS)
    curve.load_state(states["photometry"])
    made = curve(with_columns())["values"][0, 3:7]
    shift = np.array([0.5, 2, 0.1, 0.9]) - np.arange(4)
    np.testing.assert_allclose(made, shift / [1, 1.1, 1.2, 1.3], rtol=1e-6)
    table = AstroM3Metadata(METADATA)
    table.load_state(states["metadata"])
    transformed = transform_columns(META_COLUMNS, row())
    expected = (transformed - np.arange(4, 38)) / (1 + np.arange(4, 38) / 10)
    np.testing.assert_allclose(table(row())["values"], expected, rtol=1e-5, atol=1e-6)


GOOD = {"mean": [0.0] * 38, "std": [1.0] * 38}


@pytest.mark.parametrize(
    "changes",
    [
        {"mean": [0.0] * 37},
        {"std": [1.0] * 37 + [0.0]},
        {"std": [1.0] * 37 + [-1.0]},
        {"mean": [0.0] * 37 + [float("inf")]},
        {"mean": None},
        {"std": "1" * 38},
        {"mean": {"amplitude": 0.0}},
    ],
)
def test_damaged_statistics_are_refused(changes: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"AstroM3's statistics \(info.json\) are damaged"):
        statistics_states({**GOOD, **changes})
    with pytest.raises(DataError, match="damaged"):
        statistics_states({"mean": GOOD["mean"]})


def test_equal_values_are_constant_whatever_their_mean_rounds_to() -> None:
    scale = Standardiser("metadata: here", 2)
    scale.fit(np.array([[0.1, 1.0]] * 3 + [[0.1, 2.0]] * 7))
    assert scale.state()["std"][0] == 1.0
    np.testing.assert_allclose(scale(np.array([[0.6, 1.7]])), [[0.5, 0]], atol=1e-12)


def test_processed_samples_pass_as_they_are() -> None:
    rng = np.random.default_rng(0)
    table, spectrum = rng.normal(size=(5, 9)), rng.normal(size=(2575, 3))
    prepare = ProcessedLightCurve(PROCESSED_PHOTOMETRY, max_length=4)
    assert prepare.sizes == {"in_channels": 9, "input_length": 4}
    made = prepare(table)
    np.testing.assert_array_equal(made["values"], table.astype(np.float32))
    np.testing.assert_array_equal(prepare.crop(made, None)["values"], made["values"][:4])
    assert prepare.crop(made, None)["mask"].all()
    waves = ProcessedSpectrum(PROCESSED_SPECTRA)
    assert waves.sizes == {"in_channels": 3, "input_length": 2575}
    np.testing.assert_array_equal(waves(spectrum)["values"], spectrum.T.astype(np.float32))
    with pytest.raises(DataError, match="of 2574 points, and the model takes 2575"):
        waves(spectrum[1:])
    columns = ProcessedMetadata(PROCESSED_METADATA)
    assert columns.sizes == {"in_channels": 34}
    np.testing.assert_array_equal(columns(row())["values"], row().astype(np.float32))


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (ProcessedLightCurve, CATALOGUE_PHOTOMETRY),
        (ProcessedSpectrum, SPECTRA),
        (ProcessedMetadata, METADATA),
    ],
)
def test_raw_samples_are_not_taken_for_processed_ones(kind: type, raw: Schema) -> None:
    with pytest.raises(SchemaError, match=r"\[dimensionless\], the dataset gives"):
        kind(raw)


def test_every_simulated_star_can_be_prepared() -> None:
    dataset = SimulatedVariableStars(60, seed=5, catalogue_columns=True)
    curve = AstroM3LightCurve(dataset.schemas["photometry"], columns=PHOTO_COLUMNS)
    table = AstroM3Metadata(dataset.schemas["metadata"])
    samples = [dataset[index] for index in range(60)]
    curve.fit(sample["photometry"] for sample in samples)
    table.fit(sample["metadata"] for sample in samples)
    values = np.stack([table(sample["metadata"])["values"] for sample in samples])
    constants = np.stack([curve(sample["photometry"])["values"][0, 3:7] for sample in samples])
    for array in (values, constants):
        np.testing.assert_allclose(array.mean(0), 0, atol=1e-4)
        np.testing.assert_allclose(array.std(0), 1, atol=1e-4)
