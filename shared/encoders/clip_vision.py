"""The image tower of CLIP (arXiv:2103.00020, §2.4): a vision transformer with a norm before its
blocks."""

import torch
from torch import Tensor, nn

from shared.encoders.base import Embedding, Encoder
from shared.encoders.clip_blocks import NORM_EPS, build_blocks
from shared.errors import ConfigError, DataError


class CLIPVision(Encoder):
    """Patches and a class token through pre-norm blocks.

    Input `values` (batch, in_channels, image_size, image_size) float. `pooled` (batch, dim) is the
    class token, `tokens` (batch, patches, dim) are those of the patches row by row, both after the
    last norm; CLIP's projection is the model's head. The defaults are those of ViT-B/32.

    Args:
        image_size: Side of the images.
        in_channels: Channels of the images.
        patch_size: Side of a patch.
        dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Of the attention.
        mlp_ratio: Hidden width of the feed-forward over `dim`.
        quick_gelu: Whether the activation is QuickGELU, as in OpenAI's checkpoints and what starts
            from them; nothing in their tensors tells.
    """

    def __init__(
        self,
        image_size: int,
        in_channels: int,
        patch_size: int = 32,
        dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        quick_gelu: bool = False,
    ) -> None:
        super().__init__()
        if image_size % patch_size:
            raise ConfigError(f"image_size={image_size} is no multiple of patch_size={patch_size}.")
        self.dim, self.image_size = dim, image_size
        self.patch_embed = nn.Conv2d(in_channels, dim, patch_size, stride=patch_size, bias=False)
        self.cls_token = nn.Parameter(dim**-0.5 * torch.randn(dim))
        patches = (image_size // patch_size) ** 2
        self.pos_embed = nn.Parameter(dim**-0.5 * torch.randn(1 + patches, dim))
        self.norm_pre = nn.LayerNorm(dim, eps=NORM_EPS)
        self.blocks = nn.ModuleList(build_blocks(dim, depth, num_heads, mlp_ratio, quick_gelu))
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Raises DataError for images of another size."""
        values = inputs["values"]
        if values.shape[2:] != (self.image_size, self.image_size):
            raise DataError(
                f"Images of {values.shape[2]} × {values.shape[3]} for an encoder of images of "
                f"{self.image_size} × {self.image_size}: resize them in the preprocessing."
            )
        patches = self.patch_embed(values).flatten(2).transpose(1, 2)
        x = torch.cat([self.cls_token.to(patches.dtype).expand(len(patches), 1, -1), patches], 1)
        x = self.norm_pre(x + self.pos_embed)
        for block in self.blocks:
            x = block(x)
        x = self.norm(x)
        return Embedding(x[:, 0], x[:, 1:])
