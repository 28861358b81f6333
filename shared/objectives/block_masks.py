"""Masks of rectangular blocks over a grid of patches (BEiT, arXiv:2106.08254, alg. 1), as iBOT and
DINOv2 draw them."""

import math
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import torch
from torch import Tensor

_TRIES = 10
_ASPECT = (0.3, 1 / 0.3)


def block_mask(
    rng: Random, height: int, width: int, number: int, max_patches: float, min_patches: int = 4
) -> Tensor:
    """Blocks until `number` patches are covered, or until none fits in 10 tries.

    Args:
        rng: Draws area, aspect ratio, row and column of each block, in this order.
        height: Rows of the grid.
        width: Columns.
        number: Patches to cover; never more are.
        max_patches: Largest area that is drawn.
        min_patches: Smallest area that is drawn.

    Returns:
        (height, width) bool, True where masked.
    """
    mask = torch.zeros(height, width, dtype=torch.bool)
    covered = 0
    while covered < number:
        added = _add_block(rng, mask, min(number - covered, max_patches), min_patches)
        if not added:
            break
        covered += added
    return mask


def _add_block(rng: Random, mask: Tensor, largest: float, smallest: int) -> int:
    """Cover one more block in place; the number of patches that it adds, 0 where none fits."""
    for _ in range(_TRIES):
        area = rng.uniform(smallest, largest)
        aspect = math.exp(rng.uniform(*map(math.log, _ASPECT)))
        rows, columns = round(math.sqrt(area * aspect)), round(math.sqrt(area / aspect))
        if rows >= mask.shape[0] or columns >= mask.shape[1]:
            continue
        top = rng.randint(0, mask.shape[0] - rows)
        left = rng.randint(0, mask.shape[1] - columns)
        block = mask[top : top + rows, left : left + columns]
        added = rows * columns - int(block.sum())
        if 0 < added <= largest:
            block.fill_(True)
            return added
    return 0


def ratio_bounds(images: int, ratio: Sequence[float]) -> Tensor:
    """(images + 1,) float32 bounds that cut the range of mask ratios into one part an image."""
    low, high = ratio
    return torch.linspace(low, high, images + 1)


def draw_masks(
    rng: Random, images: int, grid: Sequence[int], probability: float, ratio: Sequence[float]
) -> Tensor:
    """Masks of a batch: ⌊images · probability⌋ of them, with ratios spread evenly, at random places
    of the batch; the others are empty. Since their number is fixed, a mask is no function of its
    image alone.

    Args:
        rng: Draws ratio and blocks image by image, then the order.
        images: Number of masks.
        grid: Rows and columns of patches.
        probability: Share of the images that are masked.
        ratio: Smallest and largest share of patches.

    Returns:
        (images, patches) bool.
    """
    height, width = grid
    bounds = ratio_bounds(int(images * probability), ratio)
    largest = height // 2 * width
    masks = []
    for low, high in pairwise(bounds):
        # in float32, where rounding down decides about a patch
        number = int(height * width * rng.uniform(low, high))  # type: ignore[arg-type]
        masks.append(block_mask(rng, height, width, number, largest))
    masks += [torch.zeros(height, width, dtype=torch.bool) for _ in range(images - len(masks))]
    rng.shuffle(masks)
    return torch.stack(masks).flatten(1) if masks else torch.zeros(0, height * width).bool()
