"""Every pair of samples by itself is a match or none (SigLIP, arXiv:2303.15343, §3.2)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from shared.objectives.base import Encoded, LossOutput, Tensors, Term
from shared.objectives.contrastive import Contrastive, pair_logits
from shared.objectives.pairs import (
    Positives,
    by_row_chunks,
    check_chunk_rows,
    own_rows,
    positive_keys,
)


def sigmoid_losses(logits: Tensor, positive: Tensor) -> Tensor:
    """−log σ(z) where a pair is positive, −log σ(−z) where not.

    Args:
        logits: (n, m) float.
        positive: (n, m) bool.
    """
    return -logsigmoid(torch.where(positive, logits, -logits))


class Sigmoid(Contrastive):
    """Each pair of modalities is trained to tell matching rows from all others, one by one.

    Sum over all present pairs of rows, divided by the number of samples that have both
    modalities: 0 where none has, since nothing then holds against the negatives. A rank compares
    its own rows of the first modality with all rows of the second. Scale, stored as a logarithm,
    and bias are scalars of the model.

    Args:
        modalities: Modalities of the model.
        pairs: `all`, or a mapping `a-b` → weight; averaged by weight.
        initial_scale: Multiplier of the cosine at the start; 10 in SigLIP (§3.2).
        initial_bias: Added to the logits; −10 in SigLIP, so that it starts near the prior of a
            match.
        min_scale: Lower bound, kept after each optimiser step; null: none.
        max_scale: Upper bound; null: none.
        positives: What makes another sample a positive: nothing (`sample`), the same `group`, or
            the same `label`.
        chunk_rows: Rows whose logits are held at once, the others being computed again in the
            backward pass; null: all.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        pairs: Literal["all"] | Mapping[str, float] = "all",
        initial_scale: float = 10.0,
        initial_bias: float = -10.0,
        min_scale: float | None = 1.0,
        max_scale: float | None = 100.0,
        positives: Positives = "sample",
        chunk_rows: int | None = None,
    ) -> None:
        super().__init__(
            modalities,
            pairs,
            initial_scale=initial_scale,
            min_scale=min_scale,
            max_scale=max_scale,
            # one sum over all pairs of rows has no directions
            directions="sum",
            positives=positives,
        )
        check_chunk_rows(chunk_rows, "sigmoid")
        self.initial_bias, self.chunk_rows = initial_bias, chunk_rows

    def model_scalars(self) -> dict[str, float]:
        return {**super().model_scalars(), "logit_bias": self.initial_bias}

    def forward(self, tensors: Tensors) -> LossOutput:
        own, keys = tensors.own, positive_keys(tensors, self.positives)
        bias = tensors.scalars["logit_bias"]
        terms = {}
        for pair, weight in self.weights.items():
            a, b = (tensors.encoded[self.request(m)] for m in pair)
            scale = self.used_scale(tensors.scalars, pair)
            total = self._total(own_rows(a, own), b, keys[own], keys, scale, bias)
            both = a.present & b.present
            total = torch.where(both.any(), total, 0.0)
            terms["-".join(pair)] = Term(total, both[own].sum(), weight)
        return LossOutput(terms)

    def _total(
        self,
        a: Encoded,
        b: Encoded,
        a_keys: Tensor,
        b_keys: Tensor,
        scale: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """Sum over the present pairs of rows of a and b; rows with equal keys match."""

        def total(rows: Tensor, present: Tensor, keys: Tensor) -> Tensor:
            logits = pair_logits(Encoded(rows, present), b, scale, bias)
            losses = sigmoid_losses(logits, keys[:, None] == b_keys)
            return torch.where(present[:, None] & b.present, losses, 0.0).sum()

        return torch.stack(by_row_chunks(total, self.chunk_rows, a.rows, a.present, a_keys)).sum()
