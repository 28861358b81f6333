"""Images as CLIP takes them: size, order of the steps, augmentation by a counted state."""

import numpy as np
import pytest
import torch
from PIL import Image

from shared.data.image_files import IMAGE
from shared.errors import ConfigError, DataError, SchemaError
from shared.preprocessors.clip_image import CLIP_MEAN, CLIP_STD, CLIPImage
from shared.schema import Channel, Schema

RNG = np.random.default_rng(0)
PICTURE = RNG.integers(0, 256, (40, 57, 3), dtype=np.uint8)


def test_pixels_are_normalised_by_channel() -> None:
    values = CLIPImage(IMAGE, image_size=40)(PICTURE[:, 8:48])["values"]
    expected = (PICTURE[:, 8:48] / 255 - np.array(CLIP_MEAN)) / np.array(CLIP_STD)
    np.testing.assert_allclose(values, expected.transpose(2, 0, 1), atol=1e-6)
    assert values.dtype == np.float32


@pytest.mark.parametrize("shape", [(40, 57), (57, 40), (7, 31), (1, 1), (30, 30), (300, 41)])
def test_evaluation_is_that_of_open_clip(shape: tuple[int, int]) -> None:
    from open_clip import image_transform

    picture = RNG.integers(0, 256, (*shape, 3), dtype=np.uint8)
    theirs = image_transform(30, is_train=False)(Image.fromarray(picture))
    ours = CLIPImage(IMAGE, image_size=30)(picture)["values"]
    np.testing.assert_array_equal(ours, theirs.numpy())


def test_an_image_of_pillow_is_resized_before_it_is_converted() -> None:
    prepare = CLIPImage(IMAGE, image_size=16)
    picture = Image.fromarray(PICTURE)
    np.testing.assert_array_equal(prepare.evaluate(picture), prepare(PICTURE)["values"])
    grey = picture.convert("L")
    as_rgb = np.array(grey.convert("RGB"))
    np.testing.assert_array_equal(prepare.evaluate(grey), prepare(as_rgb)["values"])
    palette = picture.convert("P")
    as_rgb = np.array(palette.convert("RGB"))
    assert not np.array_equal(prepare.evaluate(palette), prepare(as_rgb)["values"])


@pytest.mark.parametrize("augment", ["crop", "crop_flip_rotate"])
def test_an_augmentation_is_a_function_of_its_state(augment: str) -> None:
    prepare = CLIPImage(IMAGE, image_size=16, augment=augment)  # type: ignore[arg-type]
    prepared = prepare(PICTURE)
    before = torch.random.get_rng_state()
    one, again, other = (
        prepare.crop(prepared, np.random.default_rng(n))["values"] for n in (1, 1, 2)
    )
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(7)
    np.testing.assert_array_equal(prepare.crop(prepared, np.random.default_rng(1))["values"], one)
    np.testing.assert_array_equal(one, again)
    assert one.shape == (3, 16, 16)
    assert one.dtype == np.float32
    assert not np.array_equal(one, other)
    # validation sees the middle, as a model without an augmentation does
    plain = CLIPImage(IMAGE, image_size=16)
    np.testing.assert_array_equal(prepare.crop(prepared, None)["values"], plain(PICTURE)["values"])
    assert plain.crop(plain(PICTURE), np.random.default_rng(0)).keys() == {"values"}


@pytest.mark.parametrize("augment", ["crop", "crop_flip_rotate"])
def test_an_augmentation_is_upstream_s_from_the_same_state(augment: str) -> None:
    """open_clip's training transform, and GeoRSCLIP's in the order of its evaluation code."""
    transforms = pytest.importorskip("torchvision.transforms")
    upstream = pytest.importorskip("open_clip.transform").image_transform(
        24, is_train=True, mean=CLIP_MEAN, std=CLIP_STD
    )
    if augment == "crop_flip_rotate":
        crop, rgb, tensor, normalise = upstream.transforms
        turned = [transforms.RandomHorizontalFlip(), transforms.RandomRotation((0, 360))]
        upstream = transforms.Compose([crop, rgb, *turned, tensor, normalise])
    prepare = CLIPImage(IMAGE, image_size=24, augment=augment)  # type: ignore[arg-type]
    for n in range(20):
        ours = prepare.crop(prepare(PICTURE), np.random.default_rng(n))["values"]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(np.random.default_rng(n).integers(2**63)))
            expected = upstream(Image.fromarray(PICTURE)).numpy()
        np.testing.assert_allclose(ours, expected, atol=1e-6)


def test_what_the_augmentations_do() -> None:
    """A crop keeps left and right; the other one turns and mirrors."""
    picture = np.zeros((64, 64, 3), dtype=np.uint8)
    picture[:, :32] = 255
    settings = {"image_size": 32, "mean": [0, 0, 0], "std": [1, 1, 1]}
    found = {}
    for augment in ("crop", "crop_flip_rotate"):
        prepare = CLIPImage(IMAGE, **settings, augment=augment)  # type: ignore[arg-type]
        drawn = [
            prepare.crop(prepare(picture), np.random.default_rng(n))["values"] for n in range(30)
        ]
        found[augment] = np.array([v[0, 16, 4] > 0.5 for v in drawn])
    assert found["crop"].all()
    assert 5 < found["crop_flip_rotate"].sum() < 25


def test_other_channels_are_refused() -> None:
    axes = ("height", "width", "channel")
    bands = Schema("image", axes, (Channel("B04"), Channel("B03"), Channel("B02")))
    with pytest.raises(SchemaError, match=r"CLIPImage takes channel red .* adapter"):
        CLIPImage(bands)
    reflectance = Schema("image", axes, IMAGE.channels, "float32")
    with pytest.raises(SchemaError, match="uint8 of 0 to 255, the dataset gives float32"):
        CLIPImage(reflectance)
    more = Schema("image", axes, (Channel("nir"), *IMAGE.channels[::-1]), "uint8")
    assert CLIPImage(more).takes.names == ("red", "green", "blue")


def test_wrong_settings_and_images() -> None:
    with pytest.raises(ConfigError, match="one mean and one std above 0"):
        CLIPImage(IMAGE, std=[1, 0, 1])
    with pytest.raises(ConfigError, match="one mean and one std above 0"):
        CLIPImage(IMAGE, mean=[0, float("nan"), 0])
    with pytest.raises(ConfigError, match="image_size=0"):
        CLIPImage(IMAGE, image_size=0)
    with pytest.raises(ConfigError, match="Did you mean 'crop'"):
        CLIPImage(IMAGE, augment="crops")  # type: ignore[arg-type]
    with pytest.raises(DataError, match="float32, not uint8"):
        CLIPImage(IMAGE)(PICTURE.astype(np.float32))
    with pytest.raises(DataError, match="too long and narrow"):
        CLIPImage(IMAGE, augment="crop")(np.zeros((1, 60000, 3), dtype=np.uint8))
