"""Alignment and uniformity (Wang & Isola 2020, arXiv:2005.10242, §4.1)."""

from collections.abc import Sequence
from itertools import combinations

import torch
from torch import Tensor

from zoo import LossOutput, Objective, Request, Tensors, Term, ZooError


class AlignmentUniformity(Objective):
    """Both halves of a sample close together, all samples spread over the sphere.

    - `alignment_<a>_<b>`: mean over samples of ‖a - b‖², their L_align with α = 2;
    - `uniformity_<a>`: log of the mean over pairs of samples of exp(-t ‖a - a′‖²), their L_uniform.

    Args:
        modalities: Modalities of the model; two or more.
        t: Of the Gaussian potential; 2 in the paper.
        uniformity: Weight of the mean of the uniformity terms, beside 1 for that of alignment.

    Raises:
        ZooError: There is only one modality.
    """

    def __init__(self, modalities: Sequence[str], t: float = 2.0, uniformity: float = 1.0) -> None:
        super().__init__(modalities)
        if len(self.modalities) < 2:
            raise ZooError(
                f"alignment_uniformity needs two modalities; the run has {self.modalities[0]}."
            )
        self.t, self.uniformity = t, uniformity
        self.requests = tuple(Request(modality) for modality in self.modalities)

    def forward(self, tensors: Tensors) -> LossOutput:
        pairs = list(combinations(self.requests, 2))
        terms = {}
        for one, two in pairs:
            a, b = tensors.encoded[one], tensors.encoded[two]
            both = a.present & b.present
            distances = (a.rows.float() - b.rows.float()).square().sum(dim=1)
            terms[f"alignment_{one.modality}_{two.modality}"] = Term(
                torch.where(both, distances, 0.0).sum(), both.sum(), 1 / len(pairs)
            )
        for request in self.requests:
            encoded = tensors.encoded[request]
            terms[f"uniformity_{request.modality}"] = uniformity_term(
                encoded.rows[encoded.present], self.t, self.uniformity / len(self.requests)
            )
        return LossOutput(terms)


def uniformity_term(rows: Tensor, t: float, weight: float) -> Term:
    """(n, dim) unit-norm rows → one value a batch, which counts once: a log of a mean over pairs
    is no mean over samples. With fewer than two rows nothing counts."""
    potentials = torch.pdist(rows.float()).square().mul(-t).exp()
    if len(potentials) == 0:
        return Term(rows.sum() * 0, torch.zeros((), device=rows.device), weight)
    return Term(potentials.mean().log(), torch.ones((), device=rows.device), weight)
