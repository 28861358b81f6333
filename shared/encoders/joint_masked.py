"""One transformer over the tokens of all modalities, of which it may see only some (MultiMAE,
arXiv:2204.01678, §3)."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from shared.encoders.base import Embedding, Fusion
from shared.encoders.transformer import Block, init_xavier
from shared.errors import ConfigError


class JointMaskedTransformer(Fusion):
    """Pre-norm blocks over all tokens and a global one behind them, without a last norm.

    Inputs: `ids_keep` (batch, kept) int64, the only tokens that are encoded, counted over all
    modalities in order; all of them where it is not given. `pooled` (batch, dim) is the global
    token, `tokens` (batch, kept, dim) are the others.

    Args:
        dims: Width of each modality's tokens; all the same.
        depth: Number of blocks.
        num_heads: Of the attention.
        mlp_ratio: Hidden width of the feed-forward over the tokens' width.
        drop_path: Share of a training batch that skips each residual.

    Raises:
        ConfigError: The widths differ.
    """

    encodes_alone = True

    def __init__(
        self,
        dims: Mapping[str, int],
        depth: int = 12,
        num_heads: int = 12,
        mlp_ratio: float = 4.0,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if len(set(dims.values())) > 1:
            raise ConfigError(f"joint_masked needs tokens of one width, not {dict(dims)}.")
        self.dim = next(iter(dims.values()))
        self.blocks = nn.ModuleList(
            [Block(self.dim, num_heads, mlp_ratio, drop_path=drop_path) for _ in range(depth)]
        )
        self.apply(init_xavier)
        self.global_token = nn.Parameter(0.02 * torch.randn(1, 1, self.dim))

    def forward(self, tokens: Mapping[str, Embedding], inputs: Mapping[str, Tensor]) -> Embedding:
        x = torch.cat([_given(embedding.tokens) for embedding in tokens.values()], dim=1)
        mask = torch.cat([_given(embedding.mask) for embedding in tokens.values()], dim=1)
        if "ids_keep" in inputs:
            ids = inputs["ids_keep"]
            x = x.gather(1, ids[..., None].expand(-1, -1, self.dim))
            mask = mask.gather(1, ids)
        x = torch.cat([x, self.global_token.expand(len(x), -1, -1)], dim=1)
        seen = torch.cat([mask, mask.new_ones(len(x), 1)], dim=1)
        for block in self.blocks:
            x = block(x, seen)
        return Embedding(x[:, -1], x[:, :-1], mask)


def _given(tensor: Tensor | None) -> Tensor:
    assert tensor is not None
    return tensor
