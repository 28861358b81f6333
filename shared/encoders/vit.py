"""The vision transformer (arXiv:2010.11929), in the layouts of DINOv2 and MAE."""

from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from shared.encoders.base import Embedding, Encoder
from shared.encoders.transformer import (
    NORM_EPS,
    Block,
    init_trunc_normal,
    init_xavier,
    sincos_positions,
)
from shared.errors import ConfigError, DataError


class PatchEmbed(nn.Module):
    """Non-overlapping patches, each projected to a token, row by row."""

    def __init__(self, in_channels: int, patch_size: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size)

    def forward(self, values: Tensor) -> Tensor:
        """(batch, in_channels, H, W) → (batch, patches, dim)."""
        tokens: Tensor = self.proj(values)
        return tokens.flatten(2).transpose(1, 2)


class VisionTransformer(Encoder):
    """Patches, a class token and optional registers through pre-norm blocks and a last LayerNorm.

    Inputs: `values` (batch, in_channels, H, W) float, H and W multiples of the patch size;
    `token_mask` (batch, patches) bool, tokens replaced by the mask token (needs
    `mask_token=true`); `ids_keep` (batch, kept) int64, the only patches that are encoded. `pooled`
    (batch, dim) is the class token, `tokens` (batch, patches, dim) are those of the patches, both
    after the last norm.

    The defaults are DINOv2's (arXiv:2304.07193); its models with registers (arXiv:2309.16588) have
    `num_registers=4 interpolate_offset=0 interpolate_antialias=true`, and MAE (arXiv:2111.06377)
    has `layer_scale=null positions=sincos init=xavier`.

    Args:
        image_size: Side of the square images that the position table is made for.
        in_channels: Channels of the images.
        patch_size: Side of a patch.
        dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Of the attention.
        mlp_ratio: Hidden width of the feed-forward over `dim`.
        ffn: Its kind.
        layer_scale: Initial value of the LayerScale factors; None: there are none.
        num_registers: Extra tokens without position, dropped at the end (arXiv:2309.16588).
        mask_token: Whether there is a learned token for masked patches.
        positions: A `learned` table or the fixed one of sines and cosines.
        interpolate_offset: Added to the number of patches when the table is scaled to other sizes;
            0 scales to the size itself.
        interpolate_antialias: Whether that scaling smooths when it shrinks.
        drop_path: Share of a training batch that skips each residual.
        init: Start of the weights: DINOv2's or MAE's.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        patch_size: int = 16,
        dim: int = 384,
        depth: int = 12,
        num_heads: int = 6,
        mlp_ratio: float = 4.0,
        ffn: Literal["mlp", "swiglu"] = "mlp",
        layer_scale: float | None = 1e-5,
        num_registers: int = 0,
        mask_token: bool = False,
        positions: Literal["learned", "sincos"] = "learned",
        interpolate_offset: float = 0.1,
        interpolate_antialias: bool = False,
        drop_path: float = 0.0,
        init: Literal["trunc_normal", "xavier"] = "trunc_normal",
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ConfigError(f"image_size={image_size} is no multiple of patch_size={patch_size}.")
        self.dim, self.depth, self.patch_size = dim, depth, patch_size
        self.num_registers, self.grid = num_registers, image_size // patch_size
        self.interpolate_offset = interpolate_offset
        self.interpolate_antialias = interpolate_antialias
        self.patch_embed = PatchEmbed(in_channels, patch_size, dim)
        self.blocks = nn.ModuleList(
            [Block(dim, num_heads, mlp_ratio, ffn, layer_scale, drop_path) for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.apply(init_xavier if init == "xavier" else init_trunc_normal)
        std = 0.02 if init == "xavier" else 1e-6
        self.cls_token = nn.Parameter(std * torch.randn(1, 1, dim))
        if num_registers:
            self.register_tokens = nn.Parameter(std * torch.randn(1, num_registers, dim))
        self.mask_token = nn.Parameter(torch.zeros(1, dim)) if mask_token else None
        self.pos_embed: Tensor
        if positions == "sincos":
            table = sincos_positions(dim, self.grid, self.grid)
            self.register_buffer("pos_embed", torch.cat([torch.zeros(1, dim), table])[None])
        else:
            self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid**2, dim))
            nn.init.trunc_normal_(self.pos_embed, std=0.02)

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        x = self.embed(inputs["values"], inputs.get("token_mask"), inputs.get("ids_keep"))
        for block in self.blocks:
            x = block(x)
        return Embedding(*self._split(self.norm(x)))

    def embed(
        self, values: Tensor, token_mask: Tensor | None = None, ids_keep: Tensor | None = None
    ) -> Tensor:
        """What enters the first block.

        Args:
            values: (batch, in_channels, H, W).
            token_mask: (batch, patches) bool, patches replaced by the mask token.
            ids_keep: (batch, kept) int64, the only patches that stay.

        Returns:
            (batch, 1 + registers + kept patches, dim): class token, registers, patches.

        Raises:
            DataError: The image does not consist of whole patches.
            ConfigError: A mask, and no mask token.
        """
        batch, _, height, width = values.shape
        if height % self.patch_size or width % self.patch_size:
            raise DataError(
                f"An image of {height} × {width} cannot be cut into patches of {self.patch_size}: "
                "resize or crop it to multiples."
            )
        x = self.patch_embed(values)
        if token_mask is not None:
            if self.mask_token is None:
                raise ConfigError("Masked patches need an encoder with mask_token=true.")
            x = torch.where(token_mask[..., None], self.mask_token.to(x.dtype), x)
        table = self.positions(height // self.patch_size, width // self.patch_size)
        x = x + table[:, 1:]
        if ids_keep is not None:
            x = x.gather(1, ids_keep[..., None].expand(-1, -1, self.dim))
        front = [(self.cls_token + table[:, :1]).expand(batch, -1, -1)]
        if self.num_registers:
            front.append(self.register_tokens.expand(batch, -1, -1))
        return torch.cat([*front, x], dim=1)

    def positions(self, height: int, width: int) -> Tensor:
        """The position table, bicubically scaled to a grid of patches.

        Upstream's way to the letter, which other libraries depart from away from the native size:
        with an offset, the resampling coordinates follow (height + offset) / side.

        Returns:
            (1, 1 + height · width, dim) float32, the class token's first.
        """
        table = self.pos_embed.float()
        if height == width == self.grid:
            return table
        square = table[:, 1:].view(1, self.grid, self.grid, self.dim).permute(0, 3, 1, 2)
        to: dict[str, tuple[float, float]] = {"size": (height, width)}
        if self.interpolate_offset:
            factors = [(n + self.interpolate_offset) / self.grid for n in (height, width)]
            to = {"scale_factor": (factors[0], factors[1])}
        scaled = interpolate(
            square,
            **to,  # type: ignore[arg-type]
            mode="bicubic",
            antialias=self.interpolate_antialias,
        )
        return torch.cat([table[:, :1], scaled.flatten(2).transpose(1, 2)], dim=1)

    def intermediate_layers(
        self, values: Tensor, layers: int | Sequence[int] = 1, norm: bool = True
    ) -> list[tuple[Tensor, Tensor]]:
        """Class token and patch tokens after some of the blocks.

        Args:
            values: (batch, in_channels, H, W).
            layers: The last so many blocks, or the numbers of blocks.
            norm: Whether the last LayerNorm is applied to each.

        Returns:
            For each block (batch, dim) and (batch, patches, dim), registers left out.

        Raises:
            ConfigError: A block that is not there.
        """
        chosen = range(self.depth - layers, self.depth) if isinstance(layers, int) else layers
        if not set(chosen) <= set(range(self.depth)):
            raise ConfigError(f"layers={layers}: the encoder has {self.depth} blocks.")
        found = []
        x = self.embed(values)
        for number, block in enumerate(self.blocks):
            x = block(x)
            if number in chosen:
                found.append(self._split(self.norm(x) if norm else x))
        return found

    def layer_id(self, name: str) -> int:
        """Number of the layer that a parameter belongs to, for learning rates that decay by layer.

        0 is what makes the tokens, i + 1 block i, depth + 1 the rest.
        """
        first, _, rest = name.partition(".")
        if first == "blocks":
            return int(rest.partition(".")[0]) + 1
        before = ("patch_embed", "pos_embed", "cls_token", "mask_token", "register_tokens")
        return 0 if first in before else self.depth + 1

    def _split(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x[:, 0], x[:, 1 + self.num_registers :]
