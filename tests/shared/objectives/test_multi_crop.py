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
            large, small = make(channels)(torch.randn(number, channels, 24, 20))
            assert large.shape == (2 * number, channels, 16, 16)
            assert small.shape == (3 * number, channels, 12, 12)


def test_crops_of_an_image_come_crop_by_crop() -> None:
    images = torch.stack([torch.full((2, 24, 24), float(value)) for value in (1, 2, 3)])
    large, small = make(2)(images)
    expected = torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(large.mean((1, 2, 3)), expected.repeat(2))
    torch.testing.assert_close(small.mean((1, 2, 3)), expected.repeat(3))


def test_colours_stay_in_their_range() -> None:
    torch.manual_seed(0)
    pixels = torch.rand(8, 3, 24, 24).round()
    large, small = make(3)((pixels - 0.5) / 0.25)
    for crops in (large, small):
        found = crops * 0.25 + 0.5
        assert float(found.min()) > -1e-5
        assert float(found.max()) < 1 + 1e-5


def test_draws_follow_the_seed() -> None:
    images = torch.randn(2, 3, 24, 24)
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        drawn.append(make(3)(images)[0])
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
