"""Pairwise softmax contrast between named modalities (InfoNCE; CLIP, arXiv:2103.00020, fig. 3)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.distributed import numbers_of_ranks, world_size
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import (
    Encoded,
    Gather,
    LossOutput,
    Objective,
    Position,
    Request,
    Tensors,
    Term,
    gather_encoded,
)
from shared.objectives.blocks import present_rows
from shared.objectives.pairs import (
    Pair,
    Positives,
    check_choice,
    check_chunk_rows,
    own_rows,
    parse_pairs,
    positive_keys,
)
from shared.objectives.streamed import (
    Settings,
    own_columns,
    softmax_term,
    streamed_lse,
    terms_of_groups,
)


def pair_logits(a: Encoded, b: Encoded, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    """scale · A Bᵀ + bias in float32.

    Args:
        a: (n, dim) unit-norm rows.
        b: (m, dim) unit-norm rows, the candidates.
        scale: 0-d multiplier of the cosine.
        bias: 0-d; None: 0.

    Returns:
        (n, m) logits. Columns of absent candidates hold the most negative float, so that nothing
        is found among them.
    """
    offsets = b.rows.new_zeros((), dtype=torch.float32) if bias is None else bias.float()
    absent = torch.finfo(torch.float32).min
    with torch.autocast(a.rows.device.type, enabled=False):
        # masked while multiplying: no second matrix of this size
        offsets = torch.where(b.present, offsets, absent)
        return torch.addmm(offsets[None], scale.float() * a.rows.float(), b.rows.float().T)


def directed_term(
    logits: Tensor, a: Encoded, b: Encoded, own: slice, positive: Tensor | None = None
) -> Term:
    """Cross-entropy of finding the positives of a's rows among all rows of b.

    With several positives the target is uniform over them: the mean over positives of
    -log softmax (SupCon's L_out, arXiv:2004.11362, eq. 2). A row without the modality, or without
    a present positive, does not count.

    Args:
        logits: (n, m) from `pair_logits`.
        a: The n rows that search.
        b: The m rows that are searched.
        own: Which of b's rows belong to the same samples as a's, in order.
        positive: (n, m) bool; None: only the row itself.
    """
    if positive is None:
        counts = a.present & b.present[own]
        itself = torch.arange(logits.shape[1], device=logits.device)[own]
        losses = cross_entropy(logits, itself, reduction="none")
    else:
        hits = positive & b.present[None, :] & a.present[:, None]
        number = hits.sum(dim=1)
        counts = number > 0
        found = logits.log_softmax(dim=1).masked_fill(~hits, 0.0)
        losses = -found.sum(dim=1) / number.clamp(min=1)
    losses = torch.where(counts, losses, 0.0)
    return Term(losses.sum(), counts.sum())


class Search(NamedTuple):
    """One direction of a pair of modalities.

    Attributes:
        name: `source->target`.
        pair: As the weights name it.
        a: This rank's rows of the source, n of them; all rows without a local loss.
        b: All m rows of the target.
        logits: (n, m).
        weight: Of the direction in the loss.
    """

    name: str
    pair: Pair
    a: Encoded
    b: Encoded
    logits: Tensor
    weight: float


class Contrastive(Objective):
    """Each pair of modalities is trained to find the other half of a sample in the batch.

    The batch is that of all ranks. The scales are scalars of the model, stored as logarithms.
    AstroM3's exact loss (arXiv:2411.08842) is `scale=pair initial_scale=100 min_scale=1
    clamp=forward directions=sum pair_reduction=sum`; CLIP's is the default.

    Args:
        modalities: Modalities of the model.
        pairs: `all`, or a mapping `a-b` → weight.
        scale: One learned scale for all pairs (`shared`) or one a pair (`pair`).
        initial_scale: Multiplier of the cosine at the start; 1 / 0.07 in CLIP (§2.5).
        min_scale: Lower bound; null: none.
        max_scale: Upper bound, 100 in CLIP (§2.5); null: none.
        clamp: `step` bounds the parameter after each optimiser step (as CLIP does); `forward`
            clamps the used value, whose gradient is then 0 outside the bounds.
        directions: Whether the two directions of a pair are averaged or summed.
        pair_reduction: Whether the pairs are averaged (by weight) or summed.
        positives: What makes another sample a positive: nothing (`sample`), the same `group`, or
            the same `label`.
        local_loss: Whether a rank computes only its own rows of the logits, as many times fewer
            as there are ranks; the mean over ranks is the same. False: every rank computes all.
        gather_with_grad: Whether the rows of other ranks carry gradients. False: only the own rows
            do, which makes the towers' gradients as many times smaller as there are ranks, but not
            the scale's.
        chunk_rows: Side of the blocks of the matrix of logits that are held at once; null: the
            whole matrix.

    Raises:
        ConfigError: A pair or a choice that is not there, bounds that exclude the initial scale,
            or a local loss of rows that carry no gradient.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        pairs: Literal["all"] | Mapping[str, float] = "all",
        scale: Literal["shared", "pair"] = "shared",
        initial_scale: float = 1 / 0.07,
        min_scale: float | None = 1.0,
        max_scale: float | None = 100.0,
        clamp: Literal["step", "forward"] = "step",
        directions: Literal["mean", "sum"] = "mean",
        pair_reduction: Literal["mean", "sum"] = "mean",
        positives: Positives = "sample",
        local_loss: bool = True,
        gather_with_grad: bool = True,
        chunk_rows: int | None = 1024,
    ) -> None:
        super().__init__(modalities)
        name = type(self).__name__.lower()
        check_choice(name, "scale", scale, ("shared", "pair"))
        check_choice(name, "clamp", clamp, ("step", "forward"))
        check_choice(name, "directions", directions, ("mean", "sum"))
        check_choice(name, "pair_reduction", pair_reduction, ("mean", "sum"))
        check_choice(name, "positives", positives, ("sample", "group", "label"))
        check_chunk_rows(chunk_rows, name)
        lowest, highest = min_scale or 0.0, math.inf if max_scale is None else max_scale
        if not (initial_scale > 0 and lowest <= initial_scale <= highest):
            raise ConfigError(
                f"{name}: 0 < min_scale={lowest:g} <= initial_scale={initial_scale:g} <= "
                f"max_scale={highest:g} does not hold."
            )
        if local_loss and not gather_with_grad:
            raise ConfigError(
                f"{name}: with local_loss=true and gather_with_grad=false no rank differentiates "
                "its rows as candidates of other ranks: the gradients would be wrong. Set "
                "gather_with_grad=true, or local_loss=false."
            )
        weights = parse_pairs(name, pairs, self.modalities)
        total = sum(weights.values()) if pair_reduction == "mean" else 1.0
        per_direction = 0.5 if directions == "mean" else 1.0
        self.weights = {pair: per_direction * w / total for pair, w in weights.items()}
        self.scale, self.initial_scale, self.positives = scale, initial_scale, positives
        self.bounds, self.clamp = (lowest, highest), clamp
        self.local_loss, self.chunk_rows = local_loss, chunk_rows
        self.gather: Gather = "grad" if gather_with_grad else "no_grad"
        self.requests = tuple(self.request(m) for m in self.contrasted)

    @property
    def contrasted(self) -> tuple[str, ...]:
        """Modalities that are in a pair."""
        return tuple(dict.fromkeys(m for pair in self.weights for m in pair))

    def request(self, modality: str) -> Request:
        """What is read of a modality."""
        return Request(modality, gather=self.gather_of(modality))

    def gather_of(self, modality: str) -> Gather:
        """Whether other ranks read a modality's rows: by blocks, those that stand second."""
        by_blocks = self.chunk_rows is not None and self.local_loss
        return "none" if by_blocks and self.stands_first_only(modality) else self.gather

    def stands_first_only(self, modality: str) -> bool:
        """Whether a modality is never the second of a pair."""
        return all(modality != second for _, second in self.weights)

    def model_scalars(self) -> dict[str, float]:
        names = [self._scale_name(pair) for pair in self.weights]
        return dict.fromkeys(names, math.log(self.initial_scale))

    def bind(self, model: Model) -> None:
        """Raises ConfigError where weights that were taken over hold a scale far beyond its bound,
        as those that store the multiplier itself do."""
        for name in self.model_scalars():
            if (value := float(model.scalars[name].detach())) > math.log(self.bounds[1]) + 1:
                raise ConfigError(
                    f"The model's {name} is {value:g}, a multiplier of exp({value:g}), and "
                    f"max_scale is {self.bounds[1]:g}. Scales are stored as logarithms: if the "
                    f"weights held the multiplier itself, write log({value:g}) = "
                    f"{math.log(value):.4g}."
                )

    def forward(self, tensors: Tensors) -> LossOutput:
        if self._streams(tensors):
            return LossOutput(dict(self._streamed(tensors)))
        own, positive = self._own(tensors), self._positive(tensors)
        terms = {}
        for search in self.searches(self.joined(tensors)):
            term = directed_term(search.logits, search.a, search.b, own, positive)
            terms[search.name] = replace(term, weight=search.weight)
        return LossOutput(terms)

    def streamed_terms(self, tensors: Tensors, pair: Pair) -> tuple[Term, Term]:
        """Of both directions of a pair, without a matrix of logits."""
        assert self.chunk_rows is not None
        own, keys = self._own(tensors), positive_keys(tensors, self.positives)
        exclusive, scale = self.positives == "sample", self.used_scale(tensors.scalars, pair)
        a, b = (self.own_rows(tensors, m) for m in pair)
        all_b = tensors.encoded[self.request(pair[1])]
        joined = self.local_loss and world_size() > 1
        sides = present_rows(a, keys[own]), present_rows(all_b, keys)
        settings = Settings(self.chunk_rows, exclusive, joined)
        rows, columns = streamed_lse(*sides, scale, settings)
        columns = own_columns(columns, all_b.present, own)
        if not exclusive:
            return terms_of_groups(rows, columns, *sides, keys[own][b.present], scale, joined)
        # both directions have the same positives, which are on this rank
        logits = scale * (a.rows.float() * b.rows.float()).sum(dim=1)
        return (
            softmax_term(rows, logits[a.present], b.present[a.present], exclusive),
            softmax_term(columns, logits[b.present], a.present[b.present], exclusive),
        )

    def own_rows(self, tensors: Tensors, modality: str) -> Encoded:
        """The rows of a modality that search, whether the other ranks have them or not."""
        request = self.request(modality)
        encoded = tensors.encoded[request]
        return encoded if request.gather == "none" else own_rows(encoded, self._own(tensors))

    def joined(self, tensors: Tensors) -> Tensors:
        """The same with the rows of all ranks of every modality, as `searches` reads them; what
        the loss had no need to gather comes without gradient."""
        encoded = dict(tensors.encoded)
        for request in map(self.request, self.contrasted):
            if request.gather == "none":
                rows = encoded[request]
                counts = numbers_of_ranks(len(rows.rows), rows.rows.device)
                encoded[request] = gather_encoded(rows, "no_grad", counts)
        return replace(tensors, encoded=encoded)

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """`in_batch_accuracy`: share of samples whose own row has the largest softmax, averaged
        over both directions and all pairs (AstroM3's criterion for model selection)."""
        tensors = self.joined(tensors)
        number = max(1, len(tensors.labels))
        start, stop, _ = self._own(tensors).indices(number)
        # as many logits as a block has
        rows = number if self.chunk_rows is None else max(1, self.chunk_rows**2 // number)
        parts = [
            self._found(tensors, slice(at, min(at + rows, stop)))
            for at in range(start, max(stop, start + 1), rows)
        ]
        found, paired = (torch.stack(part).sum() for part in zip(*parts, strict=True))
        return {"in_batch_accuracy": Term(found, paired)}

    def after_step(self, model: Model, position: Position) -> None:
        if self.clamp == "step":
            low, high = (math.log(bound) if bound else -math.inf for bound in self.bounds)
            for pair in self.weights:
                model.scalars[self._scale_name(pair)].clamp_(low, high)

    def searches(self, tensors: Tensors, which: slice | None = None) -> Iterator[Search]:
        """Both directions of every pair.

        Args:
            tensors: Of the batch, with the rows of all ranks (`joined`).
            which: Of the rows of all ranks, those that search; None: those of this rank.
        """
        which = self._own(tensors) if which is None else which
        for pair, weight in self.weights.items():
            scale = self.used_scale(tensors.scalars, pair)
            for direction in (pair, pair[::-1]):
                rows, b = (tensors.encoded[self.request(m)] for m in direction)
                a = own_rows(rows, which)
                yield Search("->".join(direction), pair, a, b, self.logits(a, b, scale), weight)

    def logits(self, a: Encoded, b: Encoded, scale: Tensor) -> Tensor:
        """(n, m): how well the candidates `b` fit the rows `a`; see `pair_logits`."""
        return pair_logits(a, b, scale)

    def used_scale(self, scalars: Mapping[str, Tensor], pair: Pair) -> Tensor:
        """Multiplier of the cosine for a pair, 0-d."""
        value = scalars[self._scale_name(pair)].float().exp()
        return value.clamp(*self.bounds) if self.clamp == "forward" else value

    def _scale_name(self, pair: Pair) -> str:
        return "logit_scale" if self.scale == "shared" else f"logit_scale_{pair[0]}_{pair[1]}"

    def _streams(self, tensors: Tensors) -> bool:
        """Whether the logits go by blocks: the same on every rank."""
        if self.chunk_rows is None:
            return False
        return len(tensors.labels) > self.chunk_rows or (self.local_loss and world_size() > 1)

    def _streamed(self, tensors: Tensors) -> Iterator[tuple[str, Term]]:
        for pair, weight in self.weights.items():
            for direction, term in zip(
                (pair, pair[::-1]), self.streamed_terms(tensors, pair), strict=True
            ):
                yield "->".join(direction), replace(term, weight=weight)

    def _found(self, tensors: Tensors, which: slice) -> tuple[Tensor, Tensor]:
        """How many of some rows have the largest softmax at their own, and how many have one."""
        device = tensors.labels.device
        total, paired = torch.zeros((), device=device), torch.zeros((), device=device)
        for search in self.searches(tensors, which):
            both = (search.a.present & search.b.present[which]).float()
            total = total + search.logits.softmax(dim=1) * both[:, None]
            paired = paired + both
        itself = torch.arange(total.shape[1], device=device)[which]
        found = (total.argmax(dim=1) == itself) & (paired > 0)
        return found.sum(), (paired > 0).sum()

    def _own(self, tensors: Tensors) -> slice:
        """Rows of the logits that this rank computes."""
        return tensors.own if self.local_loss else slice(None)

    def _positive(self, tensors: Tensors) -> Tensor | None:
        if self.positives == "sample":
            return None
        keys = positive_keys(tensors, self.positives)
        return keys[self._own(tensors), None] == keys[None, :]
