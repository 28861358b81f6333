"""What an objective is: it declares requests and turns their tensors into terms of a loss."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from shared.data.batch import Batch, View
from shared.distributed import gather_constants, gather_rows, numbers_of_ranks, world_size
from shared.errors import ConfigError
from shared.model import Model
from shared.registry import Registries

Output = Literal["pooled", "tokens", "projected", "projected_tokens", "logits"]
Gather = Literal["none", "grad", "no_grad"]


@dataclass(frozen=True)
class Request:
    """One thing an objective reads: the runner encodes each distinct one once.

    Attributes:
        modality: Name of a modality; a tuple of names for what the model computes from several at
            once (the fusion's `pooled` and `tokens`, the classifier's `logits`).
        output: `pooled` and `tokens` as the encoder gives them, `projected` = the head's output
            with unit norm, `projected_tokens` = the token head's output, `logits`.
        view: A view that the objective makes; empty: the batch as it is.
        tower: `model`, or `teacher`, the objective's own, which runs without gradient.
        gather: Whether to join the rows of all ranks, with or without gradient.
    """

    modality: str | tuple[str, ...]
    output: Output = "projected"
    view: str = ""
    tower: Literal["model", "teacher"] = "model"
    gather: Gather = "grad"


@dataclass(frozen=True)
class Encoded:
    """Answer to a request: (rows, …), zero where the sample lacks the modality.

    A view with several copies has copies · batch rows, copy by copy.

    Attributes:
        rows: (rows, dim), or (rows, length, dim) for tokens.
        present: (rows,) bool, which rows stand for data.
        mask: (rows, length) bool, True where a token stands for data; None unless tokens.
    """

    rows: Tensor
    present: Tensor
    mask: Tensor | None = None


def gather_encoded(encoded: Encoded, gather: Gather, counts: list[int]) -> Encoded:
    """Rows of all ranks, in rank order, as a request asks for them.

    Tokens are padded to the longest sequence of any rank.

    Args:
        encoded: Rows of this rank.
        gather: `none` leaves the rows as they are; with `no_grad` only the own rows carry a
            gradient.
        counts: Number of rows of every rank.
    """
    if gather == "none" or world_size() == 1:
        return encoded
    join = gather_rows if gather == "grad" else gather_constants
    rows, mask = encoded.rows, encoded.mask
    if mask is not None:
        longest = max(numbers_of_ranks(rows.shape[1], rows.device))
        missing = longest - rows.shape[1]
        rows = pad(rows, (0, 0, 0, missing))
        mask = gather_rows(pad(mask, (0, missing)), counts)
    return Encoded(join(rows, counts), gather_rows(encoded.present, counts), mask)


class Position(NamedTuple):
    """Where in a run a step is; schedules are functions of it.

    Attributes:
        step: Optimiser steps done.
        total_steps: Of the whole run.
        steps_per_epoch: Batches an epoch.
    """

    step: int = 0
    total_steps: int = 1
    steps_per_epoch: int = 1


@dataclass(frozen=True)
class Tensors:
    """All that a loss is a function of.

    Attributes:
        encoded: By request.
        scalars: Learned scalars of the model, by name.
        labels: (rows of all ranks,) int64, -1 where unknown.
        groups: (rows of all ranks,) int64, equal for samples of a group (star, patient, scene).
        own: Which of the gathered rows are this rank's.
        views: What the objective's `make_views` gave, by name.
        position: Where in the run.
    """

    encoded: Mapping[Request, Encoded]
    scalars: Mapping[str, Tensor]
    labels: Tensor
    groups: Tensor
    own: slice = field(default_factory=lambda: slice(None))
    views: Mapping[str, View] = field(default_factory=dict)
    position: Position = field(default_factory=Position)


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
        return self.total / torch.where(self.count > 0, self.count, 1)


@dataclass(frozen=True)
class LossOutput:
    """Terms by name; `loss` is their weighted sum."""

    terms: Mapping[str, Term]

    @property
    def loss(self) -> Tensor:
        return torch.stack([term.weight * term.mean for term in self.terms.values()]).sum()


def one_modality(objective: str, modality: str | None, modalities: Sequence[str]) -> str:
    """The modality that an objective of a single one trains; None: the model's only one.

    Raises:
        ConfigError: The model does not have it, or has several to choose from.
    """
    if modality is None and len(modalities) == 1:
        return modalities[0]
    if modality not in modalities:
        raise ConfigError(
            f"{objective}: modality={modality} has to be one of {', '.join(modalities)}: set "
            f"objective.{objective}.modality."
        )
    return cast(str, modality)


class Objective(nn.Module, ABC):
    """A method: requests in, terms out.

    Constructed as `Objective(modalities, **settings)` with the modalities of the model. Its own
    parameters are what only training needs; what published checkpoints hold is the model's.

    Attributes:
        requests: What it reads.
        teacher: The tower that requests with `tower="teacher"` are answered by, or None.
        publishes_teacher: Whether the teacher's weights are what a run leaves, not the student's.
    """

    requests: tuple[Request, ...]
    publishes_teacher = False

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__()
        self.modalities = tuple(modalities)
        self.teacher: Model | None = None

    def model_scalars(self) -> dict[str, float]:
        """Learned scalars the model has to hold: name → initial value."""
        return {}

    def load(self, registries: Registries) -> None:
        """Called once, before `bind`: read what it starts from, such as the folder of a teacher."""

    def bind(self, model: Model) -> None:
        """Called once, before training, with the model: make the heads and towers that depend on
        its widths or start as its copy."""

    def make_views(self, batch: Batch) -> dict[str, View]:
        """The views that its requests name, made from a batch on the device, without gradient.

        What is random in the view of a sample is drawn from `batch.seeds_of(modality)` or
        `batch.seeds`, by `shared.random.uniform`. What can only be drawn for a batch comes from
        torch's generator, which is set for each step and rank.
        """
        return {}

    @abstractmethod
    def forward(self, tensors: Tensors) -> LossOutput:
        """Terms of the loss, in float32. Sums and counts are of this rank's rows, or of all rows
        on every rank: the runner averages both over the ranks."""

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """What is worth watching but not minimised; called without gradient."""
        return {}

    def after_step(self, model: Model, position: Position) -> None:
        """Called without gradient after each optimiser step."""
