"""The Informer encoder of AstroM3 (arXiv:2411.08842 §3.1; Informer, arXiv:2012.07436)."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, pad, relu, scaled_dot_product_attention

from shared.encoders.base import Embedding, Encoder
from shared.errors import ConfigError

MAX_LENGTH = 5000
"""Rows of the table of positions, which is part of published checkpoints."""


def sinusoids(length: int, dim: int) -> Tensor:
    """Sines and cosines of the position in turn (arXiv:1706.03762 §3.5), (length, dim) float32."""
    # the exponential of a product, as upstream: a power of 10000 differs by 6e-5 at the far end
    frequency = torch.exp(torch.arange(0, dim, 2).float() * (-math.log(10000.0) / dim))
    phase = torch.arange(length).float()[:, None] * frequency
    return torch.stack([phase.sin(), phase.cos()], dim=-1).flatten(1)


class ProbSparseAttention(nn.Module):
    """Self-attention of the few queries that stand out (arXiv:2012.07436 §3.2); all others get the
    mean of the values.

    Without a mask it does as AstroM3's code, and so its weights: all positions count, and the
    heads' outputs (heads, length, dim / heads) are read as (length, dim) without being transposed,
    which mixes heads and times. With one, the heads are joined at each position, and no real
    position depends on padding.

    Args:
        dim: Width; divisible by `num_heads`.
        num_heads: Number of heads.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.query, self.key, self.value = (nn.Linear(dim, dim) for _ in range(3))
        self.out = nn.Linear(dim, dim)

    def project(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(batch, length, dim) → queries, keys, values: (batch, heads, length, dim / heads)."""
        shape = (*x.shape[:2], self.num_heads, x.shape[2] // self.num_heads)
        query, key, value = (
            layer(x).view(shape).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        return query, key, value

    @torch.no_grad()
    def select_queries(
        self, query: Tensor, key: Tensor, index_sample: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        """Queries whose products with a sample of keys are the most uneven (eq. 4).

        Args:
            query: (batch, heads, length, dim / heads).
            key: The same shape.
            index_sample: (length, number) int64, the keys that each query is held against. With a
                mask, of n real positions the one at index · n / length is taken.
            mask: (batch, length) bool, True where real; None makes no difference between positions.

        Returns:
            (batch, heads, number) int64 positions; padding only where there are no more real ones.
        """
        length, number = index_sample.shape
        if mask is None:
            scores = torch.einsum("bhqd,bhqjd->bhqj", query, key[:, :, index_sample])
            # over the length, not over the sample as in the paper: so does the code of both papers
            unevenness = scores.amax(dim=-1) - scores.sum(dim=-1) / length
        else:
            count = mask.sum(dim=1).clamp(min=1)[:, None, None]
            real_first = mask.int().argsort(dim=1, descending=True, stable=True)
            sample = real_first.gather(1, (index_sample * count // length).flatten(1))
            sample = sample.view(len(key), length, number)
            rows = torch.arange(len(key), device=key.device)[:, None, None]
            scores = torch.einsum("bhqd,bqjhd->bhqj", query, key[rows, :, sample])
            unevenness = scores.amax(dim=-1) - scores.sum(dim=-1) / count
            unevenness = unevenness.masked_fill(~mask[:, None], -math.inf)
        return unevenness.topk(number, dim=-1, sorted=False).indices

    def forward(self, x: Tensor, index_sample: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, length, dim) → the same; the others as in `select_queries`."""
        query, key, value = self.project(x)
        chosen = self.select_queries(query, key, index_sample, mask)[..., None]
        chosen = chosen.expand(-1, -1, -1, query.shape[-1])
        if mask is None:
            seen, mean = None, value.mean(dim=2, keepdim=True)
        else:
            seen = mask[:, None, None]
            # a product, which autocast leaves in the precision of the values
            share = seen / seen.sum(dim=-1, keepdim=True).clamp(min=1)
            mean = share.to(value.dtype) @ value
        attended = scaled_dot_product_attention(query.gather(2, chosen), key, value, seen)
        context = mean.expand_as(value).scatter(2, chosen, attended)
        if mask is not None:
            context = context.transpose(1, 2)
        out: Tensor = self.out(context.reshape(x.shape))
        return out


class InformerLayer(nn.Module):
    """ProbSparse attention and a feed-forward part, each followed by a norm."""

    def __init__(
        self, dim: int, num_heads: int, ffn_dim: int, dropout: float, activation: str
    ) -> None:
        super().__init__()
        self.attention = ProbSparseAttention(dim, num_heads)
        self.conv1, self.conv2 = nn.Conv1d(dim, ffn_dim, 1), nn.Conv1d(ffn_dim, dim, 1)
        self.norm1, self.norm2 = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.activation = gelu if activation == "gelu" else relu

    def forward(self, x: Tensor, index_sample: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, length, dim) → the same; the others as in `ProbSparseAttention`."""
        x = self.norm1(x + self.dropout(self.attention(x, index_sample, mask)))
        y = self.dropout(self.activation(self.conv1(x.transpose(1, 2))))
        y = self.dropout(self.conv2(y)).transpose(1, 2)
        out: Tensor = self.norm2(x + y)
        return out


class Informer(Encoder):
    """Transformer encoder over the observations of a light curve in the order of time.

    Inputs: `values` (batch, length, in_channels) float32 and `mask` (batch, length) bool, padded
    with zeros to `input_length`; optionally `index_sample` (depth, input_length, number) int64,
    the keys that each query is held against, layer by layer. Gives `tokens`
    (batch, input_length, dim), zero where the mask is False, and `pooled`, the same as one row.

    With `mask_padding` a light curve gives the same tokens whatever its padding holds. Without it,
    as in AstroM3's code, padding is seen by convolution and attention, only the output is masked,
    and attention mixes heads and times: published weights were trained so. Parameters are the same.

    The convolution is circular: the first observation sees the last position, padding or not.

    Without `index_sample` the keys are drawn, with replacement, for the whole batch: in
    training from torch's global CPU generator, in evaluation from one that starts at `eval_seed`
    at each call, so that embeddings are reproducible (AstroM3 draws from the global one always).
    Where factor · ceil(ln input_length) ≥ input_length the output does not depend on the draw.

    Args:
        input_length: Observations of a light curve; at least 2.
        in_channels: Channels of `values`.
        dim: Width of the tokens; even and divisible by `num_heads`.
        depth: Layers.
        num_heads: Attention heads.
        ffn_dim: Hidden width of the feed-forward part.
        factor: Sampled keys, and queries that attend, over ceil(ln input_length).
        dropout: In the layers and on the output.
        embedding_dropout: On the embedded input; AstroM3's code fixes it at 0.1.
        activation: Of the feed-forward part.
        eval_seed: Of the draws in evaluation.
        mask_padding: Keep padding out of convolution and attention.

    Raises:
        ConfigError: `dim` is odd or not divisible by `num_heads`, `input_length` is out of range,
            or a light curve is longer.
    """

    positions: Tensor

    def __init__(
        self,
        input_length: int,
        in_channels: int,
        dim: int = 128,
        depth: int = 8,
        num_heads: int = 4,
        ffn_dim: int = 512,
        factor: int = 1,
        dropout: float = 0.0,
        embedding_dropout: float = 0.1,
        activation: Literal["gelu", "relu"] = "gelu",
        eval_seed: int = 0,
        mask_padding: bool = True,
    ) -> None:
        super().__init__()
        if dim % 2 or dim % num_heads:
            raise ConfigError(
                f"informer: dim={dim} has to be even and divisible by num_heads={num_heads}."
            )
        if not 2 <= input_length <= MAX_LENGTH:
            raise ConfigError(
                f"informer: input_length={input_length} has to be from 2 to {MAX_LENGTH}."
            )
        self.input_length, self.width, self.eval_seed = input_length, dim, eval_seed
        self.mask_padding = mask_padding
        self.dim = input_length * dim
        number = min(factor * math.ceil(math.log(input_length)), input_length)
        self.sample_shape = (depth, input_length, number)
        self.value_embedding = nn.Conv1d(
            in_channels, dim, 3, padding=1, padding_mode="circular", bias=False
        )
        nn.init.kaiming_normal_(self.value_embedding.weight, nonlinearity="relu")
        # in the state, since published checkpoints hold it
        self.register_buffer("positions", sinusoids(MAX_LENGTH, dim)[None])
        self.embedding_dropout = nn.Dropout(embedding_dropout)
        self.layers = nn.ModuleList(
            InformerLayer(dim, num_heads, ffn_dim, dropout, activation) for _ in range(depth)
        )
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    @property
    def token_dim(self) -> int:
        return self.width

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        missing = self.input_length - inputs["mask"].shape[1]
        if missing < 0:
            raise ConfigError(
                f"informer: a light curve of {inputs['mask'].shape[1]} observations, and "
                f"input_length={self.input_length}; the preprocessor has to crop to that."
            )
        values = pad(inputs["values"], (0, 0, 0, missing))
        mask = pad(inputs["mask"].bool(), (0, missing))
        if self.mask_padding:
            values = values.masked_fill(~mask[..., None], 0)
        seen = mask if self.mask_padding else None
        tokens = self.embedding_dropout(self.embed(values))
        index_sample = inputs.get("index_sample")
        if index_sample is None:
            index_sample = self.draw_samples().to(values.device)
        for layer, samples in zip(self.layers, index_sample, strict=True):
            tokens = layer(tokens, samples, seen)
        tokens = self.dropout(self.norm(tokens)) * mask[..., None]
        return Embedding(tokens.flatten(1), tokens, mask)

    def embed(self, values: Tensor) -> Tensor:
        """(batch, input_length, in_channels) → (batch, input_length, dim), with positions."""
        embedded: Tensor = self.value_embedding(values.transpose(1, 2)).transpose(1, 2)
        return embedded + self.positions[:, : self.input_length]

    def draw_samples(self) -> Tensor:
        """Keys for each query of each layer, (depth, input_length, number) int64 on the CPU."""
        generator = None if self.training else torch.Generator().manual_seed(self.eval_seed)
        # the same numbers as AstroM3's one draw a layer
        return torch.randint(self.input_length, self.sample_shape, generator=generator)
