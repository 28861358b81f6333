"""What the thumbnails show, read back from the axes."""

import numpy as np
import pytest
from matplotlib.figure import Figure

from domains.remote_sensing.bands import REFLECTANCE, channels
from domains.remote_sensing.thumbnails import draw_image, draw_text
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.schema import Schema


def drawn(schema, raw):
    axes = Figure().subplots()
    draw = draw_text if schema.modality == "text" else draw_image
    draw(axes, {schema.modality: schema}, {schema.modality: raw})
    return axes


def bands(*names, unit=REFLECTANCE):
    made = channels(names, unit, allow_missing=True)
    return Schema("image", ("height", "width", "channel"), made, "float32")


def test_pictures_are_shown_as_they_are():
    raw = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    axes = drawn(IMAGE, raw)
    np.testing.assert_allclose(axes.images[0].get_array(), raw / 255)
    assert not axes.texts


def test_reflectance_in_true_colour_is_stretched_to_a_fixed_white():
    raw = np.zeros((4, 4, 4), np.float32)
    raw[..., :] = (0.5, 0.1, 0.15, 0.3)  # nir, blue, green, red
    raw[0, 0] = np.nan
    shown = drawn(bands("nir", "blue", "green", "red"), raw).images[0].get_array()
    np.testing.assert_allclose(shown[1, 1], [1, 0.5, 1 / 3], rtol=1e-5)
    assert (shown[0, 0] == 0).all()


@pytest.mark.parametrize(
    ("names", "text"),
    [(("swir16", "nir", "red", "blue"), "swir16, nir, red"), (("vv", "vh"), "vv")],
)
def test_other_bands_are_named(names, text):
    raw = np.random.default_rng(0).normal(size=(8, 8, len(names)))
    axes = drawn(bands(*names, unit="dB"), raw)
    assert [t.get_text() for t in axes.texts] == [text]
    shown = axes.images[0].get_array()
    assert shown.ndim == (3 if len(names) > 2 else 2)
    assert (shown.min(), shown.max()) == (0, 1)


def test_large_images_are_thinned_out():
    shown = drawn(IMAGE, np.zeros((2000, 1000, 3), np.uint8)).images[0].get_array()
    assert max(shown.shape) <= 256


def test_a_caption_is_wrapped():
    (text,) = drawn(TEXT, "many buildings are beside a curved river with a bridge over it").texts
    lines = text.get_text().split("\n")
    assert len(lines) > 2
    assert max(map(len, lines)) <= 22
