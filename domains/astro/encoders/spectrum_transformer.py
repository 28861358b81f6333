"""A transformer over patches of a spectrum."""

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from domains.astro.encoders.informer import sinusoids
from shared.encoders.base import Embedding, Encoder
from shared.encoders.transformer import NORM_EPS, Block, init_xavier, put_mask_token
from shared.errors import ConfigError


class SpectrumTransformer(Encoder):
    """Neighbouring points as one token each, through pre-norm blocks and a last LayerNorm: a vision
    transformer (arXiv:2010.11929) in one dimension, with fixed sines and cosines as positions and
    without a class token.

    Inputs: `values` (batch, in_channels, input_length) float32; `hidden` (batch, input_length)
    bool, points that are not seen: a patch that is hidden as a whole is replaced by the mask token
    (needs `mask_token=true`). The last patch is padded with zeros. Gives `tokens`
    (batch, ⌈input_length / patch_size⌉, dim), their `mask`, True everywhere, and `pooled`
    (batch, dim), their mean.

    Args:
        in_channels: Rows of the prepared spectrum.
        input_length: Points of the wavelength grid.
        patch_size: Points a token.
        dim: Width of the tokens; even.
        depth: Number of blocks.
        num_heads: Of the attention; divides `dim`.
        mlp_ratio: Hidden width of the feed-forward over `dim`.
        drop_path: Share of a training batch that skips each residual.
        mask_token: Whether there is a learned token for hidden patches.

    Raises:
        ConfigError: `dim` is odd or not divisible by `num_heads`, or `patch_size` is out of range.
    """

    positions: Tensor

    def __init__(
        self,
        in_channels: int,
        input_length: int,
        patch_size: int = 25,
        dim: int = 64,
        depth: int = 3,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        drop_path: float = 0.0,
        mask_token: bool = False,
    ) -> None:
        super().__init__()
        if dim % 2:
            raise ConfigError(f"spectrum_transformer: dim={dim} has to be even.")
        if not 1 <= patch_size <= input_length:
            raise ConfigError(
                f"spectrum_transformer: patch_size={patch_size} has to be from 1 to the "
                f"{input_length} points of the spectrum."
            )
        self.dim, self.positions_per_token = dim, patch_size
        self.patch_embed = nn.Conv1d(in_channels, dim, patch_size, stride=patch_size)
        self.blocks = nn.ModuleList(
            [Block(dim, num_heads, mlp_ratio, drop_path=drop_path) for _ in range(depth)]
        )
        self.norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.apply(init_xavier)
        self.mask_token = nn.Parameter(torch.zeros(1, dim)) if mask_token else None
        table = sinusoids(-(-input_length // patch_size), dim)
        self.register_buffer("positions", table, persistent=False)

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        values, hidden = inputs["values"], inputs.get("hidden")
        missing = -values.shape[2] % self.positions_per_token
        x = self.patch_embed(pad(values, (0, missing))).transpose(1, 2)
        if self.mask_token is not None:
            if hidden is not None:
                size = self.positions_per_token
                hidden = pad(hidden, (0, missing), value=True).unfold(1, size, size).all(dim=2)
            x = put_mask_token(x, self.mask_token, hidden)
        x = x + self.positions
        for block in self.blocks:
            x = block(x)
        tokens = self.norm(x)
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Embedding(tokens.mean(dim=1), tokens, mask)
