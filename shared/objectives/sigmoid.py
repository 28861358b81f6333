"""Every pair of samples by itself is a match or none (SigLIP, arXiv:2303.15343, §3.2)."""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from shared.distributed import sum_over_ranks
from shared.objectives.base import Encoded, Gather, LossOutput, Tensors, Term
from shared.objectives.blocks import present_rows
from shared.objectives.contrastive import Contrastive, pair_logits
from shared.objectives.pairs import Positives, positive_keys
from shared.objectives.streamed_sigmoid import streamed_sigmoid_sum


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
        chunk_rows: Side of the blocks of the matrix of logits that are held at once; null: the
            whole matrix.
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
        chunk_rows: int | None = 1024,
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
            chunk_rows=chunk_rows,
        )
        self.initial_bias = initial_bias

    def gather_of(self, modality: str) -> Gather:
        # a rank compares its own rows of the first modality alone
        return "none" if self.stands_first_only(modality) else "grad"

    def model_scalars(self) -> dict[str, float]:
        return {**super().model_scalars(), "logit_bias": self.initial_bias}

    def forward(self, tensors: Tensors) -> LossOutput:
        own, keys = tensors.own, positive_keys(tensors, self.positives)
        bias = tensors.scalars["logit_bias"]
        terms = {}
        for pair, weight in self.weights.items():
            a, b = self.own_rows(tensors, pair[0]), tensors.encoded[self.request(pair[1])]
            scale = self.used_scale(tensors.scalars, pair)
            paired = (a.present & b.present[own]).sum()
            total = self._total(a, b, keys[own], keys, scale, bias)
            total = torch.where(sum_over_ranks(paired) > 0, total, 0.0)
            terms["-".join(pair)] = Term(total, paired, weight)
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
        if self.chunk_rows is None or max(len(a.rows), len(b.rows)) <= self.chunk_rows:
            losses = sigmoid_losses(pair_logits(a, b, scale, bias), a_keys[:, None] == b_keys)
            return torch.where(a.present[:, None] & b.present, losses, 0.0).sum()
        sides = present_rows(a, a_keys), present_rows(b, b_keys)
        return streamed_sigmoid_sum(*sides, scale, bias, self.chunk_rows)
