"""From a batch to losses: answers the requests of the objectives, each distinct one once."""

from collections.abc import Mapping
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from shared.data.batch import Batch
from shared.encoders.base import Embedding
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import Encoded, LossOutput, Objective, Request, Tensors, Term
from shared.training.distributed import gather_rows


class StepOutput(NamedTuple):
    """What one forward gives.

    Attributes:
        loss: 0-d, weighted sum over objectives.
        terms: By `objective/term`.
        metrics: By `objective/metric`; empty unless asked for.
        projected: By modality, detached unit-norm rows of this rank and their presence.
    """

    loss: Tensor
    terms: dict[str, Term]
    metrics: dict[str, Term]
    projected: dict[str, Encoded]


class Runner(nn.Module):
    """Model and objectives as one module: what DDP and compile see.

    The forwards of a step are one a modality, in the order of the model's modalities.
    """

    def __init__(
        self, model: Model, objectives: Mapping[str, Objective], weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.model = model
        self.objectives = nn.ModuleDict(objectives)
        self.weights = dict(weights)
        self.requests: list[Request] = list(
            dict.fromkeys(r for objective in objectives.values() for r in objective.requests)
        )
        for request in self.requests:
            if request.modality not in model.modalities:
                raise ConfigError(
                    f"An objective reads {request.modality}, which the model does not have; it "
                    f"has {', '.join(model.modalities)}."
                )
        self._modalities = [
            m for m in model.modalities if any(r.modality == m for r in self.requests)
        ]

    def forward(self, batch: Batch, with_metrics: bool = False) -> StepOutput:
        """Losses of a batch.

        Args:
            batch: On the model's device.
            with_metrics: Also compute what the objectives only watch.
        """
        embeddings = {m: self.model.encode(m, batch.inputs[m]) for m in self._modalities}
        projected = {
            m: self.model.project(m, embeddings[m].pooled)
            for m in self._modalities
            if any(r.modality == m and r.output == "projected" for r in self.requests)
        }
        encoded = {r: self._answer(r, embeddings, projected, batch) for r in self.requests}
        tensors = Tensors(
            encoded, dict(self.model.scalars), gather_rows(batch.labels), gather_rows(batch.groups)
        )
        outputs: dict[str, LossOutput] = {}
        metrics: dict[str, Term] = {}
        for name, objective in self._objectives():
            outputs[name] = objective(tensors)
            if with_metrics:
                with torch.no_grad():
                    found = objective.metrics(tensors)
                metrics |= {f"{name}/{metric}": term for metric, term in found.items()}
        loss = torch.stack([self.weights[n] * o.loss for n, o in outputs.items()]).sum()
        terms = {
            f"{n}/{term}": value for n, o in outputs.items() for term, value in o.terms.items()
        }
        own = {
            m: Encoded(scatter_rows(rows.detach(), batch.present[m]), batch.present[m])
            for m, rows in projected.items()
        }
        return StepOutput(loss, terms, metrics, own)

    def after_step(self) -> None:
        """Let the objectives act on the model's scalars after an optimiser step."""
        with torch.no_grad():
            for _, objective in self._objectives():
                objective.after_step(dict(self.model.scalars))

    def _objectives(self) -> list[tuple[str, Objective]]:
        return cast(list[tuple[str, Objective]], list(self.objectives.items()))

    def _answer(
        self,
        request: Request,
        embeddings: Mapping[str, Embedding],
        projected: Mapping[str, Tensor],
        batch: Batch,
    ) -> Encoded:
        modality = request.modality
        if request.output == "projected":
            rows = projected[modality]
        else:
            found = getattr(embeddings[modality], request.output)
            if found is None:
                raise ConfigError(f"The encoder of {modality} gives no {request.output}.")
            rows = found
        present = batch.present[modality]
        rows = scatter_rows(rows, present)
        if request.gather:
            return Encoded(gather_rows(rows), gather_rows(present))
        return Encoded(rows, present)


def scatter_rows(rows: Tensor, present: Tensor) -> Tensor:
    """(present, …) → (batch, …), zero where a sample lacks the modality."""
    if len(rows) == len(present):
        return rows
    full = rows.new_zeros(len(present), *rows.shape[1:])
    return full.index_put((present.nonzero()[:, 0],), rows)
