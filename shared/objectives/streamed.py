"""Softmax normalisers of all rows and all columns of a matrix of logits, a block of it at a time.

Rows and columns are summed from one product of matrices. The backward pass makes each block again
and multiplies it with either side: four products in all, two fewer than cross-entropies over the
matrix and its transpose, and no more memory than two blocks.

Across ranks, a rank works on its own rows of a and all rows of b: the rows' normalisers are its
own, the columns' are joined. That is 1 / ranks of the matrix; a rank that searches in both
directions for its own samples goes over twice as much.

All exponentials share one shift K, so one exponential serves rows and columns. Where a row or a
column is too far below K for that, as when all candidates are opposite at a large scale, each block
is shifted by itself.
"""

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import softplus

from shared.distributed import stack_over_ranks, sum_over_ranks
from shared.objectives.base import Term
from shared.objectives.blocks import Block, Blocks, Rows

_HIGHEST, _LOWEST = 70.0, -60.0
"""Natural logarithms: e^70 · 10^8 and e^-60 · 10^-11 are both within float32's normal numbers
(10^±38), so sums of 10^8 candidates do not overflow, and what is lost of a sum by underflow is
below its rounding."""


class Settings(NamedTuple):
    """How a matrix of logits is gone over.

    Attributes:
        side: Largest side of a block.
        exclusive: Whether pairs with equal keys are no candidates.
        joined: Whether the rows of a are one rank's part of those of all ranks, and those of b the
            same on every rank.
    """

    side: int
    exclusive: bool
    joined: bool


def streamed_lse(a: Rows, b: Rows, scale: Tensor, settings: Settings) -> tuple[Tensor, Tensor]:
    """log Σ exp(scale · ⟨a, b⟩) of every row over the rows of b, and of b's over those of a.

    In float32, whatever the rows hold. Has first derivatives only; with `joined` they are those of
    the sum of what all ranks make of the results.

    Args:
        a: n rows; ranks may have different numbers.
        b: m rows of the same width.
        scale: 0-d.
        settings: How.

    Returns:
        (n,) and (m,), float32; −∞ where there is no candidate.
    """
    with torch.autocast(a.rows.device.type, enabled=False):
        rows, columns = _StreamedLse.apply(  # type: ignore[no-untyped-call]
            a.rows, b.rows, scale, a.keys, b.keys, settings
        )
    return rows, columns


def own_columns(found: Tensor, present: Tensor, own: slice) -> Tensor:
    """Of what was found for the present rows of all ranks, the part of this rank's.

    Args:
        found: (present rows,).
        present: (rows of all ranks,) bool.
        own: Which of these are this rank's.
    """
    start, stop, _ = own.indices(len(present))
    before = int(present[:start].sum())
    return found[before : before + int(present[start:stop].sum())]


def softmax_term(lse: Tensor, mean: Tensor, number: Tensor, exclusive: bool) -> Term:
    """Sum of the cross-entropies of rows with a positive, and their number.

    Args:
        lse: (n,), of the candidates.
        mean: (n,), of the positives' logits.
        number: (n,), of positives; with `exclusive` at most one.
        exclusive: Whether the positive is none of the candidates: the loss is then a softplus, and
            no difference of numbers that grow equal as the loss goes to 0.
    """
    losses = softplus(lse - mean) if exclusive else lse - mean
    counts = number > 0
    return Term(torch.where(counts, losses, 0.0).sum(), counts.sum())


def terms_of_groups(
    rows: Tensor,
    columns: Tensor,
    a: Rows,
    b: Rows,
    column_keys: Tensor,
    scale: Tensor,
    joined: bool,
) -> tuple[Term, Term]:
    """Cross-entropies of both directions where rows with equal keys are positives of each other.

    The mean logit of the positives is the product with the mean of the rows of a key. With
    `joined`, that of a column may be made of rows of other ranks: each rank counts the part that
    its own rows of a are in, so only the sum over ranks is that of the columns.

    Args:
        rows: (n,), normalisers of the rows of a.
        columns: (own columns,), normalisers.
        a: n rows.
        b: m rows of the same width.
        column_keys: (own columns,) int64.
        scale: 0-d.
        joined: As in `Settings`.
    """
    keys, group = torch.unique(b.keys, return_inverse=True)
    sums = b.rows.new_zeros(len(keys) + 1, b.rows.shape[1], dtype=torch.float32)
    sums = sums.index_add(0, group, b.rows.float())
    in_b = torch.bincount(group, minlength=len(keys) + 1)
    # a key that b lacks has the last place, where there is nothing
    group = _places(keys, a.keys)
    in_a = torch.bincount(group, minlength=len(keys) + 1)
    if joined:
        in_a = sum_over_ranks(in_a)
    logits = scale * (a.rows.float() * sums[group]).sum(dim=1)
    of_rows, of_columns = in_b[group], in_a[_places(keys, column_keys)]
    by_rows = torch.where(of_rows > 0, rows - logits / of_rows.clamp(min=1), 0.0)
    by_columns = torch.where(of_columns > 0, columns, 0.0)
    return (
        Term(by_rows.sum(), (of_rows > 0).sum()),
        Term(by_columns.sum() - (logits / in_a[group]).sum(), (of_columns > 0).sum()),
    )


def _places(keys: Tensor, wanted: Tensor) -> Tensor:
    """Where each wanted key stands among the sorted keys; behind the last where it does not."""
    if not len(keys):
        return torch.zeros_like(wanted)
    found = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[found] == wanted, found, len(keys))


class _StreamedLse(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a: Tensor,
        b: Tensor,
        scale: Tensor,
        a_keys: Tensor,
        b_keys: Tensor,
        settings: Settings,
    ) -> tuple[Tensor, Tensor]:
        blocks = _blocks(Rows(a, a_keys), Rows(b, b_keys), scale, settings)
        shift = _shift(a, b, scale, settings.joined)
        found = _sums(blocks, shift, settings.joined)
        is_common = _above(found, shift + _LOWEST, settings.joined)
        if not is_common:
            found = _sums_one_by_one(blocks, settings.joined)
        ctx.save_for_backward(a, b, scale, a_keys, b_keys, *found)
        ctx.settings, ctx.shift = settings, shift if is_common else None
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, by_rows: Tensor, by_columns: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
        a, b, scale, a_keys, b_keys, rows, columns = ctx.saved_tensors
        if ctx.settings.joined:
            # every rank met the column, one counts its loss
            by_columns = sum_over_ranks(by_columns)
        blocks = _blocks(Rows(a, a_keys), Rows(b, b_keys), scale, ctx.settings)
        slopes = _Slopes(rows, columns, by_rows, by_columns, ctx.shift)
        wanted = ctx.needs_input_grad[:3]
        return (*_gradients(blocks, slopes, *wanted), None, None, None)


def _blocks(a: Rows, b: Rows, scale: Tensor, settings: Settings) -> Blocks:
    return Blocks(a, b, scale.float(), settings.side, settings.exclusive)


def _exponentials(block: Block, shift: float) -> Tensor:
    """exp(z − shift) in the place of the block's logits; 0 where a pair is excluded."""
    if shift:
        block.logits.sub_(shift)
    block.logits.exp_()
    return block.logits if block.matches is None else block.logits.masked_fill_(block.matches, 0)


def _candidates(block: Block) -> Tensor:
    """The block's logits, −∞ where a pair is excluded, in their place."""
    if block.matches is None:
        return block.logits
    return block.logits.masked_fill_(block.matches, -torch.inf)


def _shift(a: Tensor, b: Tensor, scale: Tensor, joined: bool) -> float:
    """K: no logit is above K + _HIGHEST, by Cauchy and Schwarz."""
    longest, other = (
        torch.linalg.vector_norm(rows, dim=1, dtype=torch.float32).amax()
        if len(rows)
        else scale.new_zeros((), dtype=torch.float32)
        for rows in (a, b)
    )
    if joined:
        longest = stack_over_ranks(longest).amax()
    return max(0.0, float(scale.abs() * longest * other) - _HIGHEST)


def _sums(blocks: Blocks, shift: float, joined: bool) -> tuple[Tensor, Tensor]:
    """Normalisers of rows and columns, from one exponential a logit."""
    rows, columns = (blocks.scale.new_zeros(len(side)) for side in (blocks.a, blocks.b))
    for block in blocks:
        exponentials = _exponentials(block, shift)
        rows[block.here] += exponentials.sum(dim=1)
        columns[block.there] += exponentials.sum(dim=0)
    if joined:
        columns = sum_over_ranks(columns)
    return rows.log_().add_(shift), columns.log().add_(shift)


def _above(found: tuple[Tensor, Tensor], bound: float, joined: bool) -> bool:
    """Whether all normalisers, of all ranks, are; not where one is NaN."""
    fits = (torch.cat(found) >= bound).all()
    return bool(stack_over_ranks(fits.int()).all() if joined else fits)


def _sums_one_by_one(blocks: Blocks, joined: bool) -> tuple[Tensor, Tensor]:
    """Normalisers, each block's by the largest logit of its rows and of its columns."""
    rows, columns = (
        blocks.scale.new_full((len(side),), -torch.inf) for side in (blocks.a, blocks.b)
    )
    for block in blocks:
        logits = _candidates(block)
        rows[block.here] = torch.logaddexp(rows[block.here], logits.logsumexp(dim=1))
        columns[block.there] = torch.logaddexp(columns[block.there], logits.logsumexp(dim=0))
    return rows, stack_over_ranks(columns).logsumexp(dim=0) if joined else columns


class _Slopes:
    """Turns a block's logits into the gradient by them.

    Args:
        rows: (n,), the rows' normalisers.
        columns: (m,).
        by_rows: (n,), gradient by the rows' normalisers.
        by_columns: (m,).
        shift: Common to all exponentials; None: those of rows and of columns are made apart.
    """

    def __init__(
        self,
        rows: Tensor,
        columns: Tensor,
        by_rows: Tensor,
        by_columns: Tensor,
        shift: float | None,
    ) -> None:
        self._by_rows, self._by_columns, self._shift = by_rows, by_columns, shift
        # where the normaliser is −∞ all logits are
        smallest = torch.finfo(rows.dtype).min
        self._rows, self._columns = rows.clamp(min=smallest), columns.clamp(min=smallest)
        if shift is not None:
            self._by_rows = by_rows * (shift - rows).exp_()
            self._by_columns = by_columns * (shift - columns).exp_()

    def __call__(self, block: Block, memory: Tensor) -> Tensor:
        """(rows, columns) of the block, in the place of its logits.

        Args:
            block: Its logits are overwritten.
            memory: For as many elements, overwritten.
        """
        other = memory[: block.logits.numel()].view_as(block.logits)
        by_rows, by_columns = self._by_rows[block.here, None], self._by_columns[block.there]
        if self._shift is not None:
            factors = torch.add(by_rows, by_columns, out=other)
            return _exponentials(block, self._shift).mul_(factors)
        logits = _candidates(block)
        of_columns = torch.sub(logits, self._columns[block.there], out=other).exp_()
        of_rows = logits.sub_(self._rows[block.here, None]).exp_()
        return of_rows.mul_(by_rows).add_(of_columns.mul_(by_columns))


def _gradients(
    blocks: Blocks, slopes: _Slopes, of_a: bool, of_b: bool, of_scale: bool
) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
    """By a, b and the scale, in their own types; a side that is not wanted costs no product."""
    # either side gives the scale's gradient too
    of_a = of_a or (of_scale and not of_b)
    by_a = torch.zeros_like(blocks.a, dtype=torch.float32) if of_a else None
    by_b = torch.zeros_like(blocks.b, dtype=torch.float32) if of_b else None
    memory = blocks.memory()
    for block in blocks:
        slope = slopes(block, memory)
        if by_a is not None:
            by_a[block.here].addmm_(slope, block.b)
        if by_b is not None:
            by_b[block.there].addmm_(slope.T, block.a)
    by_scale = None
    if by_a is not None:
        by_scale = (by_a * blocks.a.float()).sum()
        by_a.mul_(blocks.scale)
    elif by_b is not None and of_scale:
        by_scale = (by_b * blocks.b.float()).sum() / blocks.scale
    return _as(by_a, blocks.a), _as(by_b, blocks.b), by_scale


def _as(gradient: Tensor | None, rows: Tensor) -> Tensor | None:
    return None if gradient is None else gradient.to(rows.dtype)
