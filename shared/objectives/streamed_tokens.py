"""The sums that softmax losses of token-wise similarities need, a block of samples at a time.

The product of all tokens of a block with all others gives both directions at once: the best match
of each token of either side. No (n, m) tensor is made, and the (n, length, m, other length) one
only for a block. The backward pass makes each product again; its gradient is sparse, since a token
has one best match a sample, so it is a weighted sum of rows and no further product.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import embedding_bag, normalize

from shared.distributed import stack_over_ranks, sum_over_ranks, world_size
from shared.objectives.base import Encoded


class TokenRows(NamedTuple):
    """Samples that are compared, all of which have the modality.

    Attributes:
        tokens: (n, length, dim) float32 of unit norm; padding repeats a token of the sample.
        weights: (n, length) float32, of the mean over a sample's tokens; 0 for padding.
        keys: (n,) int64, equal for positives.
    """

    tokens: Tensor
    weights: Tensor
    keys: Tensor


class _Sums(NamedTuple):
    """Of the logits of each sample in one direction, in float32.

    Attributes:
        lse: (n,), logarithm of the sum of exponentials over the candidates; −∞ for none.
        positive: (n,), sum over the positives.
        number: (n,), of positives.
    """

    lse: Tensor
    positive: Tensor
    number: Tensor


class Found(NamedTuple):
    """What `shared.objectives.streamed.softmax_term` takes.

    Attributes:
        lse: (n,), logarithm of the sum of exponentials over the candidates; −∞ for none.
        mean: (n,), of the positives' logits; 0 for none.
        number: (n,), of positives.
    """

    lse: Tensor
    mean: Tensor
    number: Tensor


def token_rows(encoded: Encoded, keys: Tensor) -> TokenRows:
    """Those samples of raw tokens that stand for data, with their keys.

    A repeated token changes no largest value: the comparison needs no mask.
    """
    assert encoded.mask is not None
    present = encoded.present
    rows, mask = encoded.rows[present], encoded.mask[present]
    places = torch.arange(mask.shape[1], device=mask.device)
    first = (~mask).cumprod(dim=1).sum(dim=1, keepdim=True).clamp(max=mask.shape[1] - 1)
    source = torch.where(mask, places, first)
    tokens = normalize(rows.gather(1, source[..., None].expand_as(rows)).float(), dim=-1)
    return TokenRows(tokens, mask / mask.sum(dim=1, keepdim=True).clamp(min=1), keys[present])


def streamed_sums(
    a: TokenRows, b: TokenRows, scale: Tensor, side: int, exclusive: bool
) -> tuple[Found, Found]:
    """Sums of scale · FILIP's similarities (arXiv:2111.07783, §3.1), in both directions.

    The rows of b are those of all ranks, the rows of a this rank's: what is found for b is joined
    over the ranks, and the gradients are those of the sum of all ranks' losses. Has first
    derivatives only.

    Args:
        a: n samples, of which ranks may have different numbers.
        b: m samples, the same on every rank.
        scale: 0-d.
        side: Samples of either modality in a block.
        exclusive: Whether the candidates are all but the positives; else all.

    Returns:
        Of a's samples among b's, and of b's samples among those that all ranks have of a.
    """
    with torch.autocast(a.tokens.device.type, enabled=False):
        found: tuple[Tensor, ...] = _Streamed.apply(  # type: ignore[no-untyped-call]
            a.tokens, b.tokens, scale.float(), a, b, side, exclusive
        )
    return _found(*found[:3]), _found(*found[3:])


def _found(lse: Tensor, positive: Tensor, number: Tensor) -> Found:
    return Found(lse, positive / number.clamp(min=1), number)


class _Streamed(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        a_tokens: Tensor,
        b_tokens: Tensor,
        scale: Tensor,
        a: TokenRows,
        b: TokenRows,
        side: int,
        exclusive: bool,
    ) -> tuple[Tensor, ...]:
        a, b = a._replace(tokens=a_tokens), b._replace(tokens=b_tokens)
        rows, columns = _empty(a), _empty(b)
        for here, there in _blocks(a, b, side):
            block = _Block(_part(a, here), _part(b, there))
            for sums, place, dim in ((rows, here, 1), (columns, there, 0)):
                logits = scale * (block.by_a() if dim else block.by_b())
                _add(sums, place, logits, block.same, dim, exclusive)
        columns = _joined(columns)
        ctx.save_for_backward(a_tokens, b_tokens, scale, rows.lse, columns.lse)
        ctx.settings = a.weights, a.keys, b.weights, b.keys, side, exclusive
        ctx.mark_non_differentiable(rows.number, columns.number)
        return *rows, *columns

    @staticmethod
    @once_differentiable
    def backward(  # type: ignore[override]
        ctx: Any,
        row_lse: Tensor,
        row_positive: Tensor,
        _row_number: Tensor,
        column_lse: Tensor,
        column_positive: Tensor,
        _column_number: Tensor,
    ) -> tuple[Tensor | None, ...]:
        a_tokens, b_tokens, scale, *lse = ctx.saved_tensors
        a_weights, a_keys, b_weights, b_keys, side, exclusive = ctx.settings
        a, b = TokenRows(a_tokens, a_weights, a_keys), TokenRows(b_tokens, b_weights, b_keys)
        # a sample of b is met on every rank, its loss counts on one
        column_lse, column_positive = sum_over_ranks(torch.stack([column_lse, column_positive]))
        by_a, by_b = torch.zeros_like(a_tokens), torch.zeros_like(b_tokens)
        by_scale = [torch.zeros_like(scale)]
        for here, there in _blocks(a, b, side):
            block = _Block(_part(a, here), _part(b, there))
            best = block.by_a(with_places=True), block.by_b(with_places=True)
            slopes = []
            for similarities, total, slope, positive in (
                (best[0], lse[0][here, None], row_lse[here, None], row_positive[here, None]),
                (best[1], lse[1][there], column_lse[there], column_positive[there]),
            ):
                logits = _candidates(scale * similarities, block.same, exclusive)
                # nothing is a candidate where the sum is −∞
                share = (logits - total.clamp(min=torch.finfo(total.dtype).min)).exp_()
                slopes.append(share.mul_(slope).addcmul_(block.same.float(), positive))
                by_scale.append((slopes[-1] * similarities).sum())
            block.backward(scale * slopes[0], scale * slopes[1], by_a[here], by_b[there])
        return by_a, by_b, torch.stack(by_scale).sum(), None, None, None, None


class _Block:
    """Some samples of a and some of b, compared token by token.

    Attributes:
        same: (n, m) bool, which are positives of each other.
    """

    def __init__(self, a: TokenRows, b: TokenRows) -> None:
        self._a, self._b = a, b
        self._shape = *a.weights.shape, *b.weights.shape
        self.same = a.keys[:, None] == b.keys
        self._scores = (a.tokens.flatten(0, 1) @ b.tokens.flatten(0, 1).T).view(self._shape)

    def by_a(self, with_places: bool = False) -> Tensor:
        """(n, m): mean over the tokens of a of the best match in b (§3.1)."""
        best = self._scores.amax(dim=3, keepdim=True)
        if with_places:
            self._in_b = _places(self._scores, best, 3)
        return torch.einsum("nkm,nk->nm", best.squeeze(3), self._a.weights)

    def by_b(self, with_places: bool = False) -> Tensor:
        """(n, m): mean over the tokens of b of the best match in a."""
        best = self._scores.amax(dim=1, keepdim=True)
        if with_places:
            self._in_a = _places(self._scores, best, 1)
        return torch.einsum("nmr,mr->nm", best.squeeze(1), self._b.weights)

    def backward(self, from_a: Tensor, from_b: Tensor, by_a: Tensor, by_b: Tensor) -> None:
        """Add the gradients of the tokens.

        Args:
            from_a: (n, m), gradient of what `by_a` gave.
            from_b: (n, m), of what `by_b` gave.
            by_a: (n, length, dim), added to.
            by_b: (m, other length, dim), added to.
        """
        n, length, m, other = self._shape
        a, b = self._a.tokens.flatten(0, 1), self._b.tokens.flatten(0, 1)
        # a line for each token of a: its matches among b's tokens, one a sample; and with a and b
        # exchanged
        to_b = self._in_b + other * torch.arange(m, device=a.device)
        to_a = self._in_a.permute(1, 2, 0) + length * torch.arange(n, device=a.device)
        to_b, to_a = to_b.view(n * length, m), to_a.reshape(m * other, n)
        weights_b = (from_a[:, None] * self._a.weights[..., None]).view_as(to_b)
        weights_a = (from_b.T[:, None] * self._b.weights[..., None]).view_as(to_a)
        by_a.view_as(a).add_(_sum_of(b, to_b, weights_b)).add_(_sum_into(a, to_a, b, weights_a))
        by_b.view_as(b).add_(_sum_of(a, to_a, weights_a)).add_(_sum_into(b, to_b, a, weights_b))


def _places(scores: Tensor, best: Tensor, dim: int) -> Tensor:
    """int64, where along an axis the largest values stand; several times faster than `max`."""
    shape = [1] * scores.ndim
    shape[dim] = -1
    numbers = torch.arange(scores.shape[dim], dtype=scores.dtype, device=scores.device).view(shape)
    hits = torch.empty_like(scores)
    return torch.eq(scores, best, out=hits).mul_(numbers).amax(dim=dim).long()


def _sum_of(rows: Tensor, places: Tensor, weights: Tensor) -> Tensor:
    """(k, dim): each line's weighted sum of rows.

    Args:
        rows: (r, dim).
        places: (k, p) int64, which rows.
        weights: (k, p).
    """
    found: Tensor = embedding_bag(places, rows, mode="sum", per_sample_weights=weights)
    return found


def _sum_into(like: Tensor, places: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """The transpose of `_sum_of`: the row of each line is added where its places are.

    Args:
        like: Of the result's shape, (r, dim).
        places: (k, p) int64, below r.
        rows: (k, dim).
        weights: (k, p).
    """
    targets, order = places.flatten().sort()
    starts = torch.searchsorted(targets, torch.arange(len(like), device=targets.device))
    found: Tensor = embedding_bag(
        order // places.shape[1],
        rows,
        starts,
        mode="sum",
        per_sample_weights=weights.flatten()[order],
    )
    return found


def _candidates(logits: Tensor, same: Tensor, exclusive: bool) -> Tensor:
    return logits.masked_fill(same, -torch.inf) if exclusive else logits


def _add(
    sums: _Sums, place: slice, logits: Tensor, same: Tensor, dim: int, exclusive: bool
) -> None:
    """Add a block's logits, summed over one of its axes."""
    lse = _candidates(logits, same, exclusive).logsumexp(dim)
    sums.lse[place] = torch.logaddexp(sums.lse[place], lse)
    sums.positive[place] += logits.masked_fill(~same, 0.0).sum(dim)
    sums.number[place] += same.sum(dim)


def _joined(sums: _Sums) -> _Sums:
    """Of all ranks."""
    if world_size() == 1:
        return sums
    lse = stack_over_ranks(sums.lse).logsumexp(dim=0)
    return _Sums(lse, *sum_over_ranks(torch.stack(sums[1:])))


def _empty(rows: TokenRows) -> _Sums:
    zeros = rows.weights.new_zeros(2, len(rows.keys))
    return _Sums(torch.full_like(zeros[0], -torch.inf), *zeros)


def _part(rows: TokenRows, place: slice) -> TokenRows:
    return TokenRows(*(tensor[place] for tensor in rows))


def _blocks(a: TokenRows, b: TokenRows, side: int) -> Iterator[tuple[slice, slice]]:
    for here in range(0, len(a.keys), side):
        for there in range(0, len(b.keys), side):
            yield slice(here, here + side), slice(there, there + side)
