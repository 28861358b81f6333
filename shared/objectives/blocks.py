"""Blocks of the matrix of logits between the rows of two modalities, one at a time."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from shared.objectives.base import Encoded


class Rows(NamedTuple):
    """Rows of a modality that are compared.

    Attributes:
        rows: (n, dim).
        keys: (n,) int64, equal for rows that match.
    """

    rows: Tensor
    keys: Tensor


def present_rows(encoded: Encoded, keys: Tensor) -> Rows:
    """Those that stand for data, with their keys; the very same tensors where all do."""
    if bool(encoded.present.all()):
        return Rows(encoded.rows, keys)
    return Rows(encoded.rows[encoded.present], keys[encoded.present])


class Block(NamedTuple):
    """Some of the matrix.

    Attributes:
        here: Which rows of a.
        there: Which rows of b.
        a: They, times the scale, float32.
        b: float32.
        logits: (here, there) scale · ⟨a, b⟩; may be overwritten, as the next block does.
        matches: (here, there) bool, which keys are equal; None: none are, or nobody asked.
    """

    here: slice
    there: slice
    a: Tensor
    b: Tensor
    logits: Tensor
    matches: Tensor | None


class Blocks:
    """Goes over the matrix in memory that is allocated once, so that a block stays in the cache.

    Args:
        a: n rows.
        b: m rows of the same width.
        scale: 0-d, float32.
        side: Largest side of a block.
        with_matches: Whether the blocks say which keys are equal.
    """

    def __init__(self, a: Rows, b: Rows, scale: Tensor, side: int, with_matches: bool) -> None:
        self.a, self.b, self.scale, self._side = a.rows, b.rows, scale, side
        self._keys = a.keys, b.keys
        self._spans = (_spans(a.keys, side), _spans(b.keys, side)) if with_matches else None
        self._memory = self.memory()

    def memory(self) -> Tensor:
        """For one block of the largest size, not initialised."""
        return self.scale.new_empty(min(self._side, len(self.a)) * min(self._side, len(self.b)))

    def __iter__(self) -> Iterator[Block]:
        for number, here in enumerate(self._places(self.a)):
            # the scale goes into the rows, not into every block
            a = self.scale * self.a[here].float()
            for other, there in enumerate(self._places(self.b)):
                b = self.b[there].float()
                logits = self._memory[: len(a) * len(b)].view(len(a), len(b))
                torch.mm(a, b.T, out=logits)
                matches = None
                if self._may_match(number, other):
                    matches = self._keys[0][here, None] == self._keys[1][there]
                yield Block(here, there, a, b, logits, matches)

    def _places(self, rows: Tensor) -> Iterator[slice]:
        for start in range(0, len(rows), self._side):
            yield slice(start, min(start + self._side, len(rows)))

    def _may_match(self, number: int, other: int) -> bool:
        """Whether the keys of two blocks overlap: most of those that count samples do not."""
        if self._spans is None:
            return False
        (low, high), (lowest, highest) = self._spans[0][number], self._spans[1][other]
        return low <= highest and lowest <= high


def _spans(keys: Tensor, side: int) -> list[tuple[int, int]]:
    """Smallest and largest key of every block."""
    if not len(keys):
        return []
    spans = torch.stack([torch.stack(part.aminmax()) for part in torch.split(keys, side)])
    return [(low, high) for low, high in spans.tolist()]
