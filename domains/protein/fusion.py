"""Attention of two modalities to themselves and to each other (ProtST, arXiv:2301.12040)."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import pad, scaled_dot_product_attention

from shared.distributed import numbers_of_ranks
from shared.encoders.base import Embedding, Fusion
from shared.encoders.bert import mean_over
from shared.errors import ConfigError


class CrossAttention(nn.Module):
    """Tokens of either modality attend to those of both, by two separate softmaxes whose results
    are averaged; there is no scaling of the logits, no output projection and no residual.

    Args:
        dim: Width of the tokens.
        num_heads: Number of heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.heads = (num_heads, dim // num_heads)
        self.query, self.key, self.value = (
            nn.ModuleList([nn.Linear(dim, dim, bias=False) for _ in range(2)]) for _ in range(3)
        )

    def forward(self, tokens: Sequence[Tensor], masks: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Attend.

        Args:
            tokens: Of two modalities, (batch, length, dim).
            masks: (batch, length) bool, True where a token stands for data.

        Returns:
            Of both, (batch, length, dim), zero where the mask is False.
        """
        queries = [self._heads(f(x)) for f, x in zip(self.query, tokens, strict=True)]
        keys = [self._heads(f(x)) for f, x in zip(self.key, tokens, strict=True)]
        values = [self._heads(f(x)) for f, x in zip(self.value, tokens, strict=True)]
        bias = [_bias(mask, queries[0].dtype) for mask in masks]
        outputs = []
        for query, mask in zip(queries, masks, strict=True):
            found = [
                scaled_dot_product_attention(query, key, value, attn_mask=b, scale=1.0)
                for key, value, b in zip(keys, values, bias, strict=True)
            ]
            joined = ((found[0] + found[1]) / 2).transpose(1, 2).flatten(2)
            outputs.append(joined.masked_fill(~mask[..., None], 0.0))
        return tuple(outputs)

    def _heads(self, x: Tensor) -> Tensor:
        """(batch, length, dim) → (batch, heads, length, dim / heads)."""
        return x.view(*x.shape[:2], *self.heads).transpose(1, 2)


def _normed(norm: nn.Module, x: Tensor) -> Tensor:
    """A norm over all positions of (batch, length, dim)."""
    length = x.shape[1]
    over_ranks = norm.training and type(norm) not in (nn.BatchNorm1d, nn.Identity)
    missing = max(numbers_of_ranks(length, x.device)) - length if over_ranks else 0
    padded = pad(x, (0, 0, 0, missing))
    normed: Tensor = norm(padded.flatten(0, 1)).view_as(padded)[:, :length]
    return normed


def _bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """(batch, 1, 1, length), the lowest finite number where the mask is False: where it is so
    everywhere, the softmax is that of no mask and not NaN."""
    bias = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
    return bias.masked_fill(~mask, torch.finfo(dtype).min)[:, None, None]


class CrossAttentionFusion(Fusion):
    """Blocks of attention over two modalities, each followed by a batch norm and a ReLU.

    The batch norms see all positions, padding (zero) included, as ProtST's do; over several ranks
    the padding of the joint batch. `pooled` is the mean over the joint tokens.

    Args:
        dims: Width of the tokens of two modalities, which has to be one.
        depth: Number of blocks.
        num_heads: Of the attention.
        batch_norm: Whether there are batch norms.

    Raises:
        ConfigError: Not two modalities of one width that the heads divide.
    """

    def __init__(
        self,
        dims: Mapping[str, int],
        depth: int = 1,
        num_heads: int = 8,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        self.dim = next(iter(dims.values()), 0)
        if len(dims) != 2 or set(dims.values()) != {self.dim} or self.dim % num_heads:
            raise ConfigError(
                f"cross_attention_fusion: it joins two modalities with tokens of one width that "
                f"num_heads={num_heads} divides, not {dict(dims)}. Give both a token_head."
            )
        self.layers = nn.ModuleList([CrossAttention(self.dim, num_heads) for _ in range(depth)])
        self.norms = nn.ModuleList(
            nn.ModuleList(
                nn.BatchNorm1d(self.dim) if batch_norm else nn.Identity() for _ in range(depth)
            )
            for _ in dims
        )

    def forward(self, tokens: Mapping[str, Embedding], inputs: Mapping[str, Tensor]) -> Embedding:
        parts, masks = [], []
        for embedding in tokens.values():
            assert embedding.tokens is not None
            assert embedding.mask is not None
            parts.append(embedding.tokens)
            masks.append(embedding.mask)
        for depth, layer in enumerate(self.layers):
            attended = layer(parts, masks)
            parts = [
                _normed(norms[depth], x).relu()  # type: ignore[index]
                for norms, x in zip(self.norms, attended, strict=True)
            ]
        joint, mask = torch.cat(parts, dim=1), torch.cat(masks, dim=1)
        return Embedding(mean_over(joint, mask), joint, mask)
