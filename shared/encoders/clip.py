"""The two towers of CLIP (arXiv:2103.00020, §2.4), over the modules of open_clip."""

from typing import Any

import torch
from torch import Tensor, nn

from shared.encoders.base import Embedding, Encoder
from shared.errors import ConfigError, DataError
from shared.optional import import_optional


class CLIPVision(Encoder):
    """Patches and a class token through a norm, pre-norm blocks and a last norm.

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
        quick_gelu: Whether the activation is QuickGELU, x · σ(1.702 x) (arXiv:1606.08415, §2), as
            in OpenAI's checkpoints and what starts from them; nothing in their tensors tells.

    Raises:
        ConfigError: The image is no whole number of patches wide.
        DependencyError: open_clip is not installed.
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
        modules = _open_clip("clip_vision")
        self.dim, self.depth, self.image_size = dim, depth, image_size
        self.trunk: Any = modules.VisionTransformer(
            image_size=image_size,
            patch_size=patch_size,
            width=dim,
            layers=depth,
            heads=num_heads,
            mlp_ratio=mlp_ratio,
            act_layer=modules.QuickGELU if quick_gelu else nn.GELU,
        )
        self.trunk.proj = None
        if in_channels != 3:
            self.trunk.conv1 = nn.Conv2d(
                in_channels, dim, patch_size, stride=patch_size, bias=False
            )

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Raises DataError for images of another size."""
        values = inputs["values"]
        if values.shape[2:] != (self.image_size, self.image_size):
            raise DataError(
                f"Images of {values.shape[2]} × {values.shape[3]} for an encoder of images of "
                f"{self.image_size} × {self.image_size}: resize them in the preprocessing."
            )
        # not trunk(values), which cannot reshape what no image gave
        trunk = self.trunk
        patches = trunk.conv1(values).flatten(2).transpose(1, 2)
        first = trunk.class_embedding.to(patches.dtype).expand(len(patches), 1, -1)
        x = torch.cat([first, patches], dim=1) + trunk.positional_embedding
        x = trunk.ln_post(trunk.transformer(trunk.ln_pre(x)))
        return Embedding(x[:, 0], x[:, 1:])

    def layer_id(self, name: str) -> int:
        """Number of the layer that a parameter belongs to; see `VisionTransformer.layer_id`."""
        before = ("conv1", "class_embedding", "positional_embedding", "ln_pre")
        return _layer_id(name, before, self.depth)


class CLIPText(Encoder):
    """Tokens that look back only, read at the end of the text.

    Input `input_ids` (batch, length) int64, length at most `context_length`. The end of a text is
    where its largest id first stands, as in CLIP's vocabulary; ids after it change nothing.
    `pooled` (batch, dim) is the token there, `tokens` (batch, length, dim) are all, after the last
    norm, `mask` (batch, length) ends with the text; CLIP's projection is the model's head. The
    defaults are those of ViT-B/32.

    Args:
        vocab_size: Number of ids.
        context_length: Most ids of a text.
        dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Of the attention.
        mlp_ratio: Hidden width of the feed-forward over `dim`.
        quick_gelu: As of `CLIPVision`.

    Raises:
        DependencyError: open_clip is not installed.
    """

    def __init__(
        self,
        vocab_size: int = 49408,
        context_length: int = 77,
        dim: int = 512,
        depth: int = 12,
        num_heads: int = 8,
        mlp_ratio: float = 4.0,
        quick_gelu: bool = False,
    ) -> None:
        super().__init__()
        modules = _open_clip("clip_text")
        self.dim, self.depth, self.context_length = dim, depth, context_length
        self.trunk: Any = modules.TextTransformer(
            context_length=context_length,
            vocab_size=vocab_size,
            width=dim,
            heads=num_heads,
            layers=depth,
            mlp_ratio=mlp_ratio,
            output_dim=None,
            act_layer=modules.QuickGELU if quick_gelu else nn.GELU,
        )

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Raises DataError for texts longer than the context."""
        ids, trunk = inputs["input_ids"], self.trunk
        length = ids.shape[1]
        if length > self.context_length:
            raise DataError(
                f"A text of {length} ids for an encoder of at most {self.context_length}: cut it "
                "in the preprocessing."
            )
        # not trunk(ids), whose mask fits texts of the whole context only
        x = trunk.token_embedding(ids) + trunk.positional_embedding[:length]
        x = trunk.ln_final(trunk.transformer(x, attn_mask=trunk.attn_mask[:length, :length]))
        end = ids.argmax(dim=1, keepdim=True)
        pooled = x.gather(1, end[..., None].expand(-1, -1, self.dim))[:, 0]
        return Embedding(pooled, x, torch.arange(length, device=ids.device) <= end)

    def layer_id(self, name: str) -> int:
        """Number of the layer that a parameter belongs to; see `VisionTransformer.layer_id`."""
        return _layer_id(name, ("token_embedding", "positional_embedding"), self.depth)


def _layer_id(name: str, before: tuple[str, ...], depth: int) -> int:
    """The layer of `trunk.` and open_clip's name, where `before` are the parts that make tokens."""
    parts = name.split(".")
    if parts[1] == "transformer":
        return int(parts[3]) + 1
    return 0 if parts[1] in before else depth + 1


def _open_clip(who: str) -> Any:
    return import_optional("open_clip.transformer", "vision", who)
