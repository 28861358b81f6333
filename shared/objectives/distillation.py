"""Softmax contrast whose softmaxes also follow a frozen teacher's (open_clip's DistillClipLoss)."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import LossOutput, Request, Tensors, Term
from shared.objectives.contrastive import Contrastive, directed_term, pair_logits
from shared.objectives.pairs import Pair, own_rows
from shared.preprocess import Preprocessor
from shared.registry import Registries


def distilled_term(
    logits: Tensor, teacher_logits: Tensor, counts: Tensor, weight: float = 1.0
) -> Term:
    """Cross-entropy of the student's softmax over the candidates under the teacher's.

    Args:
        logits: (n, m) of the student.
        teacher_logits: (n, m).
        counts: (n,) bool, rows that count.
        weight: Of the term.
    """
    losses = cross_entropy(logits, teacher_logits.softmax(dim=1), reduction="none")
    return Term(torch.where(counts, losses, 0.0).sum(), counts.sum(), weight)


class Distillation(Contrastive):
    """As `Contrastive`, and every softmax is also compared with that of a trained model.

    The teacher sees the inputs that the student sees, so both have to prepare them in the same
    way. Its embeddings may have another width; each model has its own scale.

    Args:
        modalities: Modalities of the model.
        teacher: A run folder or model folder.
        pairs: `all`, or a mapping `a-b` → weight; averaged by weight.
        initial_scale: Multiplier of the student's cosine at the start; 1 / 0.07.
        min_scale: Lower bound, kept after each optimiser step; null: none.
        max_scale: Upper bound; null: none.
        distill_weight: Of the comparison beside the contrast.
        local_loss: As of `Contrastive`.
        gather_with_grad: As of `Contrastive`.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        teacher: str,
        pairs: Literal["all"] | Mapping[str, float] = "all",
        initial_scale: float = 1 / 0.07,
        min_scale: float | None = 1.0,
        max_scale: float | None = 100.0,
        distill_weight: float = 1.0,
        local_loss: bool = True,
        gather_with_grad: bool = True,
    ) -> None:
        super().__init__(
            modalities,
            pairs,
            initial_scale=initial_scale,
            min_scale=min_scale,
            max_scale=max_scale,
            local_loss=local_loss,
            gather_with_grad=gather_with_grad,
            chunk_rows=None,
        )
        self.distill_weight = distill_weight
        self._folder = Path(teacher)
        self._unchecked: dict[str, tuple[Preprocessor, Preprocessor]] = {}
        self.requests += tuple(self.teacher_request(m) for m in self.contrasted)

    def teacher_request(self, modality: str) -> Request:
        """What is read of a modality from the teacher."""
        return Request(modality, tower="teacher", gather=self.gather)

    def load(self, registries: Registries) -> None:
        folder = self._folder / "model" if (self._folder / "model").is_dir() else self._folder
        self.teacher = Model.load(folder, registries, self.contrasted).requires_grad_(False)
        for pair in self.weights:
            self.teacher_scale(pair)

    def bind(self, model: Model) -> None:
        assert self.teacher is not None
        for modality, theirs in self.teacher.preprocessors.items():
            ours = model.preprocessors[modality]
            if _recipe(ours) != _recipe(theirs):
                raise ConfigError(
                    f"distillation: the teacher {self._folder} prepares {modality} otherwise: with "
                    f"{type(theirs).__name__} {theirs.settings}, the model with "
                    f"{type(ours).__name__} {ours.settings}, or from other channels. Set "
                    f"model.modalities.{modality}.preprocess as the teacher has it."
                )
            self._unchecked[modality] = (ours, theirs)
        super().bind(model)

    def train(self, mode: bool = True) -> "Distillation":
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def forward(self, tensors: Tensors) -> LossOutput:
        self._check_statistics()
        own = self._own(tensors)
        terms = {}
        for search in self.searches(tensors):
            term = directed_term(search.logits, search.a, search.b, own)
            terms[search.name] = replace(term, weight=search.weight)
            source, target = search.name.split("->")
            x, y = (tensors.encoded[self.teacher_request(m)] for m in (source, target))
            wanted = pair_logits(own_rows(x, own), y, self.teacher_scale(search.pair))
            counts = search.a.present & search.b.present[own]
            weight = self.distill_weight * search.weight
            terms[f"distill {search.name}"] = distilled_term(search.logits, wanted, counts, weight)
        return LossOutput(terms)

    def teacher_scale(self, pair: Pair) -> Tensor:
        """Multiplier of the teacher's cosine, 0-d.

        Raises:
            ConfigError: It has none: it was not trained by contrast.
        """
        assert self.teacher is not None
        a, b = pair
        for name in ("logit_scale", f"logit_scale_{a}_{b}", f"logit_scale_{b}_{a}"):
            if name in self.teacher.scalars:
                scale: Tensor = self.teacher.scalars[name]
                return scale.exp()
        raise ConfigError(
            f"distillation: the teacher {self._folder} has no scale for {a}-{b}, only the scalars "
            f"{sorted(self.teacher.scalars)}. Take a model that was trained to contrast them."
        )

    def _check_statistics(self) -> None:
        """Once, at the first step: what preprocessors learn of the data is not known before."""
        for modality, (ours, theirs) in self._unchecked.items():
            if ours.state() != theirs.state():
                raise ConfigError(
                    f"distillation: the statistics of {modality} that the teacher {self._folder} "
                    "was trained with are not those of this run's training data. Train on the "
                    "teacher's data and split."
                )
        self._unchecked = {}


def _recipe(preprocessor: Preprocessor) -> tuple[object, ...]:
    """What makes it, apart from what it learns of the data."""
    return type(preprocessor), preprocessor.takes, preprocessor.settings
