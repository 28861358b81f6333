"""The transformer blocks that both towers of CLIP have (arXiv:2103.00020, §2.4)."""

import torch
from torch import Tensor, nn

NORM_EPS = 1e-5


def quick_gelu(x: Tensor) -> Tensor:
    """x · σ(1.702 x), the approximation of GELU that OpenAI's checkpoints were trained with
    (arXiv:1606.08415, §2)."""
    return x * torch.sigmoid(1.702 * x)


def build_blocks(
    dim: int, depth: int, num_heads: int, mlp_ratio: float, use_quick_gelu: bool
) -> list[nn.TransformerEncoderLayer]:
    """Pre-norm blocks: attention with one projection for query, key and value, then Linear,
    activation, Linear.

    Args:
        dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Has to divide `dim`.
        mlp_ratio: Hidden width of the feed-forward over `dim`.
        use_quick_gelu: Whether the activation is `quick_gelu` instead of exact GELU.
    """
    return [
        nn.TransformerEncoderLayer(
            dim,
            num_heads,
            int(dim * mlp_ratio),
            dropout=0.0,
            activation=quick_gelu if use_quick_gelu else nn.functional.gelu,
            layer_norm_eps=NORM_EPS,
            batch_first=True,
            norm_first=True,
        )
        for _ in range(depth)
    ]
