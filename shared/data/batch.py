"""A batch: the rows that each modality has, and which samples they belong to."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from shared.preprocess import Prepared, Preprocessor
from shared.random import fold_in

EMBEDDED = "embedding of a frozen encoder"
"""Name of the one input of a modality whose embeddings are stored: (rows, dim), what its encoder
would give as pooled."""


@dataclass
class View:
    """A transformation of a batch that an objective asks for: crops, a mask, a corruption.

    Attributes:
        inputs: By modality, named tensors of copies · present rows, copy by copy. A modality that
            is not here is read from the batch.
        joint: Named tensors of the batch's rows for the encoder of several modalities.
        targets: What the objective has to know of it, such as which tokens were masked.
        copies: How many rows each sample has.
    """

    inputs: dict[str, dict[str, Tensor]] = field(default_factory=dict)
    joint: dict[str, Tensor] = field(default_factory=dict)
    targets: dict[str, Tensor] = field(default_factory=dict)
    copies: int = 1

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "View":
        def move(named: dict[str, Tensor]) -> dict[str, Tensor]:
            return {k: t.to(device, non_blocking=non_blocking) for k, t in named.items()}

        inputs = {m: move(named) for m, named in self.inputs.items()}
        return View(inputs, move(self.joint), move(self.targets), self.copies)


@dataclass
class Batch:
    """A batch of samples, of which each may lack modalities.

    Attributes:
        inputs: By modality, the named tensors of the samples that have it: (present, …). Every
            modality of the model is a key, with zero rows where no sample of the batch has it. Of
            one whose embeddings are stored: these, under the name `EMBEDDED`.
        present: By modality, (batch,) bool.
        labels: (batch,) int64, -1 where unknown.
        groups: (batch,) int64, equal for samples of one group.
        rows: (batch,) int64, positions in the dataset.
        seeds: (batch,) int64, what the random draws of each sample are a function of.
        views: Views by `objective/view`, where they were made already.
    """

    inputs: dict[str, dict[str, Tensor]]
    present: dict[str, Tensor]
    labels: Tensor
    groups: Tensor
    rows: Tensor
    seeds: Tensor
    views: dict[str, View] = field(default_factory=dict)

    def to(self, device: torch.device | str, non_blocking: bool = False) -> "Batch":
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return Batch(
            {m: {k: move(t) for k, t in named.items()} for m, named in self.inputs.items()},
            {m: move(t) for m, t in self.present.items()},
            move(self.labels),
            move(self.groups),
            move(self.rows),
            move(self.seeds),
            {name: view.to(device, non_blocking) for name, view in self.views.items()},
        )

    def __len__(self) -> int:
        return len(self.rows)

    def seeds_of(self, modality: str) -> Tensor:
        """(present,) int64, seeds of the samples that have a modality, for `shared.random.uniform`;
        those of another modality are independent."""
        seeds = fold_in(self.seeds, modality)
        number = len(next(iter(self.inputs[modality].values())))
        # a device would have to be waited for
        return seeds if number == len(seeds) else seeds[self.present[modality]]


@dataclass(frozen=True)
class PreparedSample:
    """One sample after preprocessing and cropping."""

    inputs: Mapping[str, Prepared]
    label: int
    group: int
    row: int
    seed: int


def collate(
    samples: Sequence[PreparedSample],
    preprocessors: Mapping[str, Preprocessor],
    templates: Mapping[str, Prepared],
) -> Batch:
    """Join samples to a batch.

    Args:
        samples: Those of the batch; possibly none.
        preprocessors: By modality; each pads its own.
        templates: By modality, one prepared sample, which gives the shapes of a batch in which no
            sample has the modality.
    """
    inputs = {}
    for modality, preprocessor in preprocessors.items():
        stored = EMBEDDED in templates[modality]
        join = _join_embedded if stored else preprocessor.collate
        have = [s.inputs[modality] for s in samples if modality in s.inputs]
        if have:
            inputs[modality] = join(have)
        else:
            empty = join([templates[modality]])
            inputs[modality] = {name: tensor[:0] for name, tensor in empty.items()}
    return Batch(
        inputs,
        # dtypes are given, since a rank may have no sample of a last small batch
        {
            m: torch.tensor([m in s.inputs for s in samples], dtype=torch.bool)
            for m in preprocessors
        },
        torch.tensor([s.label for s in samples], dtype=torch.int64),
        torch.tensor([s.group for s in samples], dtype=torch.int64),
        torch.tensor([s.row for s in samples], dtype=torch.int64),
        torch.tensor([s.seed for s in samples], dtype=torch.int64),
    )


def _join_embedded(samples: Sequence[Prepared]) -> dict[str, Tensor]:
    return {EMBEDDED: torch.from_numpy(np.stack([sample[EMBEDDED] for sample in samples]))}


def scatter_rows(rows: Tensor, present: Tensor) -> Tensor:
    """(present, …) → (batch, …), zero where a sample lacks the modality."""
    if len(rows) == len(present):
        return rows
    full = rows.new_zeros(len(present), *rows.shape[1:])
    return full.index_put((present.nonzero()[:, 0],), rows)
