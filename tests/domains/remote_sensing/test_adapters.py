"""Reflectance as a picture."""

import numpy as np
import pytest

from domains.remote_sensing.adapters import TRUE_COLOUR
from domains.remote_sensing.bands import REFLECTANCE, channels
from shared.data.image_files import IMAGE
from shared.errors import SchemaError
from shared.schema import Channel, Schema

BANDS = Schema(
    "image",
    ("height", "width", "channel"),
    channels(["blue", "nir", "green", "red"], REFLECTANCE, allow_missing=True),
    "float32",
)


def test_the_stretch_is_linear_and_the_same_for_every_image() -> None:
    blue = [0.0, 0.15, 0.3, 0.9, -0.2, np.nan]
    raw = np.zeros((1, 6, 4), np.float32)
    raw[0, :, 0], raw[..., 1], raw[..., 3] = blue, 7.0, 0.1
    before = raw.copy()
    made = TRUE_COLOUR.convert(BANDS, raw)
    assert made.dtype == np.uint8
    assert made[0, :, 2].tolist() == [0, 128, 255, 255, 0, 0]
    assert set(made[..., 1].flat) == {0}
    assert set(made[..., 0].flat) == {85}
    np.testing.assert_array_equal(raw, before)
    np.testing.assert_array_equal(TRUE_COLOUR.convert(BANDS, raw[:, :2]), made[:, :2])


def test_the_schema_is_that_of_pictures() -> None:
    assert TRUE_COLOUR.convert_schema(BANDS) == IMAGE


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((Channel("blue", REFLECTANCE), Channel("green", REFLECTANCE)), "channel red"),
        (IMAGE.channels, r"red \[reflectance\], the dataset gives red \[dimensionless\]"),
    ],
)
def test_other_channels_are_refused(given: tuple[Channel, ...], words: str) -> None:
    with pytest.raises(SchemaError, match=words):
        TRUE_COLOUR.convert_schema(Schema("image", BANDS.axes, given, "float32"))
