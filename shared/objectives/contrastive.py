"""Pairwise softmax contrast between named modalities (InfoNCE; CLIP, arXiv:2103.00020, fig. 3)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

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
from shared.objectives.pairs import (
    Pair,
    Positives,
    check_choice,
    own_rows,
    parse_pairs,
    positive_keys,
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
    ) -> None:
        super().__init__(modalities)
        name = type(self).__name__.lower()
        check_choice(name, "scale", scale, ("shared", "pair"))
        check_choice(name, "clamp", clamp, ("step", "forward"))
        check_choice(name, "directions", directions, ("mean", "sum"))
        check_choice(name, "pair_reduction", pair_reduction, ("mean", "sum"))
        check_choice(name, "positives", positives, ("sample", "group", "label"))
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
        self.local_loss = local_loss
        self.gather: Literal["grad", "no_grad"] = "grad" if gather_with_grad else "no_grad"
        self.requests = tuple(self.request(m) for m in self.contrasted)

    @property
    def contrasted(self) -> tuple[str, ...]:
        """Modalities that are in a pair."""
        return tuple(dict.fromkeys(m for pair in self.weights for m in pair))

    def request(self, modality: str) -> Request:
        """What is read of a modality."""
        return Request(modality, gather=self.gather)

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
        own, positive = self._own(tensors), self._positive(tensors)
        terms = {}
        for search in self.searches(tensors):
            term = directed_term(search.logits, search.a, search.b, own, positive)
            terms[search.name] = replace(term, weight=search.weight)
        return LossOutput(terms)

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """`in_batch_accuracy`: share of samples whose own row has the largest softmax, averaged
        over both directions and all pairs (AstroM3's criterion for model selection)."""
        own, device = self._own(tensors), tensors.labels.device
        total, paired = torch.zeros((), device=device), torch.zeros((), device=device)
        for search in self.searches(tensors):
            both = (search.a.present & search.b.present[own]).float()
            total = total + search.logits.softmax(dim=1) * both[:, None]
            paired = paired + both
        itself = torch.arange(total.shape[1], device=device)[own]
        found = (total.argmax(dim=1) == itself) & (paired > 0)
        return {"in_batch_accuracy": Term(found.sum(), (paired > 0).sum())}

    def after_step(self, model: Model, position: Position) -> None:
        if self.clamp == "step":
            low, high = (math.log(bound) if bound else -math.inf for bound in self.bounds)
            for pair in self.weights:
                model.scalars[self._scale_name(pair)].clamp_(low, high)

    def searches(self, tensors: Tensors) -> Iterator[Search]:
        """Both directions of every pair."""
        for pair, weight in self.weights.items():
            scale = self.used_scale(tensors.scalars, pair)
            for direction in (pair, pair[::-1]):
                rows, b = (tensors.encoded[self.request(m)] for m in direction)
                a = own_rows(rows, self._own(tensors))
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

    def _own(self, tensors: Tensors) -> slice:
        """Rows of the logits that this rank computes."""
        return tensors.own if self.local_loss else slice(None)

    def _positive(self, tensors: Tensors) -> Tensor | None:
        if self.positives == "sample":
            return None
        keys = positive_keys(tensors, self.positives)
        return keys[self._own(tensors), None] == keys[None, :]
