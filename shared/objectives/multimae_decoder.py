"""MultiMAE's decoders: from the visible patches of all modalities to the pixels of one
(arXiv:2204.01678, §3)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from shared.encoders.patch_tokens import PatchTokenizer, position_table, resize_positions
from shared.encoders.transformer import NORM_EPS, Block, Mlp, init_xavier
from shared.objectives.base import Encoded
from shared.objectives.masked_patches import Masking, restore_tokens, take_tokens

Grids = Mapping[str, tuple[int, int]]
"""Rows and columns of patches, by modality."""


def token_numbers(grids: Grids) -> list[int]:
    """Number of tokens of each modality."""
    return [rows * columns for rows, columns in grids.values()]


def split_tokens(tokens: Tensor, grids: Grids) -> dict[str, Tensor]:
    """(batch, tokens of all modalities, …) → (batch, its tokens, …) of each."""
    return dict(zip(grids, torch.split(tokens, token_numbers(grids), dim=1), strict=True))


class CrossAttention(nn.Module):
    """Multi-head attention of queries to a context, with one projection for key and value."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.q = nn.Linear(dim, dim)
        self.kv = nn.Linear(dim, 2 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, queries: Tensor, context: Tensor, mask: Tensor) -> Tensor:
        """(batch, queries, dim), (batch, length, dim), (batch, length) bool → (batch, queries,
        dim)."""
        query = self.q(queries).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
        key, value = self.kv(context).unflatten(2, (2, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        found = scaled_dot_product_attention(query, key, value, attn_mask=mask[:, None, None])
        out: Tensor = self.proj(found.transpose(1, 2).flatten(2))
        return out


class TaskDecoder(nn.Module):
    """Visible tokens of all modalities → the pixels of one.

    The cross-attention has no residual, as in the released code.

    Args:
        encoder_dim: Width of the joint tokens.
        dim: Width of its own.
        depth: Blocks after the cross-attention.
        num_heads: Of every attention.
        modalities: All, in order.
        tokenizer: Of the modality that is predicted.
    """

    def __init__(
        self,
        encoder_dim: int,
        dim: int,
        depth: int,
        num_heads: int,
        modalities: Sequence[str],
        tokenizer: PatchTokenizer,
    ) -> None:
        super().__init__()
        self.patch_size, self.channels = tokenizer.patch_size, tokenizer.channels
        self.blocks = nn.ModuleList([Block(dim, num_heads) for _ in range(depth)])
        self.embed = nn.Linear(encoder_dim, dim)
        self.query_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.context_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attention = CrossAttention(dim, num_heads)
        self.mlp_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = Mlp(dim, 4 * dim)
        self.pred = nn.Linear(dim, self.channels * self.patch_size**2)
        self.apply(init_xavier)
        self.mask_token = nn.Parameter(0.02 * torch.randn(1, 1, dim))
        self.modality_embeddings = nn.ParameterDict(
            {m: nn.Parameter(0.02 * torch.randn(1, 1, dim)) for m in modalities}
        )
        self.pos_emb: Tensor
        self.register_buffer("pos_emb", position_table(dim, tokenizer.grid))

    def forward(
        self, pooled: Tensor, visible: Encoded, masking: Masking, grids: Grids, modality: str
    ) -> Tensor:
        """Pixels of one modality.

        Args:
            pooled: (batch, encoder_dim) global token.
            visible: Tokens (batch, kept, encoder_dim) with their mask.
            masking: Which of all tokens they are.
            grids: Rows and columns of patches of each modality.
            modality: The one that is predicted.

        Returns:
            (batch, channels, H, W).
        """
        context = self.embed(torch.cat([visible.rows, pooled[:, None]], dim=1))
        tokens = restore_tokens(context[:, :-1], self.mask_token, masking.ids_restore)
        tokens = tokens + self._places(grids)
        # the global token has no place
        context = torch.cat([take_tokens(tokens, masking.ids_keep), context[:, -1:]], dim=1)
        assert visible.mask is not None
        seen = torch.cat([visible.mask, visible.mask.new_ones(len(context), 1)], dim=1)
        queries = self.query_norm(split_tokens(tokens, grids)[modality])
        x = self.attention(queries, self.context_norm(context), seen)
        x = x + self.mlp(self.mlp_norm(x))
        for block in self.blocks:
            x = block(x)
        return self._image(self.pred(x), grids[modality])

    def _places(self, grids: Grids) -> Tensor:
        """(1, all tokens, dim): the modality and the position of each."""
        places = [
            self.modality_embeddings[m] + resize_positions(self.pos_emb, grid, "bilinear")
            for m, grid in grids.items()
        ]
        return torch.cat(places, dim=1)

    def _image(self, patches: Tensor, grid: tuple[int, int]) -> Tensor:
        """Patches in the order channel, row, column → an image."""
        side = self.patch_size
        cut = patches.reshape(len(patches), *grid, self.channels, side, side)
        image = cut.permute(0, 3, 1, 4, 2, 5)
        return image.reshape(len(patches), self.channels, grid[0] * side, grid[1] * side)
