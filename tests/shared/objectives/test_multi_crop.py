"""Crops: shapes, order, channels, randomness."""

import torch

from shared.objectives.multi_crop import MultiCrop


def make(channels: int, mean: float = 0.5, blur: float = 0.5) -> MultiCrop:
    many = (blur, blur, blur)
    scales = ((0.3, 1.0), (0.05, 0.3))
    return MultiCrop(16, 12, 3, *scales, many, [mean] * channels, [0.25] * channels)


def test_shapes_for_any_channels() -> None:
    for channels in (1, 3, 5):
        for number in (0, 2):
            images = torch.randn(number, channels, 24, 20)
            large, small = make(channels)(images, range(number))
            assert large.shape == (2 * number, channels, 16, 16)
            assert small.shape == (3 * number, channels, 12, 12)


def test_crops_of_an_image_come_crop_by_crop() -> None:
    images = torch.stack([torch.full((2, 24, 24), float(value)) for value in (1, 2, 3)])
    large, small = make(2)(images, [4, 5, 6])
    expected = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(large.mean((1, 2, 3)), expected.repeat(2))
    torch.testing.assert_close(small.mean((1, 2, 3)), expected.repeat(3))


def test_colours_stay_in_their_range() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(8, 3, 24, 24).round()
    large, small = make(3)((pixels - 0.5) / 0.25, range(8))
    for crops in (large, small):
        found = crops * 0.25 + 0.5
        assert float(found.min()) > -1e-5
        assert float(found.max()) < 1 + 1e-5


def test_an_image_has_the_crops_of_its_seed() -> None:
    crop, images = make(3), torch.randn(3, 3, 24, 24)
    state = torch.get_rng_state()
    large, small = crop(images, [7, -(2**62), 7])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(1)
    alone = crop(images[1:2], [-(2**62)])
    assert torch.equal(alone[0], large[1::3])
    assert torch.equal(alone[1], small[1::3])
    other = crop(images[1:2], [8])
    assert not torch.equal(other[0], alone[0])
    # the crops of an image differ
    assert len({float(crops.mean()) for crops in alone[1]}) == 3
