"""Gradients of contrastive losses in float64, of some rows and of the scale; for contrastive.py."""

from itertools import combinations
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

SAMPLED = 256
BLOCK = 512


class Pair(NamedTuple):
    """Gradients by the sampled rows of two modalities, and by the scale."""

    a: Tensor
    b: Tensor
    scale: Tensor


def sampled(number: int) -> Tensor:
    """Numbers of the rows that are looked at."""
    return torch.arange(0, number, max(1, number // SAMPLED))


def softmax_pair(a: Tensor, b: Tensor, scale: float) -> Pair:
    """Of the mean of both directions' cross-entropies (CLIP, arXiv:2103.00020, fig. 3)."""
    number, rows = len(a), sampled(len(a))
    by_row, cosine_by_row = [], []
    by_column, cosine_by_column = b.new_zeros(number), b.new_zeros(number)
    for block in a.split(BLOCK):
        cosine = block @ b.T
        weights = (scale * (cosine - 1)).exp_()  # no cosine is above 1: nothing overflows
        by_row.append(weights.sum(1))
        by_column += weights.sum(0)
        weights.mul_(cosine)
        cosine_by_row.append(weights.sum(1))
        cosine_by_column += weights.sum(0)
    own, other = torch.cat(by_row), by_column
    expected = (torch.cat(cosine_by_row) / own + cosine_by_column / other).sum() / 2
    by_scale = (expected - (a * b).sum()) / number

    def gradient(x: Tensor, y: Tensor, of_x: Tensor, of_y: Tensor) -> Tensor:
        weights = (scale * (x[rows] @ y.T - 1)).exp_()
        slopes = weights * (1 / of_x[rows, None] + 1 / of_y) / 2
        return scale * (slopes @ y - y[rows]) / number

    return Pair(gradient(a, b, own, other), gradient(b, a, other, own), by_scale)


def sigmoid_pair(a: Tensor, b: Tensor, scale: float, bias: float) -> Pair:
    """Of SigLIP's loss (arXiv:2303.15343, §3.2)."""
    number, rows = len(a), sampled(len(a))
    by_scale = -(a * b).sum()
    for block in a.split(BLOCK):
        cosine = block @ b.T
        by_scale += (scale * cosine + bias).sigmoid_().mul_(cosine).sum()

    def gradient(x: Tensor, y: Tensor) -> Tensor:
        # −log σ(z) of the match has the slope σ(z) − 1
        slopes = (scale * (x[rows] @ y.T) + bias).sigmoid_()
        return scale * (slopes @ y - y[rows]) / number

    return Pair(gradient(a, b), gradient(b, a), by_scale / number)


def write_reference(file: Path, loss: str, rows: list[Tensor], scale: float, bias: float) -> None:
    """The mean over pairs of modalities."""
    exact = [r.double() for r in rows]
    gradients = [r.new_zeros(len(sampled(len(r))), r.shape[1]) for r in exact]
    by_scale, pairs = torch.zeros((), dtype=torch.float64), list(combinations(range(len(rows)), 2))
    for i, j in pairs:
        if loss == "softmax":
            found = softmax_pair(exact[i], exact[j], scale)
        else:
            found = sigmoid_pair(exact[i], exact[j], scale, bias)
        gradients[i] += found.a / len(pairs)
        gradients[j] += found.b / len(pairs)
        by_scale += found.scale / len(pairs)
    torch.save({"rows": torch.cat(gradients), "scale": by_scale}, file)


def gradient_error(file: Path, rows: list[Tensor], log_scale: Tensor) -> float:
    """Norm of the difference from the reference, relative to its norm: the larger of rows' and
    scale's.

    Args:
        file: From `write_reference`.
        rows: With gradients.
        log_scale: Logarithm of the scale, with a gradient.
    """
    exact = torch.load(file)
    found = torch.cat([r.grad[sampled(len(r))] for r in rows]).double()  # type: ignore[index]
    by_scale = log_scale.grad / log_scale.detach().exp()  # type: ignore[operator]
    errors = [
        (found - exact["rows"]).norm() / exact["rows"].norm(),
        (by_scale - exact["scale"]).abs() / exact["scale"].abs(),
    ]
    return float(max(errors))
