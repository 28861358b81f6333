"""What an objective is: it declares requests and turns their tensors into terms of a loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Request:
    """One thing an objective reads from the model: the runner encodes each distinct one once.

    Attributes:
        modality: Name of the modality.
        output: `pooled` and `tokens` as the encoder gives them, `projected` = the head's output
            with unit norm.
        gather: Whether to join the rows of all ranks, with gradient.
    """

    modality: str
    output: Literal["pooled", "tokens", "projected"] = "projected"
    gather: bool = True


@dataclass(frozen=True)
class Encoded:
    """Answer to a request: (batch, …) rows, zero where the sample lacks the modality.

    Attributes:
        rows: (batch, dim), or (batch, length, dim) for tokens.
        present: (batch,) bool, which rows stand for data.
    """

    rows: Tensor
    present: Tensor


@dataclass(frozen=True)
class Tensors:
    """All that a loss is a function of.

    Attributes:
        encoded: By request.
        scalars: Learned scalars of the model, by name.
        labels: (batch,) int64, -1 where unknown; gathered like the rows.
        groups: (batch,) int64, equal for samples of the same group (star, patient, scene).
    """

    encoded: Mapping[Request, Encoded]
    scalars: Mapping[str, Tensor]
    labels: Tensor
    groups: Tensor


@dataclass(frozen=True)
class Term:
    """One summand of a loss: weight · total / count, 0 where nothing counts.

    A mean is kept as its two parts, so that it stays right when parts of different size are joined.
    """

    total: Tensor
    count: Tensor
    weight: float = 1.0

    @property
    def mean(self) -> Tensor:
        return self.total / self.count.clamp(min=1)


@dataclass(frozen=True)
class LossOutput:
    """Terms by name; `loss` is their weighted sum."""

    terms: Mapping[str, Term]

    @property
    def loss(self) -> Tensor:
        return torch.stack([term.weight * term.mean for term in self.terms.values()]).sum()


class Objective(nn.Module, ABC):
    """A method: requests in, terms out.

    Constructed as `Objective(modalities, **settings)` with the modalities of the model. Its own
    parameters are what only training needs; what published checkpoints hold goes to the model
    through `model_scalars`.
    """

    requests: tuple[Request, ...]

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)

    def model_scalars(self) -> dict[str, float]:
        """Learned scalars the model has to hold: name → initial value."""
        return {}

    @abstractmethod
    def forward(self, tensors: Tensors) -> LossOutput:
        """Terms of the loss, in float32."""

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """What is worth watching but not minimised; called without gradient."""
        return {}

    def after_step(self, scalars: Mapping[str, Tensor]) -> None:
        """Called without gradient after each optimiser step."""
