"""Losses of a student that learns the distributions of its teacher: DINO (arXiv:2104.14294), iBOT
(arXiv:2111.07832), KoLeo (arXiv:1806.03198) as DINOv2 (arXiv:2304.07193, §4) joins them.

Everything here is computed in float32.
"""

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, log_softmax, normalize

from shared.distributed import (
    gather_rows,
    numbers_of_ranks,
    rank,
    sum_over_ranks,
    world_size,
)
from shared.errors import ConfigError
from shared.settings import check_settings

KOLEO_EPS = 1e-8


class WeightNormLinear(nn.Module):
    """Linear without bias whose rows are g · v / ‖v‖ (arXiv:1602.07868, eq. 2), g trained too."""

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.weight_g = nn.Parameter(torch.ones(out_dim, 1))
        self.weight_v = nn.Parameter(torch.empty(out_dim, in_dim))
        nn.init.trunc_normal_(self.weight_v, std=0.02)

    def forward(self, x: Tensor) -> Tensor:
        norm = self.weight_v.norm(dim=1, keepdim=True)
        return linear(x, self.weight_v * (self.weight_g / norm))


class DINOHead(nn.Module):
    """MLP to a bottleneck of unit norm, then cosines to prototypes (DINO, appendix C).

    Args:
        in_dim: Width of the tokens.
        prototypes: Number of prototypes.
        hidden_dim: Of the MLP.
        bottleneck_dim: Its output.
        layers: Its Linears; GELU between them.
    """

    def __init__(
        self,
        in_dim: int,
        prototypes: int = 65536,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        layers: int = 3,
    ) -> None:
        super().__init__()
        widths = [in_dim, *[hidden_dim] * (layers - 1), bottleneck_dim]
        linears = [nn.Linear(a, b) for a, b in pairwise(widths)]
        for module in linears:
            nn.init.trunc_normal_(module.weight, std=0.02)
            nn.init.zeros_(module.bias)
        steps = [step for module in linears for step in (module, nn.GELU())][:-1]
        # upstream's names: a single Linear has no number
        self.mlp = nn.Sequential(*steps) if layers > 1 else linears[0]
        self.last_layer = WeightNormLinear(bottleneck_dim, prototypes)

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_dim) → logits (…, prototypes)."""
        logits: Tensor = self.last_layer(self.bottleneck(x))
        return logits

    def bottleneck(self, x: Tensor) -> Tensor:
        """(…, in_dim) → (…, bottleneck_dim) float32 of unit norm."""
        return normalize(self.mlp(x).float(), dim=-1, eps=1e-12)


def build_dino_head(in_dim: int, settings: Mapping[str, Any], where: str) -> DINOHead:
    """A head from its config node.

    Raises:
        ConfigError: A setting that `DINOHead` does not have, of another type, or below 1.
    """
    check_settings(DINOHead, (in_dim,), settings, where)
    for name, number in settings.items():
        if number < 1:
            raise ConfigError(f"{where}: {name}={number} has to be at least 1.")
    return DINOHead(in_dim, **settings)


def centred_targets(logits: Tensor, centre: Tensor, temperature: float) -> Tensor:
    """softmax((logits − centre) / temperature) (DINO, §3.1).

    Args:
        logits: (rows, prototypes) of the teacher.
        centre: (prototypes,) running mean of its logits.
        temperature: Of the teacher.

    Returns:
        (rows, prototypes) float32.
    """
    return ((logits.float() - centre) / temperature).softmax(dim=-1)


def sinkhorn_targets(logits: Tensor, temperature: float, iterations: int = 3) -> Tensor:
    """exp(logits / temperature) with prototypes and rows normalised in turns, rows last
    (Sinkhorn-Knopp; SwAV, arXiv:2006.09882, eq. 3), over the rows of all ranks.

    Constant factors of the published form cancel, and so does the largest value of each prototype,
    which is taken off so that exp cannot overflow.

    Args:
        logits: (rows, prototypes) of the teacher; ranks may have different numbers of rows.
        temperature: Of the teacher.
        iterations: Turns.

    Returns:
        (rows, prototypes) float32, rows that sum to 1.
    """
    scaled = logits.float() / temperature
    shares = (scaled - _largest_over_ranks(scaled)).exp()
    smallest = torch.finfo(shares.dtype).tiny
    for _ in range(iterations):
        shares = shares / sum_over_ranks(shares.sum(dim=0)).clamp(min=smallest)
        shares = shares / shares.sum(dim=1, keepdim=True).clamp(min=smallest)
    return shares


def _largest_over_ranks(values: Tensor) -> Tensor:
    """(rows, n) → (n,) largest of the rows of all ranks; 0 where there are none."""
    lowest = torch.finfo(values.dtype).min
    own = values.amax(dim=0) if len(values) else values.new_full(values.shape[1:], lowest)
    return gather_rows(own[None], [1] * world_size()).amax(dim=0)


class Centre(nn.Module):
    """Running mean of the teacher's logits, of one step behind (DINO, eq. 4).

    Args:
        prototypes: Number of prototypes.
        momentum: Weight of the past.
    """

    value: Tensor

    def __init__(self, prototypes: int, momentum: float) -> None:
        super().__init__()
        self.momentum = momentum
        self.register_buffer("value", torch.zeros(prototypes))
        self._total: Tensor | None = None
        self._rows = 0

    def remember(self, logits: Tensor) -> None:
        """Keep the sum of (rows, prototypes) for the next `update`."""
        self._total, self._rows = logits.detach().float().sum(dim=0), len(logits)

    def update(self) -> None:
        """Move towards the mean of the remembered rows of all ranks; not where there are none."""
        if self._total is None:
            return
        own = torch.cat([self._total, self._total.new_tensor([self._rows])])
        joint = sum_over_ranks(own)
        total, rows = joint[:-1], joint[-1]
        mean = total / rows.clamp(min=1)
        self.value.lerp_(torch.where(rows > 0, mean, self.value), 1 - self.momentum)
        self._total = None


def cross_entropies(student: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """−Σ_k t_k log softmax(s / temperature)_k of each row.

    Args:
        student: (…, prototypes) logits.
        targets: (…, prototypes), whose leading axes may be broadcast.
        temperature: Of the student.

    Returns:
        (…) float32.
    """
    with torch.autocast(student.device.type, enabled=False):
        logarithms = log_softmax(student.float() / temperature, dim=-1)
        return -(targets * logarithms).sum(dim=-1)


def masked_weights(mask: Tensor) -> Tensor:
    """1 / (masked tokens of the image), for each masked token (iBOT, eq. 2).

    Args:
        mask: (images, tokens) bool, True where masked.

    Returns:
        (masked tokens of all images,) float32, image after image.
    """
    weights = 1 / mask.sum(dim=1, keepdim=True).clamp(min=1)
    return weights.expand_as(mask)[mask]


def nearest_neighbours(rows: Tensor, others: Tensor, itself: Tensor) -> Tensor:
    """(n,) int64: for each row the other one with the largest dot product.

    Args:
        rows: (n, dim).
        others: (m, dim), the rows among them.
        itself: (n,) int64, where each row is in `others`.
    """
    similarities = rows.detach() @ others.detach().T
    return similarities.scatter(1, itself[:, None], -1.0).argmax(dim=1)


def koleo_losses(rows: Tensor, across_ranks: bool = True) -> Tensor:
    """−log of each row's distance to its nearest neighbour (KoLeo; DINOv2, §4).

    ε = 1e-8 in every component of the difference and in the logarithm keeps duplicates finite.

    Args:
        rows: (n, dim) of one view, not normalised; two views of one image do not belong together.
        across_ranks: Whether the neighbours are sought among the rows of all ranks or of this one.

    Returns:
        (n,) float32 with gradient to both neighbours; empty where a row has nobody beside it.
    """
    with torch.autocast(rows.device.type, enabled=False):
        rows = normalize(rows.float(), dim=-1, eps=KOLEO_EPS)
        others, start = rows, 0
        if across_ranks:
            counts = numbers_of_ranks(len(rows), rows.device)
            others, start = gather_rows(rows, counts), sum(counts[: rank()])
        if len(others) < 2:
            return rows[:0].sum(dim=1)
        itself = torch.arange(start, start + len(rows), device=rows.device)
        nearest = others[nearest_neighbours(rows, others, itself)]
        distances: Tensor = (rows - nearest + KOLEO_EPS).norm(dim=1)
        return -(distances + KOLEO_EPS).log()
