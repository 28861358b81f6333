"""From a batch to losses: answers the requests of the objectives, each distinct one once."""

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shared.data.batch import Batch, View, scatter_rows
from shared.distributed import (
    gather_constants,
    gather_rows,
    mean_over_ranks,
    numbers_of_ranks,
    rank,
    world_size,
)
from shared.encoders.base import Embedding
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
)


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

    The forwards of a step, and their order, follow from the requests alone.
    """

    def __init__(
        self, model: Model, objectives: Mapping[str, Objective], weights: Mapping[str, float]
    ) -> None:
        super().__init__()
        self.model = model
        for objective in objectives.values():
            objective.bind(model)
        self.objectives = nn.ModuleDict(objectives)
        self.weights = dict(weights)
        for objective in objectives.values():
            for request in objective.requests:
                self._check(request)
        pooled_only = ("pooled", "projected", "logits")
        # otherwise tokens go as soon as they are pooled
        self._keep_tokens = any(
            request.output not in pooled_only
            or (isinstance(request.modality, tuple) and request.output != "logits")
            for objective in objectives.values()
            for request in objective.requests
        )

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
                    made = objective.make_views(batch)
                    views = {f"{name}/{view}": value for view, value in made.items()} | views
        return replace(batch, views=views)

    def forward(
        self,
        batch: Batch,
        position: Position | None = None,
        chunk_size: int | None = None,
        with_metrics: bool = False,
    ) -> StepOutput:
        """Losses of a batch that has its views.

        Args:
            batch: On the model's device.
            position: Where in the run; the start by default.
            chunk_size: Encode so many rows at a time and keep no activations of them: the
                backward pass encodes them again. None: all at once.
            with_metrics: Also compute what the objectives only watch.
        """
        step = _Step(self.model, batch, chunk_size, self._keep_tokens)
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

    def _check(self, request: Request) -> None:
        names = (request.modality,) if isinstance(request.modality, str) else request.modality
        for name in names:
            if name not in self.model.modalities:
                raise ConfigError(
                    f"An objective reads {name}, which the model does not have; it has "
                    f"{', '.join(self.model.modalities)}."
                )


class _Step:
    """The encodings of one step; each distinct one is made when it is first asked for."""

    def __init__(
        self, model: Model, batch: Batch, chunk_size: int | None, keep_tokens: bool
    ) -> None:
        self.model, self.batch = model, batch
        self.chunk_size, self.keep_tokens = chunk_size, keep_tokens
        self.counts = numbers_of_ranks(len(batch), batch.rows.device)
        self.labels = gather_rows(batch.labels, self.counts)
        self.groups = gather_rows(batch.groups, self.counts)
        self.embedded: dict[str, Encoded] = {}
        self._embeddings: dict[tuple[str, str, str], Embedding] = {}
        self._projected: dict[tuple[str, str, str], Tensor] = {}
        self._joint: dict[tuple[str, str], Embedding] = {}

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
        tower = self.model
        if request.tower == "teacher":
            assert objective.teacher is not None, f"{name} has no teacher"
            tower = objective.teacher
        owner = name if request.view or request.tower == "teacher" else ""
        view = self.batch.views[f"{name}/{request.view}"] if request.view else View()
        with torch.set_grad_enabled(torch.is_grad_enabled() and request.tower == "model"):
            if isinstance(request.modality, str):
                encoded = self._single(owner, tower, view, request)
            else:
                encoded = self._several(owner, tower, view, request)
        self._remember(request, encoded)
        return self._gather(encoded, request.gather, view.copies)

    def _single(self, owner: str, tower: Model, view: View, request: Request) -> Encoded:
        """Rows of one modality, scattered to the samples that have it."""
        modality = cast(str, request.modality)
        present = self.batch.present[modality].repeat(view.copies)
        embedding = self._embedding(owner, tower, view, request, modality)
        if request.output == "projected":
            key = (owner, f"{request.tower}/{request.view}", modality)
            if key not in self._projected:
                self._projected[key] = tower.project(modality, embedding.pooled)
            return Encoded(scatter_rows(self._projected[key], present), present)
        if request.output == "pooled":
            return Encoded(scatter_rows(embedding.pooled, present), present)
        if embedding.tokens is None:
            raise ConfigError(f"The encoder of {modality} gives no tokens.")
        tokens = embedding.tokens
        if request.output == "projected_tokens":
            tokens = tower.project_tokens(modality, tokens)
        mask = embedding.mask
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Encoded(scatter_rows(tokens, present), present, scatter_rows(mask, present))

    def _several(self, owner: str, tower: Model, view: View, request: Request) -> Encoded:
        """What the fusion or the classifier makes of all modalities."""

        def of(modality: str, output: str) -> Encoded:
            # the same forward as of an objective that asks for it by itself
            one = replace(request, modality=modality, output=output)  # type: ignore[arg-type]
            return self._single(owner, tower, view, one)

        names = tower.modalities
        if request.output == "logits":
            assert tower.config.classifier is None or tower.classifier is not None
            kind = tower.config.classifier.features if tower.config.classifier else "projected"
            found = {m: of(m, kind) for m in names}
            present = {m: e.present for m, e in found.items()}
            logits = tower.classify({m: e.rows for m, e in found.items()}, present)
            return Encoded(logits, torch.stack(list(present.values())).any(dim=0))
        key = (owner, f"{request.tower}/{request.view}")
        parts = {m: of(m, "projected_tokens") for m in names}
        if key not in self._joint:
            # of a joint encoding only the tokens are read
            empty = self.batch.rows.new_zeros(0)
            tokens = {m: Embedding(empty, e.rows, e.mask) for m, e in parts.items()}
            self._joint[key] = tower.fuse(tokens, view.joint)
        joint = self._joint[key]
        present_any = torch.stack([e.present for e in parts.values()]).any(dim=0)
        if request.output == "pooled":
            return Encoded(joint.pooled, present_any)
        assert joint.tokens is not None
        return Encoded(joint.tokens, present_any, joint.mask)

    def _embedding(
        self, owner: str, tower: Model, view: View, request: Request, modality: str
    ) -> Embedding:
        transformed = modality in view.inputs
        owner = owner if transformed or request.tower == "teacher" else ""
        key = (owner, f"{request.tower}/{request.view if transformed else ''}", modality)
        if key not in self._embeddings:
            inputs = view.inputs[modality] if transformed else self.batch.inputs[modality]
            found = encode_in_chunks(tower, modality, inputs, self.chunk_size)
            self._embeddings[key] = found if self.keep_tokens else Embedding(found.pooled)
        return self._embeddings[key]

    def _remember(self, request: Request, encoded: Encoded) -> None:
        """Keep one vector a sample for whoever watches the run."""
        modality, output = request.modality, request.output
        if request.tower == "teacher" or not isinstance(modality, str):
            return
        if output == "projected" or (output == "pooled" and modality not in self.embedded):
            own = slice(len(self.batch))
            self.embedded[modality] = Encoded(encoded.rows[own].detach(), encoded.present[own])

    def _gather(self, encoded: Encoded, how: str, copies: int) -> Encoded:
        if how == "none":
            return encoded
        return gather_encoded(encoded, how == "grad", [copies * count for count in self.counts])


def encode_in_chunks(
    tower: Model, modality: str, inputs: dict[str, Tensor], chunk_size: int | None
) -> Embedding:
    """The encoder's output; with a chunk size, a chunk at a time under activation checkpointing.

    The random state of each chunk is replayed when the backward pass encodes it again, so the
    gradients are those of encoding all at once where the encoder treats rows one by one.
    """
    number = len(next(iter(inputs.values())))
    if chunk_size is None or number <= chunk_size:
        return tower.encode(modality, inputs)
    encode = partial(tower.encode, modality)
    chunks = []
    for start in range(0, number, chunk_size):
        part = {name: tensor[start : start + chunk_size] for name, tensor in inputs.items()}
        chunks.append(checkpoint(encode, part, use_reentrant=False))
    joined = [None if field[0] is None else torch.cat(field) for field in zip(*chunks, strict=True)]
    return Embedding(*joined)  # type: ignore[arg-type]


def gather_encoded(encoded: Encoded, with_grad: bool, counts: list[int]) -> Encoded:
    """Rows of all ranks, in rank order; without gradient only the own rows carry one.

    Tokens are padded to the longest sequence of any rank.
    """
    if world_size() == 1:
        return encoded
    join = gather_rows if with_grad else gather_constants
    rows, mask = encoded.rows, encoded.mask
    if mask is not None:
        longest = max(numbers_of_ranks(rows.shape[1], rows.device))
        missing = longest - rows.shape[1]
        rows = nn.functional.pad(rows, (0, 0, 0, missing))
        mask = gather_rows(nn.functional.pad(mask, (0, missing)), counts)
    return Encoded(join(rows, counts), gather_rows(encoded.present, counts), mask)


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
