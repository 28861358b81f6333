"""What a modality holds: every mismatch names the channel, the unit or the row."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import ConfigError, DataError, SchemaError
from shared.schema import POSITIVE, Channel, Schema

TIME = Channel("time", "d")
FLUX = Channel("flux", "mJy", (0.0, 1e6))
COLOUR = Channel("colour", "mag", allow_missing=True)
CURVE = Schema("photometry", ("time", "channel"), (TIME, FLUX, COLOUR))
TEXT = Schema("text", (), dtype="str")


def curve(**changes: tuple[int, float]) -> np.ndarray:
    """Five good rows, with one value of a channel changed: name=(row, value)."""
    values = np.ones((5, 3))
    for name, (row, value) in changes.items():
        values[row, CURVE.names.index(name)] = value
    return values


def test_select_gives_positions_in_the_order_asked_for() -> None:
    assert CURVE.select((COLOUR, TIME), taker="T", given_by="D") == [2, 0]
    assert CURVE.select((), taker="T", given_by="D") == []


def test_select_compares_names_and_units_only() -> None:
    """The taker need not know the range that a dataset guarantees."""
    assert CURVE.select((Channel("flux", "mJy"),), taker="T", given_by="D") == [1]


def test_a_missing_channel_is_named_with_its_unit_and_the_nearest() -> None:
    with pytest.raises(SchemaError) as caught:
        CURVE.select((TIME, Channel("fluxes", "mJy")), taker="LightCurve", given_by="my_stars")
    message = str(caught.value)
    assert message.startswith("photometry: LightCurve takes channel fluxes [mJy], which my_stars")
    assert "Did you mean 'flux'?" in message
    assert "data.adapters" in message


def test_another_unit_is_named_on_both_sides() -> None:
    with pytest.raises(SchemaError, match=r"takes channel flux \[Jy\], D gives flux \[mJy\]"):
        CURVE.select((Channel("flux", "Jy"),), taker="T", given_by="D")
    with pytest.raises(SchemaError, match=r"time \[dimensionless\], D gives time \[d\]"):
        CURVE.select((Channel("time"),), taker="T", given_by="D")


def test_what_is_right_passes() -> None:
    CURVE.check(curve(), "here")
    CURVE.check(curve(colour=(3, np.nan)), "here")
    CURVE.check(curve(flux=(3, 0.0)), "here")
    TEXT.check("a star", "here")
    Schema("vector", ("channel",), (TIME,)).check(np.array([1.0]), "here")


@pytest.mark.parametrize(
    ("value", "parts"),
    [
        (curve(flux=(3, np.nan)), ["star 7", "photometry", "channel 'flux'", "nan", "row 3"]),
        (curve(time=(2, np.inf)), ["channel 'time'", "inf", "row 2"]),
        (curve(colour=(1, -np.inf)), ["channel 'colour'", "-inf", "row 1"]),
        (curve(flux=(4, -2.5)), ["flux [mJy]", "-2.5", "row 4", ">= 0 and <= 1e+06"]),
        (curve(flux=(0, 2e6)), ["flux [mJy]", "2e+06", "row 0", "Check the unit"]),
        (np.ones((5, 2)), ["2 channels, not 3 (time, flux, colour)"]),
        (np.ones(3), ["shape (3,), not (time, channel)"]),
        (np.ones((0, 3)), ["shape (0, 3)"]),
        ([[1.0, 2.0, 3.0]], ["is a list, not an array of shape (time, channel)"]),
    ],
)
def test_what_is_wrong_is_named(value: object, parts: list[str]) -> None:
    with pytest.raises(DataError) as caught:
        CURVE.check(value, "star 7")
    assert str(caught.value).startswith("star 7")
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("value", ["", "  ", 3, None])
def test_a_text_is_a_non_empty_str(value: object) -> None:
    with pytest.raises(DataError, match="star 7: text is not a non-empty text"):
        TEXT.check(value, "star 7")


def test_the_number_of_bad_values_is_counted() -> None:
    values = curve(flux=(1, np.nan))
    values[3, 1] = np.nan
    with pytest.raises(DataError, match=r"row 1 \(2 such values\)"):
        CURVE.check(values, "here")


@given(row=st.integers(0, 4), column=st.integers(0, 1), bad=st.sampled_from([np.nan, np.inf]))
def test_any_bad_value_is_found_in_its_row_and_channel(row: int, column: int, bad: float) -> None:
    values = curve()
    values[row, column] = bad
    with pytest.raises(DataError, match=f"channel {CURVE.names[column]!r} is {bad} in row {row}"):
        CURVE.check(values, "here")


@pytest.mark.parametrize("schema", [CURVE, TEXT])
def test_a_schema_survives_a_file(schema: Schema, tmp_path: Path) -> None:
    path = tmp_path / "schema.json"
    path.write_text(json.dumps(schema.to_dict()))
    assert Schema.from_dict(json.loads(path.read_text())) == schema


def test_a_bound_that_is_left_out_is_above_zero() -> None:
    schema = Schema("x", ("channel",), (Channel("error", "mJy", POSITIVE),))
    schema.check(np.array([5e-300]), "here")
    with pytest.raises(DataError, match=r"error \[mJy\] is 0 in row 0, but has to be > 0\. Check"):
        schema.check(np.array([0.0]), "here")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("axes"), "a schema lacks axes"),
        (lambda d: d.update(axes="time"), "axes='time' has to be a list of texts"),
        (lambda d: d.update(colour=1), "no setting 'colour'"),
        (lambda d: d.update(dtype="object"), "dtype='object' is none of float64"),
        (lambda d: d.update(channels=3), "channels=3 has to be a list"),
        (lambda d: d.update(channels=["flux"]), "a channel in .* is 'flux', not a mapping"),
        (
            lambda d: d["channels"][0].pop("unit"),
            "the schema of photometry lacks unit",
        ),
        (lambda d: d["channels"][0].update(valid_range=[0.0]), "a list of 2 values"),
        (lambda d: d["channels"][0].update(valid_range=["a", None]), "a list of 2 values"),
        (lambda d: d["channels"][0].update(allow_missing=1), "true or false"),
    ],
)
def test_a_damaged_schema_is_one_message(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    data = json.loads(json.dumps(CURVE.to_dict()))
    change(data)
    with pytest.raises(ConfigError, match=message):
        Schema.from_dict(data)


def test_a_schema_that_is_no_mapping() -> None:
    with pytest.raises(ConfigError, match="a schema is 3, not a mapping"):
        Schema.from_dict(3)  # type: ignore[arg-type]
