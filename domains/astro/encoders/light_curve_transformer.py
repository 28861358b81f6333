"""A transformer over the observations of a light curve, at their real times."""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from shared.encoders.base import Embedding, Encoder
from shared.encoders.transformer import put_mask_token


class TimeEncoding(nn.Module):
    """Sines and cosines of the time at learned frequencies (Time2Vec, arXiv:1907.05321, eq. 1),
    started log-uniformly between one cycle in `longest` and one in `shortest` days."""

    def __init__(self, dim: int, longest: float, shortest: float) -> None:
        super().__init__()
        frequencies = torch.logspace(-math.log10(longest), -math.log10(shortest), dim // 2)
        self.log_frequency = nn.Parameter(frequencies.log())

    def forward(self, time: Tensor) -> Tensor:
        """(batch, length) days → (batch, length, dim)."""
        # bfloat16 has eight bits: the phase of a thousand days needs float32
        phase = 2 * math.pi * time.float()[..., None] * self.log_frequency.float().exp()
        return torch.cat([phase.sin(), phase.cos()], dim=-1)


class LightCurveTransformer(Encoder):
    """Pre-norm transformer encoder over observations; padding is masked in attention and pooling.

    Inputs: `time` (batch, length) float32 days since the first observation, `values`
    (batch, length, in_channels) scaled flux and error, `context` (batch, context_dim) what the
    scaling removed, `mask` (batch, length) bool; `hidden` (batch, length) bool, observations of
    which only the time is seen (needs `mask_token=true`). The result does not depend on the amount
    of padding nor on the order of the observations. `tokens` (batch, 1 + length, dim) begin with
    that of the context.

    Args:
        in_channels: Channels of `values`.
        context_dim: Width of `context`.
        dim: Width of tokens and of `pooled`; even.
        depth: Layers.
        num_heads: Attention heads; divides `dim`.
        mlp_ratio: Hidden width of the feed-forward part over `dim`.
        dropout: Everywhere in the layers.
        longest_period: Days of the slowest initial frequency: the length of a survey.
        shortest_period: Days of the fastest one: delta Scuti stars pulsate in hours.
        mask_token: Whether there is a learned token for hidden observations.
    """

    leading_tokens = 1

    def __init__(
        self,
        in_channels: int,
        context_dim: int,
        dim: int = 64,
        depth: int = 3,
        num_heads: int = 4,
        mlp_ratio: float = 2.0,
        dropout: float = 0.0,
        longest_period: float = 2000.0,
        shortest_period: float = 0.1,
        mask_token: bool = False,
    ) -> None:
        super().__init__()
        self.dim = dim
        self.value_embedding = nn.Linear(in_channels, dim)
        self.time_encoding = TimeEncoding(dim, longest_period, shortest_period)
        self.time_projection = nn.Linear(dim, dim)
        self.context_embedding = nn.Linear(context_dim, dim)
        layer = nn.TransformerEncoderLayer(
            dim,
            num_heads,
            int(dim * mlp_ratio),
            dropout,
            activation="gelu",
            batch_first=True,
            norm_first=True,
        )
        self.layers = nn.TransformerEncoder(layer, depth, nn.LayerNorm(dim), False)
        self.mask_token = nn.Parameter(torch.zeros(1, dim)) if mask_token else None

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        mask, values = inputs["mask"], inputs["values"]
        times = self.time_projection(self.time_encoding(inputs["time"]).to(values.dtype))
        context = self.context_embedding(inputs["context"])
        observed = self.value_embedding(values)
        if self.mask_token is not None:
            observed = put_mask_token(observed, self.mask_token, inputs.get("hidden"))
        # the context token stands first and is always there, so no row of attention is empty
        tokens = torch.cat([context[:, None], observed + times], dim=1)
        mask = torch.cat([mask.new_ones(len(mask), 1), mask], dim=1)
        tokens = self._attend(tokens, mask)
        weights = mask[..., None].to(tokens.dtype)
        pooled = (tokens * weights).sum(1) / weights.sum(1)
        return Embedding(pooled, tokens, mask)

    def _attend(self, tokens: Tensor, mask: Tensor) -> Tensor:
        rows = len(tokens)
        if rows == 0:
            # the attention of torch takes no empty batch, and on every rank parameters need a
            # gradient, even if it is zero
            tokens, mask = pad(tokens, (0, 0, 0, 0, 0, 1)), pad(mask, (0, 0, 0, 1), value=True)
        out: Tensor = self.layers(tokens, src_key_padding_mask=~mask)
        return out[:rows]
