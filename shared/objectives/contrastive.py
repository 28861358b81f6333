"""Pairwise softmax contrast between named modalities (InfoNCE; CLIP, arXiv:2103.00020, fig. 3)."""

import math
from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.errors import ConfigError, suggest
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

Pair = tuple[str, str]


def pair_logits(a: Encoded, b: Encoded, scale: Tensor) -> Tensor:
    """scale · A Bᵀ in float32.

    Args:
        a: (n, dim) unit-norm rows.
        b: (n, dim) unit-norm rows, row i of the same sample as row i of `a`.
        scale: 0-d multiplier of the cosine.

    Returns:
        (n, n) logits. Rows and columns of absent samples hold the most negative float, so that
        they are no candidates.
    """
    with torch.autocast(a.rows.device.type, enabled=False):
        logits = scale.float() * (a.rows.float() @ b.rows.float().T)
    valid = a.present[:, None] & b.present[None, :]
    return logits.masked_fill(~valid, torch.finfo(torch.float32).min)


def directed_terms(logits: Tensor, a: Encoded, b: Encoded, positive: Tensor | None) -> list[Term]:
    """Cross-entropy of finding a's positives among b's rows, and the reverse.

    With several positives the target is uniform over them: the mean over positives of
    -log softmax (SupCon's L_out, arXiv:2004.11362, eq. 2). A row without the modality, or without
    a present positive, does not count.

    Args:
        logits: (n, n) from `pair_logits`.
        a: Rows of the first axis.
        b: Rows of the second axis.
        positive: (n, n) bool, symmetric; None: only the row itself.

    Returns:
        The terms a→b and b→a.
    """
    both = a.present & b.present
    itself = torch.arange(len(logits), device=logits.device)
    terms = []
    for matrix, rows, columns in ((logits, a.present, b.present), (logits.T, b.present, a.present)):
        if positive is None:
            counts = both
            losses = cross_entropy(matrix, itself, reduction="none")
        else:
            hits = positive & columns[None, :] & rows[:, None]
            number = hits.sum(dim=1)
            counts = number > 0
            found = matrix.log_softmax(dim=1).masked_fill(~hits, 0.0)
            losses = -found.sum(dim=1) / number.clamp(min=1)
        losses = torch.where(counts, losses, 0.0)
        terms.append(Term(losses.sum(), counts.sum()))
    return terms


class Contrastive(Objective):
    """Each pair of modalities is trained to find the other half of a sample in the batch.

    The scales are scalars of the model, stored as logarithms. AstroM3's exact loss (arXiv:
    2411.08842) is `scale=pair initial_scale=100 min_scale=1 clamp=forward directions=sum
    pair_reduction=sum`; CLIP's is the default.

    Args:
        modalities: Modalities of the model.
        pairs: `all`, or a mapping `a-b` → weight.
        scale: One learned scale for all pairs (`shared`) or one a pair (`pair`).
        initial_scale: Multiplier of the cosine at the start; 1 / 0.07 in CLIP (§2.5).
        min_scale: Lower bound.
        max_scale: Upper bound; 100 in CLIP (§2.5).
        clamp: `step` bounds the parameter after each optimiser step (as CLIP does); `forward`
            clamps the used value, whose gradient is then 0 outside the bounds.
        directions: Whether the two directions of a pair are averaged or summed.
        pair_reduction: Whether the pairs are averaged (by weight) or summed.
        positives: What makes another sample a positive: nothing (`sample`), the same `group`, or
            the same `label`.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        pairs: Literal["all"] | Mapping[str, float] = "all",
        scale: Literal["shared", "pair"] = "shared",
        initial_scale: float = 1 / 0.07,
        min_scale: float = 1.0,
        max_scale: float = 100.0,
        clamp: Literal["step", "forward"] = "step",
        directions: Literal["mean", "sum"] = "mean",
        pair_reduction: Literal["mean", "sum"] = "mean",
        positives: Literal["sample", "group", "label"] = "sample",
    ) -> None:
        super().__init__(modalities)
        _check_choice("scale", scale, ("shared", "pair"))
        _check_choice("clamp", clamp, ("step", "forward"))
        _check_choice("directions", directions, ("mean", "sum"))
        _check_choice("pair_reduction", pair_reduction, ("mean", "sum"))
        _check_choice("positives", positives, ("sample", "group", "label"))
        if not 0 < min_scale <= initial_scale <= max_scale:
            raise ConfigError(
                f"contrastive: 0 < min_scale={min_scale:g} <= initial_scale={initial_scale:g} <= "
                f"max_scale={max_scale:g} does not hold."
            )
        weights = _parse_pairs(pairs, self.modalities)
        total = sum(weights.values()) if pair_reduction == "mean" else 1.0
        per_direction = 0.5 if directions == "mean" else 1.0
        self.weights = {pair: per_direction * w / total for pair, w in weights.items()}
        self.scale, self.initial_scale, self.positives = scale, initial_scale, positives
        self.min_scale, self.max_scale, self.clamp = min_scale, max_scale, clamp
        names = dict.fromkeys(m for pair in self.weights for m in pair)
        self.requests = tuple(Request(m) for m in names)

    def model_scalars(self) -> dict[str, float]:
        names = [self._scale_name(pair) for pair in self.weights]
        return dict.fromkeys(names, math.log(self.initial_scale))

    def forward(self, tensors: Tensors) -> LossOutput:
        positive = self._positive(tensors)
        terms = {}
        for pair, weight in self.weights.items():
            a, b = self._encoded(tensors, pair)
            logits = pair_logits(a, b, self.used_scale(tensors.scalars, pair))
            for name, term in zip(
                (f"{pair[0]}->{pair[1]}", f"{pair[1]}->{pair[0]}"),
                directed_terms(logits, a, b, positive),
                strict=True,
            ):
                terms[name] = Term(term.total, term.count, weight)
        return LossOutput(terms)

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """`in_batch_accuracy`: share of samples whose own row has the largest softmax, averaged
        over both directions and all pairs (AstroM3's criterion for model selection)."""
        total = torch.zeros(())
        number = torch.zeros(())
        for pair in self.weights:
            a, b = self._encoded(tensors, pair)
            logits = pair_logits(a, b, self.used_scale(tensors.scalars, pair))
            both = (a.present & b.present)[:, None].float()
            total = total.to(logits.device) + (logits.softmax(1) + logits.T.softmax(1)) * both
            number = number.to(logits.device) + both[:, 0]
        found = total.argmax(dim=1) == torch.arange(len(total), device=total.device)
        return {"in_batch_accuracy": Term((found & (number > 0)).sum(), (number > 0).sum())}

    def after_step(self, model: Model, position: Position) -> None:
        if self.clamp == "step":
            for name in self.model_scalars():
                model.scalars[name].clamp_(math.log(self.min_scale), math.log(self.max_scale))

    def used_scale(self, scalars: Mapping[str, Tensor], pair: Pair) -> Tensor:
        """Multiplier of the cosine for a pair, 0-d."""
        value = scalars[self._scale_name(pair)].float().exp()
        return value.clamp(self.min_scale, self.max_scale) if self.clamp == "forward" else value

    def _scale_name(self, pair: Pair) -> str:
        return "logit_scale" if self.scale == "shared" else f"logit_scale_{pair[0]}_{pair[1]}"

    def _encoded(self, tensors: Tensors, pair: Pair) -> tuple[Encoded, Encoded]:
        return tensors.encoded[Request(pair[0])], tensors.encoded[Request(pair[1])]

    def _positive(self, tensors: Tensors) -> Tensor | None:
        if self.positives == "sample":
            return None
        keys = tensors.groups if self.positives == "group" else tensors.labels
        same = keys[:, None] == keys[None, :]
        known = keys >= 0
        itself = torch.eye(len(keys), dtype=torch.bool, device=keys.device)
        return (same & known[:, None] & known[None, :]) | itself


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise ConfigError(f"contrastive: {name}={value!r}. {suggest(value, choices)}")


def _parse_pairs(
    pairs: Literal["all"] | Mapping[str, float], modalities: Sequence[str]
) -> dict[Pair, float]:
    if isinstance(pairs, str):
        _check_choice("pairs", pairs, ("all",))
        parsed = dict.fromkeys(combinations(modalities, 2), 1.0)
    else:
        parsed = {}
        for text, weight in pairs.items():
            first, second = _parse_pair(text, modalities)
            if (first, second) in parsed or (second, first) in parsed:
                raise ConfigError(f"contrastive: pair {text!r} is given twice.")
            if not (math.isfinite(weight) and weight >= 0):
                raise ConfigError(
                    f"contrastive: the weight of pair {text!r} is {weight:g}; it has to be 0 or "
                    "more."
                )
            if weight > 0:
                parsed[first, second] = float(weight)
    if not parsed:
        raise ConfigError(
            f"contrastive: no pair to train on; the modalities are {', '.join(modalities)}. "
            "Contrast needs two: choose data that give more, or another objective."
        )
    return parsed


def _parse_pair(text: str, modalities: Sequence[str]) -> Pair:
    names = tuple(text.split("-"))
    if len(names) == 2 and names[0] != names[1] and set(names) <= set(modalities):
        return names[0], names[1]
    possible = ", ".join(f"{a}-{b}: 1.0" for a, b in combinations(modalities, 2))
    hint = f" Set those it has: 'objective.contrastive.pairs={{{possible}}}'." if possible else ""
    raise ConfigError(
        f"contrastive: pair {text!r} is not 'a-b' with two of the modalities "
        f"{', '.join(modalities)} that this run trains.{hint}"
    )
