"""Patches as tokens and nothing more: what a fusion of several images reads (MultiMAE,
arXiv:2204.01678, §3)."""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared.encoders.base import Embedding, Encoder
from shared.encoders.transformer import init_xavier, sincos_positions
from shared.errors import ConfigError, DataError

Interpolation = Literal["bicubic", "bilinear"]


def position_table(dim: int, grid: int) -> Tensor:
    """Fixed sines and cosines of a square grid: half the channels from the row, half from the
    column.

    MAE's table has the halves the other way round.

    Returns:
        (1, dim, grid, grid) float32.

    Raises:
        ConfigError: `dim` is no multiple of 4.
    """
    return sincos_positions(dim, grid, grid).view(grid, grid, dim).permute(2, 1, 0)[None]


def resize_positions(table: Tensor, grid: tuple[int, int], mode: Interpolation) -> Tensor:
    """(1, dim, h, w) → (1, rows · columns, dim), a token each, interpolated to another grid."""
    if table.shape[2:] != grid:
        table = interpolate(table, size=grid, mode=mode)
    return table.flatten(2).transpose(1, 2)


def standardise_robustly(values: Tensor, cut: float = 0.1) -> Tensor:
    """Every image by mean and unbiased variance, plus 1e-6, of its middle values: without the
    lowest and the highest tenth, as MultiMAE's released code does with depth.

    Args:
        values: (batch, C, H, W).
        cut: Share of the values that is left out at each end.
    """
    ordered = values.flatten(1).sort(dim=1).values
    length = ordered.shape[1]
    middle = ordered[:, int(cut * length) : int((1 - cut) * length)]
    variance, mean = (t[:, None, None, None] for t in torch.var_mean(middle, dim=1))
    return (values - mean) / (variance + 1e-6).sqrt()


class PatchTokenizer(Encoder):
    """Non-overlapping patches with their positions.

    `tokens` (batch, patches, dim) row by row; `pooled` (batch, dim) is their mean.

    Attributes:
        patch_size: Side of a patch, in pixels.
        grid: Patches along a side of the images that the position table is made for.
        channels: Numbers that a prediction of one pixel consists of.
    """

    channels: int

    def __init__(self, image_size: int, patch_size: int, in_channels: int, dim: int) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ConfigError(f"image_size={image_size} is no multiple of patch_size={patch_size}.")
        self.dim, self.patch_size, self.grid = dim, patch_size, image_size // patch_size
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)
        self.apply(init_xavier)
        self.pos_emb: Tensor
        self.register_buffer("pos_emb", position_table(dim, self.grid))

    def target(self, values: Tensor) -> Tensor:
        """What a prediction of the input has to come to."""
        return values

    def _embed(self, images: Tensor, mode: Interpolation) -> Embedding:
        height, width = images.shape[2:]
        if height % self.patch_size or width % self.patch_size:
            raise DataError(
                f"An image of {height} × {width} cannot be cut into patches of {self.patch_size}: "
                "resize or crop it to multiples."
            )
        patches = self.proj(images)
        positions = resize_positions(self.pos_emb, tuple(patches.shape[2:]), mode)
        tokens = patches.flatten(2).transpose(1, 2) + positions
        return Embedding(tokens.mean(dim=1), tokens)


class PatchTokens(PatchTokenizer):
    """Patches of an image. Inputs: `values` (batch, in_channels, H, W) float.

    Args:
        image_size: Side of the images that the position table is made for; for others it is scaled.
        in_channels: Channels of the images.
        patch_size: Side of a patch.
        dim: Width of the tokens.
        standardise: Whether each image is first standardised by its middle values, as MultiMAE does
            with depth.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        patch_size: int = 16,
        dim: int = 768,
        standardise: bool = False,
    ) -> None:
        super().__init__(image_size, patch_size, in_channels, dim)
        self.channels, self.standardise = in_channels, standardise

    def target(self, values: Tensor) -> Tensor:
        return standardise_robustly(values) if self.standardise else values

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        return self._embed(self.target(inputs["values"]), "bicubic")


class LabelPatchTokens(PatchTokenizer):
    """Patches of a map of classes. Inputs: `values` (batch, H, W) int64.

    Args:
        image_size: Side of the maps that the position table is made for; for others it is scaled.
        num_classes: Classes 0 to num_classes − 1.
        patch_size: Side of a patch; MultiMAE has maps of a quarter of the image's side, and so
            patches of a quarter of the image's.
        dim: Width of the tokens.
        class_dim: Width of a class's embedding.
    """

    def __init__(
        self,
        image_size: int,
        num_classes: int,
        patch_size: int = 4,
        dim: int = 768,
        class_dim: int = 64,
    ) -> None:
        super().__init__(image_size, patch_size, class_dim, dim)
        self.channels = num_classes
        self.class_emb = nn.Embedding(num_classes, class_dim)
        nn.init.trunc_normal_(self.class_emb.weight, std=0.02)

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        classes = self.class_emb(inputs["values"])
        return self._embed(classes.permute(0, 3, 1, 2), "bilinear")
