"""Masked modelling of token ids, of each modality alone and of all fused, beside contrast (ProtST,
arXiv:2301.12040)."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from shared.data.batch import Batch, View
from shared.encoders.base import Encoder, Fusion
from shared.encoders.heads import MLPHead
from shared.errors import ConfigError, DataError
from shared.model import Model
from shared.objectives.base import LossOutput, Objective, Position, Request, Tensors, Term
from shared.objectives.contrastive import Contrastive
from shared.random import uniform
from shared.settings import check_fields, check_settings

VIEW = "masked"


@dataclass(frozen=True)
class Masking:
    """How the ids of one modality are masked and predicted.

    Attributes:
        vocab_size: Number of ids to choose from.
        mask_id: What stands in the place of a masked id; it may lie outside the vocabulary.
        rate: Share of the ids that are masked.
        choice: `each` id by itself with probability `rate`, or a `number` of places that follows
            from the length, at least one, drawn with replacement: a place that is drawn twice
            counts twice.
        special_ids: Ids that are never masked.
        weight: Of the prediction from the modality's own projected tokens; 0: there is none.
        fused_weight: Of the prediction from the fused tokens; 0: there is none.
    """

    vocab_size: int
    mask_id: int
    rate: float = 0.15
    choice: Literal["each", "number"] = "each"
    special_ids: Sequence[int] = field(default_factory=tuple)
    weight: float = 1.0
    fused_weight: float = 1.0


def draw_each(draws: Tensor, maskable: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """Places whose draw is below the rate.

    Args:
        draws: (rows, length) uniform in [0, 1).
        maskable: (rows, length) bool.
        rate: Probability of a place.

    Returns:
        Places (rows, length) int64, and (rows, length) bool, which of them are drawn.
    """
    places = torch.arange(draws.shape[1], device=draws.device).expand(draws.shape)
    return places, (draws < rate) & maskable


def draw_number(draws: Tensor, maskable: Tensor, rate: float) -> tuple[Tensor, Tensor]:
    """max(1, ⌊rate · n⌋) of the n maskable places of a row, with replacement; none where n = 0.

    Args:
        draws: (rows, length) uniform in [0, 1); the first of a row are used, one a place.
        maskable: (rows, length) bool.
        rate: Number of places over n.

    Returns:
        Places (rows, most) int64, and (rows, most) bool, which of them are drawn.
    """
    # exact, as products of floats are not, and on every device
    share = Fraction(str(rate))
    lengths = maskable.sum(dim=1, keepdim=True)
    numbers = (lengths * share.numerator // share.denominator).clamp(min=1).minimum(lengths)
    most = max(1, draws.shape[1] * share.numerator // share.denominator)
    picks = (draws[:, :most] * lengths).long().minimum(lengths - 1).clamp(min=0)
    # the maskable places come first, in order
    order = (~maskable).byte().argsort(dim=1, stable=True)
    return order.gather(1, picks), torch.arange(most, device=draws.device) < numbers


class Prediction(NamedTuple):
    """Logits (n, vocab_size) in float32, their targets (n,) and the weight of the term."""

    logits: Tensor
    targets: Tensor
    weight: float


class MaskedFusion(Objective):
    """Masks the ids of every modality, aligns the modalities by contrast of what is masked, and
    predicts what was there.

    Modalities have the inputs `input_ids` and `attention_mask`, and encoders that give one token
    an id. ProtST's loss has `contrast={directions: sum, min_scale: null, max_scale: null}`, masks a
    `number` of residues, and gives the text `weight: 0`. Terms are those of the contrast,
    `<modality>` for predictions from its projected tokens and `<modality>_fused` for those from the
    fusion, where
    samples that have every modality count.

    Args:
        modalities: Modalities of the model.
        masking: By modality, the settings of `Masking`.
        contrast: Settings of `Contrastive`; null: its defaults.

    Raises:
        ConfigError: A modality without masking, or a setting that is not there or out of range.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        masking: Mapping[str, Mapping[str, Any]],
        contrast: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(modalities)
        if set(masking) != set(modalities):
            raise ConfigError(
                f"masked_fusion: masking is given for {', '.join(masking)}, and the modalities are "
                f"{', '.join(modalities)}. Give it for each."
            )
        self.masking = {m: _read_masking(masking[m], m) for m in self.modalities}
        check_settings(
            Contrastive, (modalities,), contrast or {}, "objective.masked_fusion.contrast"
        )
        self.contrast = MaskedContrastive(modalities, **(contrast or {}))
        self.alone = tuple(m for m, masking in self.masking.items() if masking.weight)
        self.fused = tuple(m for m, masking in self.masking.items() if masking.fused_weight)
        self._joint = Request(self.modalities, "tokens", VIEW, gather="none")
        self.requests = (*self.contrast.requests, *map(self._tokens, self.alone))
        if self.fused:
            self.requests += (self._joint,)

    def model_scalars(self) -> dict[str, float]:
        return self.contrast.model_scalars()

    def bind(self, model: Model) -> None:
        own = {m: cast(Encoder, model.encoders[m]).token_dim for m in self.alone}
        projected = {m: model.config.embed_dim for m in self.alone if m in model.token_heads}
        self.heads = self._make_heads(own | projected)
        if self.fused and model.fusion is None:
            raise ConfigError("masked_fusion: set model.fusion, or every fused_weight to 0.")
        self.fused_heads = self._make_heads({m: cast(Fusion, model.fusion).dim for m in self.fused})

    def _make_heads(self, widths: Mapping[str, int]) -> nn.ModuleDict:
        sizes = {m: self.masking[m].vocab_size for m in widths}
        return nn.ModuleDict({m: MLPHead(width, sizes[m]) for m, width in widths.items()})

    def make_views(self, batch: Batch) -> dict[str, View]:
        ids = {m: batch.inputs[m]["input_ids"] for m in self.modalities}
        draws = {m: uniform(batch.seeds_of(m), tensor.shape[1]) for m, tensor in ids.items()}
        return {VIEW: self.view(batch, draws)}

    def view(self, batch: Batch, draws: Mapping[str, Tensor]) -> View:
        """The batch masked by given draws.

        Args:
            batch: Samples.
            draws: By modality, (present rows, length) uniform in [0, 1).

        Returns:
            The inputs with masked ids, and as targets, by `<modality>_places`, `_drawn` and `_ids`,
            what `draw_each` or `draw_number` gave and the ids that were there, (batch, n); and
            `whole` (batch,) bool, which samples have every modality.

        Raises:
            DataError: An id that could be masked lies outside the vocabulary; on the CPU only, as
                other devices would have to be waited for.
        """
        view = View(targets={"whole": torch.stack(list(batch.present.values())).all(dim=0)})
        for modality, masking in self.masking.items():
            inputs, present = batch.inputs[modality], batch.present[modality]
            ids = inputs["input_ids"]
            special = torch.isin(ids, ids.new_tensor(list(masking.special_ids)))
            maskable = inputs["attention_mask"].bool() & ~special
            if ids.device.type == "cpu":
                _check_ids(ids[maskable], masking, modality)
            draw = draw_each if masking.choice == "each" else draw_number
            places, drawn = draw(draws[modality], maskable, masking.rate)
            times = torch.zeros_like(ids).scatter_add(1, places, drawn.long())
            masked = ids.masked_fill(times > 0, masking.mask_id)
            view.inputs[modality] = {**inputs, "input_ids": masked}
            found = {"places": places, "drawn": drawn, "ids": ids.gather(1, places)}
            for name, rows in found.items():
                target = rows.new_zeros(len(batch), rows.shape[1])
                target[present] = rows
                view.targets[f"{modality}_{name}"] = target
        return view

    def forward(self, tensors: Tensors) -> LossOutput:
        terms = dict(self.contrast(tensors).terms)
        for name, (logits, targets, weight) in self._predictions(tensors):
            total = cross_entropy(logits, targets, reduction="sum")
            terms[name] = Term(total, total.new_tensor(len(targets)), weight)
        return LossOutput(terms)

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """Those of the contrast, and `<term>_accuracy`: share of the masked ids that are found."""
        found = self.contrast.metrics(tensors)
        for name, (logits, targets, _) in self._predictions(tensors):
            right = (logits.argmax(dim=1) == targets).sum()
            found[f"{name}_accuracy"] = Term(right, right.new_tensor(len(targets)))
        return found

    def after_step(self, model: Model, position: Position) -> None:
        self.contrast.after_step(model, position)

    def _predictions(self, tensors: Tensors) -> Iterator[tuple[str, Prediction]]:
        view = tensors.views[VIEW]
        lengths = {m: view.inputs[m]["input_ids"].shape[1] for m in self.modalities}
        for modality in self.alone:
            tokens = tensors.encoded[self._tokens(modality)].rows
            _check_length(tokens, lengths[modality], modality)
            drawn = view.targets[f"{modality}_drawn"]
            head, weight = self.heads[modality], self.masking[modality].weight
            yield modality, _predict(view, modality, tokens, drawn, head, weight)
        if not self.fused:
            return
        joint = tensors.encoded[self._joint].rows
        _check_length(joint, sum(lengths.values()), "the fusion")
        parts = torch.split(joint, list(lengths.values()), dim=1)
        for modality, tokens in zip(self.modalities, parts, strict=True):
            if modality in self.fused:
                drawn = view.targets[f"{modality}_drawn"] & view.targets["whole"][:, None]
                head, weight = self.fused_heads[modality], self.masking[modality].fused_weight
                prediction = _predict(view, modality, tokens, drawn, head, weight)
                yield f"{modality}_fused", prediction

    def _tokens(self, modality: str) -> Request:
        return Request(modality, "projected_tokens", VIEW, gather="none")


class MaskedContrastive(Contrastive):
    """Contrast of the masked samples."""

    def request(self, modality: str) -> Request:
        return replace(super().request(modality), view=VIEW)


def _read_masking(node: Mapping[str, Any], modality: str) -> Masking:
    where = f"objective.masked_fusion.masking.{modality}"
    check_fields(Masking, node, where)
    masking = Masking(**node)
    for name, good, words in (
        ("vocab_size", masking.vocab_size >= 1, "at least 1"),
        ("mask_id", masking.mask_id >= 0, "at least 0"),
        ("rate", 0 < masking.rate <= 1, "above 0 and at most 1"),
        ("weight", 0 <= masking.weight < math.inf, "at least 0 and finite"),
        ("fused_weight", 0 <= masking.fused_weight < math.inf, "at least 0 and finite"),
    ):
        if not good:
            raise ConfigError(f"{where}: {name}={getattr(masking, name)} has to be {words}.")
    return masking


def _check_ids(ids: Tensor, masking: Masking, modality: str) -> None:
    """Raise DataError for an id that is to be predicted and is none of the vocabulary."""
    wrong = ids[ids >= masking.vocab_size]
    if len(wrong) and (masking.weight or masking.fused_weight):
        raise DataError(
            f"masked_fusion: {modality} has the id {int(wrong[0])}, and vocab_size="
            f"{masking.vocab_size}. Give a larger vocab_size, or name the id in special_ids."
        )


def _check_length(tokens: Tensor, length: int, where: str) -> None:
    """Raise ConfigError unless there is a token for every id."""
    if tokens.shape[1] != length:
        raise ConfigError(
            f"masked_fusion: {where} gives {tokens.shape[1]} tokens for {length} ids. Take "
            "encoders with one token an id."
        )


def _predict(
    view: View, modality: str, tokens: Tensor, drawn: Tensor, head: nn.Module, weight: float
) -> Prediction:
    """What a head says of the drawn places.

    Args:
        view: With the targets of the modality.
        modality: Its name.
        tokens: (batch, length, dim).
        drawn: (batch, n) bool.
        head: (…, dim) → (…, vocab_size).
        weight: Of the term.
    """
    rows, columns = drawn.nonzero(as_tuple=True)
    places = view.targets[f"{modality}_places"][rows, columns]
    logits = head(tokens[rows, places]).float()
    return Prediction(logits, view.targets[f"{modality}_ids"][rows, columns], weight)
