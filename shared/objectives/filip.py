"""Softmax contrast of token-wise similarities (FILIP, arXiv:2111.07783, §3.1)."""

from collections.abc import Mapping, Sequence
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn.functional import normalize

from shared.encoders.base import Encoder
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import Encoded, Request
from shared.objectives.contrastive import Contrastive
from shared.objectives.pairs import Positives, by_row_chunks, check_chunk_rows

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
    another objective trains the head. A rank compares its own rows with all others. The paper's
    selection of a quarter of the tokens is not made.

    Args:
        modalities: Modalities of the model.
        pairs: `all`, or a mapping `a-b` → weight; averaged by weight.
        initial_scale: Multiplier of the similarity at the start; 1 / 0.07.
        min_scale: Lower bound, kept after each optimiser step; null: none.
        max_scale: Upper bound; null: none.
        positives: What makes another sample a positive: nothing (`sample`), the same `group`, or
            the same `label`.
        chunk_rows: Rows whose tokens are compared at once, the others being compared again in the
            backward pass; null: all.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        pairs: Literal["all"] | Mapping[str, float] = "all",
        initial_scale: float = 1 / 0.07,
        min_scale: float | None = 1.0,
        max_scale: float | None = 100.0,
        positives: Positives = "sample",
        chunk_rows: int | None = 16,
    ) -> None:
        super().__init__(
            modalities,
            pairs,
            initial_scale=initial_scale,
            min_scale=min_scale,
            max_scale=max_scale,
            positives=positives,
        )
        check_chunk_rows(chunk_rows, "filip")
        self.chunk_rows = chunk_rows

    def request(self, modality: str) -> Request:
        return Request(modality, "projected_tokens", gather=self.gather)

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

    def similarities(self, a: Encoded, b: Encoded) -> Tensor:
        """(n, m) of raw tokens, in float32; see `late_interaction`."""
        assert a.mask is not None
        assert b.mask is not None
        b_mask = b.mask
        with torch.autocast(a.rows.device.type, enabled=False):
            b_tokens = normalize(b.rows.float(), dim=-1)

            def compare(rows: Tensor, mask: Tensor) -> Tensor:
                return late_interaction(normalize(rows.float(), dim=-1), mask, b_tokens, b_mask)

            return torch.cat(by_row_chunks(compare, self.chunk_rows, a.rows, a.mask))

    def logits(self, a: Encoded, b: Encoded, scale: Tensor) -> Tensor:
        found = scale * self.similarities(a, b)
        return found.masked_fill(~b.present, torch.finfo(found.dtype).min)
