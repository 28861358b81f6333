"""Images as arrays: size, place and scale of the pixels."""

import numpy as np
import pytest

from shared.data.image_files import IMAGE
from shared.errors import ConfigError
from shared.preprocessors.image import IMAGENET_MEAN, IMAGENET_STD, ImagePreprocessor
from shared.schema import Channel, Schema


def test_pixels_are_normalised_by_channel() -> None:
    prepare = ImagePreprocessor(IMAGE, image_size=2)
    pixels = np.array([[[0, 51, 255], [255, 0, 51]], [[51, 255, 0], [0, 0, 0]]], dtype=np.uint8)
    values = prepare(pixels)["values"]
    expected = (pixels / 255 - np.array(IMAGENET_MEAN)) / np.array(IMAGENET_STD)
    np.testing.assert_allclose(values, expected.transpose(2, 0, 1), rtol=1e-6, atol=1e-6)
    assert values.dtype == np.float32


def test_the_middle_of_a_longer_side_is_kept() -> None:
    prepare = ImagePreprocessor(IMAGE, image_size=4, mean=[0, 0, 0], std=[1, 1, 1])
    picture = np.zeros((4, 8, 3), dtype=np.uint8)
    picture[:, 2:6] = 255
    assert np.all(prepare(picture)["values"] == 1)
    # the same, resized by a half: a constant area stays what it is
    inner = prepare(np.repeat(np.repeat(picture, 2, axis=0), 2, axis=1))["values"][:, :, 1:3]
    np.testing.assert_allclose(inner, 1, atol=0.05)


@pytest.mark.parametrize("shape", [(7, 31), (64, 5), (5, 5), (1, 1)])
def test_any_size_becomes_the_square(shape: tuple[int, int]) -> None:
    prepare = ImagePreprocessor(IMAGE, image_size=6, mean=[0, 0, 0], std=[1, 1, 1])
    picture = np.random.default_rng(0).integers(0, 256, (*shape, 3), dtype=np.uint8)
    values = prepare(picture)["values"]
    assert values.shape == (3, 6, 6)
    assert values.min() >= picture.min() / 255 - 1e-6
    assert values.max() <= picture.max() / 255 + 1e-6
    assert prepare.sizes == {"in_channels": 3, "image_size": 6}


def test_means_are_needed_for_every_channel() -> None:
    bands = Schema("image", ("height", "width", "channel"), (Channel("nir"), Channel("swir")))
    with pytest.raises(ConfigError, match="nir, swir"):
        ImagePreprocessor(bands)
    assert ImagePreprocessor(bands, mean=[0, 0], std=[1, 1], scale=1.0).sizes["in_channels"] == 2
    with pytest.raises(ConfigError, match="image_size=0"):
        ImagePreprocessor(IMAGE, image_size=0)
