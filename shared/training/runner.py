"""From a batch to losses: answers the requests of the objectives, each distinct one once."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn

from shared.data.batch import Batch, View
from shared.distributed import (
    gather_rows,
    mean_over_ranks,
    numbers_of_ranks,
    rank,
)
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import (
    Encoded,
    LossOutput,
    Objective,
    Position,
    Request,
    Tensors,
    Term,
    gather_encoded,
)
from shared.random import fold_in
from shared.training.chunks import Chunking, at_once
from shared.training.encodings import Encodings
from shared.training.init import Start


class StepOutput(NamedTuple):
    """What one forward gives.

    Attributes:
        loss: 0-d, weighted sum over objectives; its gradient, averaged over ranks, is that of the
            loss on the joint batch.
        terms: By `objective/term`, of the joint batch, without gradient.
        metrics: By `objective/metric`; empty unless asked for.
        embedded: By modality, detached rows of this rank: projected where an objective reads that,
            else pooled.
    """

    loss: Tensor
    terms: dict[str, Term]
    metrics: dict[str, Term]
    embedded: dict[str, Encoded]

    @property
    def value(self) -> float:
        """The loss of the joint batch."""
        return sum(float(term.weight * term.mean) for term in self.terms.values())


class Runner(nn.Module):
    """Model and objectives as one module: what DDP and compile see.

    The forwards of a step, and their order, follow from the requests alone. A module of the model
    that is frozen as a whole stays in eval mode: its dropout is off and its statistics stand still.
    """

    def __init__(
        self,
        model: Model,
        objectives: Mapping[str, Objective],
        weights: Mapping[str, float],
        start: Start | None = None,
    ) -> None:
        """`start` says where the model's weights come from."""
        super().__init__()
        self.model = model
        self.start = start or Start()
        for objective in objectives.values():
            objective.bind(model)
        self.objectives = nn.ModuleDict(objectives)
        self.weights = dict(weights)
        for name, objective in objectives.items():
            for request in objective.requests:
                self._check(name, objective, request)
        self.untrained = self._freeze_unread()

    def train(self, mode: bool = True) -> "Runner":
        super().train(mode)
        for module in self.model.modules():
            parameters = list(module.parameters())
            if parameters and not any(p.requires_grad for p in parameters):
                module.eval()
        return self

    def named_objectives(self) -> list[tuple[str, Objective]]:
        """With the name of the term in the config."""
        return cast(list[tuple[str, Objective]], list(self.objectives.items()))

    @property
    def published(self) -> Model:
        """The model whose weights are kept: the teacher's, where an objective says so."""
        teachers = [o.teacher for _, o in self.named_objectives() if o.publishes_teacher]
        return next((t for t in teachers if t is not None), self.model)

    def compile_encoders(self) -> None:
        """torch.compile every encoder in place, which keeps the names of its parameters."""
        teachers = [o.teacher for _, o in self.named_objectives() if o.teacher is not None]
        for tower in (self.model, *teachers):
            for encoder in tower.encoders.values():
                encoder.compile()

    def parts(self) -> list[nn.Module]:
        """The model and every module of an objective, each of which may be clipped by itself."""
        modules = [m for _, o in self.named_objectives() for m in o.children()]
        trained = [m for m in modules if any(p.requires_grad for p in m.parameters())]
        return [self.model, *trained]

    def make_views(self, batch: Batch) -> Batch:
        """The batch with the views of every objective; those it has already stay."""
        views = dict(batch.views)
        with torch.no_grad():
            for name, objective in self.named_objectives():
                wanted = {r.view for r in objective.requests if r.view}
                if any(f"{name}/{view}" not in views for view in wanted):
                    # objectives draw independently of each other
                    own = replace(batch, seeds=fold_in(batch.seeds, name))
                    made = objective.make_views(own)
                    views = {f"{name}/{view}": value for view, value in made.items()} | views
        return replace(batch, views=views)

    def forward(
        self,
        batch: Batch,
        position: Position | None = None,
        chunking: Chunking = at_once,
        with_metrics: bool = False,
    ) -> StepOutput:
        """Losses of a batch that has its views.

        Args:
            batch: On the model's device.
            position: Where in the run; the start by default.
            chunking: How many rows are encoded at once.
            with_metrics: Also compute what the objectives only watch.
        """
        step = _Step(self.model, batch, chunking, self.named_objectives())
        outputs: dict[str, LossOutput] = {}
        metrics: dict[str, Term] = {}
        for name, objective in self.named_objectives():
            tensors = step.tensors(name, objective, position or Position())
            outputs[name] = objective(tensors)
            if with_metrics:
                with torch.no_grad():
                    found = objective.metrics(tensors)
                metrics |= {f"{name}/{metric}": term for metric, term in found.items()}
        live = {
            f"{name}/{key}": replace(term, weight=self.weights[name] * term.weight)
            for name, output in outputs.items()
            for key, term in output.terms.items()
        }
        terms, metrics = average_terms(live), average_terms(metrics)
        losses = [replace(live[key], count=term.count) for key, term in terms.items()]
        loss = torch.stack([term.weight * term.mean for term in losses]).sum()
        return StepOutput(loss, terms, metrics, step.embedded)

    def after_step(self, position: Position) -> None:
        """Let the objectives act after an optimiser step."""
        with torch.no_grad():
            for _, objective in self.named_objectives():
                objective.after_step(self.model, position)

    def _check(self, term: str, objective: Objective, request: Request) -> None:
        if request.tower == "teacher" and objective.teacher is None:
            raise ConfigError(f"objective.{term} reads its teacher and has none: set it in bind.")
        if isinstance(request.modality, tuple) and request.modality != self.model.modalities:
            raise ConfigError(
                f"objective.{term} reads {', '.join(request.modality)} at once; the fusion and the "
                f"classifier take all of {', '.join(self.model.modalities)}, in this order."
            )
        names = (request.modality,) if isinstance(request.modality, str) else request.modality
        for name in names:
            if name not in self.model.modalities:
                raise ConfigError(
                    f"An objective reads {name}, which the model does not have; it has "
                    f"{', '.join(self.model.modalities)}."
                )
            reads_tokens = "tokens" in request.output or (
                isinstance(request.modality, tuple) and request.output != "logits"
            )
            if reads_tokens and not self.model.encoders[name].gives_tokens:
                raise ConfigError(
                    f"objective.{term} reads tokens, and the encoder of {name} gives none. Choose "
                    f"another one as model.modalities.{name}.encoder."
                )

    def _outputs(self) -> dict[str, set[str]]:
        """What is read of each modality's encoder and heads; what of all at once under `joint`."""
        read: dict[str, set[str]] = {m: set() for m in (*self.model.modalities, "joint")}
        for _, objective in self.named_objectives():
            for request in objective.requests:
                if request.tower == "model" and isinstance(request.modality, str):
                    read[request.modality].add(request.output)
                elif request.tower == "model":
                    logits = request.output == "logits"
                    read["joint"].add("classifier" if logits else "fusion")
                    features = self.model.classifier_features if logits else "projected_tokens"
                    for modality in self.model.modalities:
                        read[modality].add(features)
        return read

    def _freeze_unread(self) -> tuple[str, ...]:
        """Take what no objective reads out of training, since DDP would wait for its gradients.

        Returns:
            Names of these modules of the model.
        """
        read = self._outputs()
        needs = {"fusion": "fusion" in read["joint"], "classifier": "classifier" in read["joint"]}
        for modality in self.model.modalities:
            needs[f"encoders.{modality}"] = bool(read[modality])
            needs[f"heads.{modality}"] = "projected" in read[modality]
            needs[f"token_heads.{modality}"] = "projected_tokens" in read[modality]
        modules = dict(self.model.named_modules())
        unread = tuple(name for name, needed in needs.items() if name in modules and not needed)
        for name in unread:
            modules[name].requires_grad_(False)
        return unread


class _Step:
    """What the objectives read in one step."""

    def __init__(
        self,
        model: Model,
        batch: Batch,
        chunking: Chunking,
        objectives: Sequence[tuple[str, Objective]],
    ) -> None:
        self.model, self.batch, self._chunking = model, batch, chunking
        self.counts = numbers_of_ranks(len(batch), batch.rows.device)
        self.labels = gather_rows(batch.labels, self.counts)
        self.groups = gather_rows(batch.groups, self.counts)
        self._plain = Encodings(model, batch, View(), None, chunking)
        self._encodings: dict[tuple[str, str, str], Encodings] = {}
        self.embedded: dict[str, Encoded] = {}
        for name, objective in objectives:
            for request in objective.requests:
                self._of(name, objective, request).ask(request.modality, request.output)

    def tensors(self, name: str, objective: Objective, position: Position) -> Tensors:
        """What one objective reads."""
        prefix = f"{name}/"
        views = {
            key.removeprefix(prefix): view
            for key, view in self.batch.views.items()
            if key.startswith(prefix)
        }
        start = sum(self.counts[: rank()])
        return Tensors(
            {r: self._answer(name, objective, r) for r in objective.requests},
            dict(self.model.scalars),
            self.labels,
            self.groups,
            slice(start, start + len(self.batch)),
            views,
            position,
        )

    def _answer(self, name: str, objective: Objective, request: Request) -> Encoded:
        encodings = self._of(name, objective, request)
        with torch.set_grad_enabled(torch.is_grad_enabled() and request.tower == "model"):
            encoded = encodings.get(request.modality, request.output)
        self._remember(request, encoded)
        counts = [encodings.view.copies * count for count in self.counts]
        return gather_encoded(encoded, request.gather, counts)

    def _of(self, name: str, objective: Objective, request: Request) -> Encodings:
        """The encodings that a request is about: the model's of the batch itself are shared by all
        objectives, views and teachers are an objective's own."""
        if request.tower == "model" and not request.view:
            return self._plain
        key = (name, request.tower, request.view)
        if key not in self._encodings:
            view = self.batch.views[f"{name}/{request.view}"] if request.view else View()
            tower: Model = self.model
            plain: Encodings | None = self._plain
            if request.tower == "teacher":
                tower, plain = cast(Model, objective.teacher), None
            self._encodings[key] = Encodings(tower, self.batch, view, plain, self._chunking)
        return self._encodings[key]

    def _remember(self, request: Request, encoded: Encoded) -> None:
        """Keep one vector a sample for whoever watches the run."""
        modality, output = request.modality, request.output
        if request.tower == "teacher" or not isinstance(modality, str):
            return
        if output == "projected" or (output == "pooled" and modality not in self.embedded):
            own = slice(len(self.batch))
            self.embedded[modality] = Encoded(encoded.rows[own].detach(), encoded.present[own])


def average_terms(terms: Mapping[str, Term]) -> dict[str, Term]:
    """Terms with the mean over ranks of total and count, without gradient.

    total / (mean count), averaged over ranks, is the mean over all rows of all ranks, however
    unevenly they are spread.
    """
    if not terms:
        return {}
    totals = torch.stack([term.total.detach().float() for term in terms.values()])
    counts = torch.stack([term.count.detach().float() for term in terms.values()])
    totals, counts = mean_over_ranks(torch.stack([totals, counts]))
    return {
        name: Term(total, count, term.weight)
        for (name, term), total, count in zip(terms.items(), totals, counts, strict=True)
    }
