"""Softmax contrast of token-wise similarities (FILIP, arXiv:2111.07783, §3.1)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shared.encoders.base import Encoder
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import Encoded, Request, Tensors, Term
from shared.objectives.contrastive import Contrastive
from shared.objectives.pairs import Pair, Positives, positive_keys
from shared.objectives.streamed import own_columns, softmax_term
from shared.objectives.streamed_tokens import Found, streamed_sums, token_rows

_NO_TOKEN = -2.0
"""Below every cosine: never the largest where there is a token."""


def late_interaction(a: Tensor, a_mask: Tensor, b: Tensor, b_mask: Tensor) -> Tensor:
    """Mean over the tokens of a row of a of the best match among the tokens of a row of b (§3.1).

    Args:
        a: (n, length, dim) tokens of unit norm.
        a_mask: (n, length) bool, True where a token stands for data.
        b: (m, other length, dim) tokens of unit norm.
        b_mask: (m, other length) bool.

    Returns:
        (n, m); not the transpose of the same with a and b exchanged.
    """
    scores = torch.einsum("nkd,mrd->nkmr", a, b)
    best = scores.masked_fill_(~b_mask, _NO_TOKEN).max(dim=-1).values
    number = a_mask.sum(dim=1, keepdim=True).clamp(min=1)
    return torch.einsum("nkm,nk->nm", best, a_mask.to(best.dtype) / number)


class FILIP(Contrastive):
    """As `Contrastive`, but two samples are as similar as their tokens, each with its best match.

    Reads projected tokens: models need `token_head: {name: linear}`, and `head: null` unless
    another objective trains the head. The paper's selection of a quarter of the tokens is not made.

    A rank compares its own rows of a pair's first modality with all rows of the second, whose
    tokens alone are sent to every rank, and their gradients back: in all rows · length · dim
    numbers each way.

    Args:
        modalities: Modalities of the model.
        pairs: `all`, or a mapping `a-b` → weight; averaged by weight.
        initial_scale: Multiplier of the similarity at the start; 1 / 0.07.
        min_scale: Lower bound, kept after each optimiser step; null: none.
        max_scale: Upper bound; null: none.
        positives: What makes another sample a positive: nothing (`sample`), the same `group`, or
            the same `label`.
        chunk_rows: Side, in samples, of the blocks of the matrix of logits that are held at once;
            null: the whole matrix.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        pairs: Literal["all"] | Mapping[str, float] = "all",
        initial_scale: float = 1 / 0.07,
        min_scale: float | None = 1.0,
        max_scale: float | None = 100.0,
        positives: Positives = "sample",
        chunk_rows: int | None = 32,
    ) -> None:
        super().__init__(
            modalities,
            pairs,
            initial_scale=initial_scale,
            min_scale=min_scale,
            max_scale=max_scale,
            positives=positives,
            chunk_rows=chunk_rows,
        )

    def request(self, modality: str) -> Request:
        return replace(super().request(modality), output="projected_tokens")

    def bind(self, model: Model) -> None:
        """Raises ConfigError where the tokens of two modalities have other widths."""
        super().bind(model)
        own = {m: cast(Encoder, model.encoders[m]).token_dim for m in self.contrasted}
        widths = own | {m: model.config.embed_dim for m in own if m in model.token_heads}
        if len(set(widths.values())) > 1:
            told = ", ".join(f"{m} {width}" for m, width in widths.items())
            raise ConfigError(
                f"filip compares tokens, whose widths differ: {told}. Give each modality a head on "
                "tokens: model.modalities.NAME.token_head={name: linear}."
            )

    def streamed_terms(self, tensors: Tensors, pair: Pair) -> tuple[Term, Term]:
        assert self.chunk_rows is not None
        keys, exclusive = positive_keys(tensors, self.positives), self.positives == "sample"
        b = tensors.encoded[self.request(pair[1])]
        rows, columns = streamed_sums(
            token_rows(self.own_rows(tensors, pair[0]), keys[tensors.own]),
            token_rows(b, keys),
            self.used_scale(tensors.scalars, pair),
            self.chunk_rows,
            exclusive,
        )
        own = Found(*(own_columns(found, b.present, tensors.own) for found in columns))
        return softmax_term(*rows, exclusive), softmax_term(*own, exclusive)

    def joined(self, tensors: Tensors) -> Tensors:
        """Besides, the tokens get unit norm, once for all searches."""
        tensors = super().joined(tensors)
        encoded = {
            request: replace(e, rows=normalize(e.rows.float(), dim=-1))
            for request, e in tensors.encoded.items()
        }
        return replace(tensors, encoded=encoded)

    def similarities(self, a: Encoded, b: Encoded) -> Tensor:
        """(n, m) of tokens with unit norm, in float32; see `late_interaction`."""
        assert a.mask is not None
        assert b.mask is not None
        with torch.autocast(a.rows.device.type, enabled=False):
            return late_interaction(a.rows, a.mask, b.rows, b.mask)

    def logits(self, a: Encoded, b: Encoded, scale: Tensor) -> Tensor:
        found = scale * self.similarities(a, b)
        return found.masked_fill(~b.present, torch.finfo(found.dtype).min)
