"""Pre-norm transformer blocks as vision transformers have them (arXiv:2010.11929, §3.1), with the
parts that later recipes added: LayerScale, SwiGLU, stochastic depth over a subset of the batch."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention, silu

from shared.errors import ConfigError

NORM_EPS = 1e-6


class Attention(nn.Module):
    """Multi-head self-attention with one projection for query, key and value.

    Args:
        dim: Width of the tokens.
        num_heads: Has to divide `dim`.

    Raises:
        ConfigError: It does not.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        if dim % num_heads:
            raise ConfigError(f"dim={dim} is no multiple of num_heads={num_heads}.")
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(batch, length, dim) → the same; `mask` (batch, length) bool, False for tokens that
        nobody may look at."""
        batch, length, dim = x.shape
        qkv = self.qkv(x).view(batch, length, 3, self.num_heads, dim // self.num_heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        allowed = None if mask is None else mask[:, None, None, :]
        out = scaled_dot_product_attention(query, key, value, attn_mask=allowed)
        projected: Tensor = self.proj(out.transpose(1, 2).reshape(batch, length, dim))
        return projected


class Mlp(nn.Module):
    """Linear, exact GELU, Linear."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, hidden_dim)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(self.act(self.fc1(x)))
        return out


class SwiGLU(nn.Module):
    """silu(a) · b, projected back (arXiv:2002.05202, eq. 6), a and b from one Linear.

    Two thirds of the hidden width of an `Mlp`, rounded up to a multiple of 8, give about as many
    parameters (DINOv2, arXiv:2304.07193).
    """

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        hidden_dim = (int(hidden_dim * 2 / 3) + 7) // 8 * 8
        self.w12 = nn.Linear(dim, 2 * hidden_dim)
        self.w3 = nn.Linear(hidden_dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.w12(x).chunk(2, dim=-1)
        out: Tensor = self.w3(silu(gate) * value)
        return out


class LayerScale(nn.Module):
    """A learned factor a channel on a residual (CaiT, arXiv:2103.17239, eq. 4)."""

    def __init__(self, dim: int, initial: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), initial))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


def draw_rows(batch: int, rate: float, device: torch.device) -> Tensor:
    """Random rows that keep their residual: max(⌊batch · (1 − rate)⌋, 1) of them, int64."""
    return torch.randperm(batch, device=device)[: max(int(batch * (1 - rate)), 1)]


def add_residual(
    x: Tensor, residual: Callable[[Tensor, Tensor | None], Tensor], rows: Tensor | None
) -> Tensor:
    """x + residual, computed only for some rows and scaled up by batch / rows.

    This is stochastic depth that saves what it drops (DINOv2, arXiv:2304.07193, §5).

    Args:
        x: (batch, length, dim).
        residual: Called with those rows of x and their numbers, None for all.
        rows: Distinct row numbers; None: all.
    """
    if rows is None:
        return x + residual(x, None)
    change = residual(x[rows], rows).to(x.dtype)
    return x.index_add(0, rows, change, alpha=len(x) / max(len(rows), 1))


class Block(nn.Module):
    """Attention and feed-forward, each as a residual over its own LayerNorm (ε = 1e-6).

    Args:
        dim: Width of the tokens.
        num_heads: Of the attention.
        mlp_ratio: Hidden width of the feed-forward over `dim`.
        ffn: Its kind.
        layer_scale: Initial value of the LayerScale factors; None: there are none.
        drop_path: Share of a training batch that skips each residual.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int,
        mlp_ratio: float = 4.0,
        ffn: Literal["mlp", "swiglu"] = "mlp",
        layer_scale: float | None = None,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        if not 0 <= drop_path < 1:
            raise ConfigError(f"drop_path={drop_path} has to be in [0, 1).")
        self.drop_path = drop_path
        self.norm1 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attn = Attention(dim, num_heads)
        self.ls1 = _layer_scale(dim, layer_scale)
        self.norm2 = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp = (Mlp if ffn == "mlp" else SwiGLU)(dim, int(dim * mlp_ratio))
        self.ls2 = _layer_scale(dim, layer_scale)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None = None,
        kept: tuple[Tensor | None, Tensor | None] | None = None,
    ) -> Tensor:
        """(batch, length, dim) → the same.

        Args:
            x: Tokens.
            mask: (batch, length) bool, False for tokens that nobody may look at.
            kept: Rows whose attention and feed-forward are computed; None: all, in training drawn
                by `drop_path`.
        """
        if kept is None:
            kept = (self._draw(x), self._draw(x))

        def attend(part: Tensor, rows: Tensor | None) -> Tensor:
            part_mask = mask if mask is None or rows is None else mask[rows]
            out: Tensor = self.ls1(self.attn(self.norm1(part), part_mask))
            return out

        def feed_forward(part: Tensor, rows: Tensor | None) -> Tensor:
            out: Tensor = self.ls2(self.mlp(self.norm2(part)))
            return out

        return add_residual(add_residual(x, attend, kept[0]), feed_forward, kept[1])

    def _draw(self, x: Tensor) -> Tensor | None:
        if not self.training or self.drop_path == 0:
            return None
        return draw_rows(len(x), self.drop_path, x.device)


def _layer_scale(dim: int, initial: float | None) -> nn.Module:
    return nn.Identity() if initial is None else LayerScale(dim, initial)


def put_mask_token(x: Tensor, mask_token: Tensor, hidden: Tensor | None) -> Tensor:
    """The mask token in the place of hidden tokens.

    Where nothing is hidden the gradient of the mask token is 0, not absent: DDP waits for it in
    every step of a model that has one.

    Args:
        x: (batch, length, dim).
        mask_token: (1, dim).
        hidden: (batch, length) bool; None: nothing is hidden.
    """
    if hidden is None:
        hidden = x.new_zeros(x.shape[:2], dtype=torch.bool)
    return torch.where(hidden[..., None], mask_token.to(x.dtype), x)


def init_trunc_normal(module: nn.Module) -> None:
    """DINOv2's start of a Linear: normal of std .02, cut at ±2, bias 0. For `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.trunc_normal_(module.weight, std=0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def init_xavier(module: nn.Module) -> None:
    """MAE's start (arXiv:2111.06377, appendix A.1): Xavier-uniform, bias 0; a patch convolution as
    the Linear that it is, with torch's own bias. For `Module.apply`."""
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    if isinstance(module, nn.Conv2d):
        nn.init.xavier_uniform_(module.weight.view(len(module.weight), -1))


def sincos_positions(dim: int, height: int, width: int) -> Tensor:
    """Fixed 2-D position table of MAE: half the channels from the column, half from the row.

    Each half is [sin(x·ω), cos(x·ω)] with ω_i = 10000^(−i / (dim / 4)) (arXiv:1706.03762, §3.5).

    Args:
        dim: A multiple of 4.
        height: Rows of the grid.
        width: Columns.

    Returns:
        (height · width, dim) float32, row by row.

    Raises:
        ConfigError: `dim` is no multiple of 4.
    """
    if dim % 4:
        raise ConfigError(f"Sine-cosine positions need a width that is a multiple of 4, not {dim}.")
    frequencies = 10000.0 ** (-torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=torch.float64),
        torch.arange(width, dtype=torch.float64),
        indexing="ij",
    )
    halves = []
    for coordinate in (columns, rows):
        angles = coordinate.reshape(-1, 1) * frequencies
        halves += [angles.sin(), angles.cos()]
    return torch.cat(halves, dim=1).float()
