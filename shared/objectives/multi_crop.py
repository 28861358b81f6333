"""Random crops of several sizes of an image (SwAV, arXiv:2006.09882, §3.3), changed as in DINO."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from shared.optional import import_optional


class MultiCrop:
    """Two large crops and several small ones of each image, each changed at random.

    Every crop: random resized crop (bicubic), mirrored with probability .5, blurred; of images with
    three channels also colour jitter (.8), greyscale (.2) and, for the second large crop, solarise
    (.2), on values in [0, 1]. The order and numbers are DINOv2's (arXiv:2304.07193, its released
    code).

    Args:
        global_size: Side of the large crops.
        local_size: Side of the small ones.
        local_crops: Small crops an image.
        global_scale: Smallest and largest share of the image's area of a large crop.
        local_scale: The same of a small one.
        blur: Probability of a blur in the first and second large crop and in the small ones.
        mean: By channel, what the images were centred on.
        std: By channel, what they were divided by.

    Raises:
        DependencyError: torchvision is not installed.
    """

    def __init__(
        self,
        global_size: int,
        local_size: int,
        local_crops: int,
        global_scale: Sequence[float],
        local_scale: Sequence[float],
        blur: Sequence[float],
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        v2 = _transforms()
        self.local_crops = local_crops
        self.sizes = (global_size, local_size)
        self._mean = torch.tensor(mean).view(-1, 1, 1)
        self._std = torch.tensor(std).view(-1, 1, 1)
        colour = len(mean) == 3
        self._global = [
            _pipeline(v2, global_size, global_scale, blur[number], solarise, colour)
            for number, solarise in enumerate((0.0, 0.2))
        ]
        self._local = _pipeline(v2, local_size, local_scale, blur[2], 0.0, colour)

    def __call__(self, images: Tensor, seeds: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Crops of each image by its seed, whatever the others are.

        Args:
            images: (n, C, H, W) normalised.
            seeds: n integers of 64 bits.

        Returns:
            (2 · n, C, global, global) and (local_crops · n, C, local, local), normalised, crop by
            crop.
        """
        mean, std = self._mean.to(images.device), self._std.to(images.device)
        plain = images * std + mean
        # torchvision draws from the state that all share
        with torch.random.fork_rng(devices=[]):
            of_images = [self._crop(image, seed) for image, seed in zip(plain, seeds, strict=True)]
        by_number = list(zip(*of_images, strict=True))
        found = []
        for numbers, size in zip((by_number[:2], by_number[2:]), self.sizes, strict=True):
            crops = [crop for number in numbers for crop in number]
            empty = plain.new_zeros(0, plain.shape[1], size, size)
            found.append((torch.stack(crops) if crops else empty).sub(mean).div(std))
        return found[0], found[1]

    def _crop(self, image: Tensor, seed: int) -> list[Tensor]:
        """The two large crops and the small ones of an image."""
        # not torch.manual_seed, which would set the state of every device
        torch.default_generator.manual_seed(seed)
        return [crop(image) for crop in (*self._global, *[self._local] * self.local_crops)]


def _pipeline(
    v2: Any, size: int, scale: Sequence[float], blur: float, solarise: float, colour: bool
) -> Any:
    bicubic = v2.InterpolationMode.BICUBIC
    steps = [
        v2.RandomResizedCrop(size, scale=tuple(scale), interpolation=bicubic, antialias=True),
        v2.RandomHorizontalFlip(),
    ]
    if colour:
        jitter = v2.ColorJitter(brightness=0.4, contrast=0.4, saturation=0.2, hue=0.1)
        # bicubic values may leave the range that colours are defined on
        steps += [v2.Lambda(_clamp), v2.RandomApply([jitter], p=0.8), v2.RandomGrayscale(p=0.2)]
    steps.append(v2.RandomApply([v2.GaussianBlur(9, (0.1, 2.0))], p=blur))
    if colour and solarise:
        steps.append(v2.RandomSolarize(threshold=128 / 255, p=solarise))
    return v2.Compose(steps)


def _clamp(image: Tensor) -> Tensor:
    return image.clamp(0, 1)


def _transforms() -> Any:
    return import_optional("torchvision.transforms.v2", "vision", "multi_crop")
