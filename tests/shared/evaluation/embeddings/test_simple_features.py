import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.errors import SchemaError
from shared.evaluation.embeddings.simple_features import image_statistics, word_counts
from shared.schema import Channel, Schema

RNG = np.random.default_rng(0)


def test_colours_are_shares_of_the_pixels():
    image = np.zeros((10, 20, 3), np.uint8)
    image[..., 1], image[:5, :, 2] = 255, 130
    features = image_statistics(IMAGE, image)
    assert features.shape == (3 * 16 + 32,)
    red, green, blue = features[:48].reshape(3, 16)
    assert red.tolist() == [1.0] + [0.0] * 15
    assert green.tolist() == [0.0] * 15 + [1.0]
    assert blue[[0, 8]].tolist() == [0.5, 0.5]


def test_every_byte_falls_into_the_bin_of_numpy():
    image = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = np.histogram(np.arange(256), 16, range=(0, 255))[0] / 256
    np.testing.assert_allclose(image_statistics(IMAGE, image)[:16], expected)


@pytest.mark.parametrize(("axis", "bin"), [(1, 0), (0, 4)])
def test_an_edge_has_the_orientation_of_its_gradient(axis, bin):
    ramp = np.arange(0, 160, 4, dtype=np.uint8)
    image = np.broadcast_to(ramp[:, None] if axis == 0 else ramp, (40, 40))[..., None]
    energy = image_statistics(IMAGE, image.repeat(3, axis=2))[48:].reshape(4, 8)
    np.testing.assert_allclose(energy[:, bin], 4 / 255, rtol=1e-6)
    assert np.count_nonzero(energy) == 4


def test_mirrored_images_have_mirrored_cells():
    image = RNG.integers(0, 256, (32, 48, 3), dtype=np.uint8)
    energy, flipped = (
        image_statistics(IMAGE, i)[48:].reshape(2, 2, 8).sum(axis=2)
        for i in (image, image[:, ::-1])
    )
    np.testing.assert_allclose(flipped, energy[:, ::-1], rtol=0.02)


def test_any_size_channels_and_range():
    schema = Schema(
        "image", IMAGE.axes, tuple(Channel(f"b{i}", valid_range=(-1, 3)) for i in range(5))
    )
    for shape in ((1, 1, 5), (1, 9, 5), (7, 3, 5)):
        features = image_statistics(schema, RNG.uniform(-1, 3, shape))
        assert features.shape == (5 * 16 + 32,)
        assert np.isfinite(features).all()
        np.testing.assert_allclose(features[:80].reshape(5, 16).sum(axis=1), 1)
    open_range = Schema("image", IMAGE.axes, (Channel("b", valid_range=(0, None)),))
    for wrong in (open_range, Schema("image", ("time", "channel"), IMAGE.channels)):
        with pytest.raises(SchemaError, match="valid range"):
            image_statistics(wrong, np.zeros((2, 2, 1)))


@given(st.text(min_size=1, max_size=80))
def test_texts_give_two_unit_halves(text):
    features = word_counts(TEXT, text)
    assert features.shape == (1024,)
    norms = np.linalg.norm(features.reshape(2, 512), axis=1)
    assert all(np.isclose(norm, 1) or norm == 0 for norm in norms)
    assert np.array_equal(word_counts(TEXT, text), features)


def test_order_of_words_does_not_count_and_words_do():
    a, b, c = (word_counts(TEXT, t) for t in ("blue star", "star blue", "red star"))
    np.testing.assert_allclose(a, b)
    assert not np.allclose(a, c)
    assert np.array_equal(word_counts(TEXT, "Blue STAR"), a)
    # formulas without blanks
    assert not np.allclose(word_counts(TEXT, "CC(C)O"), word_counts(TEXT, "CCC=O"))
