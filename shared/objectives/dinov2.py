"""DINOv2: a student that predicts what its running mean says of other crops and of masked patches
(arXiv:2304.07193, §4)."""

import math
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from random import Random
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from shared.data.batch import Batch, View
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import (
    LossOutput,
    Objective,
    Position,
    Request,
    Tensors,
    Term,
    one_modality,
)
from shared.objectives.block_masks import draw_masks
from shared.objectives.multi_crop import MultiCrop
from shared.objectives.self_distillation import (
    Centre,
    DINOHead,
    build_dino_head,
    centred_targets,
    cross_entropies,
    koleo_losses,
    masked_weights,
    sinkhorn_targets,
)
from shared.schedule import cosine, linear

# what settings have to be, in words and as a test, and their names
_RANGES: dict[str, tuple[Callable[[Any], bool], tuple[str, ...]]] = {
    "at least 1": (lambda number: number >= 1, ("global_size", "local_size")),
    "at least 0": (lambda number: number >= 0, ("local_crops", "temperature_warmup_epochs")),
    "from 0 to 1": (
        lambda share: 0 <= share <= 1,
        ("mask_probability", "centre_momentum", "teacher_momentum", "final_teacher_momentum"),
    ),
    "values from 0 to 1": (lambda shares: all(0 <= share <= 1 for share in shares), ("blur",)),
    "two shares, 0 < smallest <= largest <= 1": (
        lambda scale: 0 < scale[0] <= scale[1] <= 1,
        ("global_scale", "local_scale"),
    ),
    "two shares, 0 <= smallest <= largest <= 1": (
        lambda ratio: 0 <= ratio[0] <= ratio[1] <= 1,
        ("mask_ratio",),
    ),
    "above 0 and finite": (
        lambda number: 0 < number < math.inf,
        ("student_temperature", "teacher_temperature", "warmup_teacher_temperature"),
    ),
    "at least 0 and finite": (
        lambda number: 0 <= number < math.inf,
        ("ibot_weight", "koleo_weight"),
    ),
}


class Distillation(NamedTuple):
    """Logits of the student and targets of the teacher, (rows, prototypes).

    Attributes:
        crops: Student, two large crops, crop by crop.
        local: Student, small crops, crop by crop.
        patches: Student, masked patches.
        crop_targets: Teacher, the same large crops.
        patch_targets: Teacher, the same patches unmasked.
    """

    crops: Tensor
    local: Tensor
    patches: Tensor
    crop_targets: Tensor
    patch_targets: Tensor


class DINOv2(Objective):
    """Self-distillation of one modality, whose encoder has patches and a mask token.

    The defaults are those of the published configuration. Terms: `global` and `local` (DINO's
    cross-entropy between crops), `ibot` (masked patches), `koleo` (spread of the class tokens).

    Args:
        modalities: Modalities of the model.
        modality: The one that is trained; null where the model has only one.
        local_crops: Small crops an image.
        global_size: Side of the two large crops.
        local_size: Side of the small ones.
        global_scale: Smallest and largest share of the image's area of a large crop.
        local_scale: The same of a small one.
        blur: Probability of a blur in the first and second large crop and in the small ones. The
            default is what upstream's code does: it blurs with one minus the probability it names.
        head: Settings of the `DINOHead` on class tokens.
        ibot_head: Settings of the one on masked patches; null: it is the same head.
        targets: How the teacher's outputs are kept apart.
        centre_momentum: Weight of the past in the centre.
        student_temperature: Of the student.
        teacher_temperature: Of the teacher after its warm-up.
        warmup_teacher_temperature: At the start.
        temperature_warmup_epochs: Length of the linear warm-up.
        teacher_momentum: Weight of the past in the teacher's weights at the start.
        final_teacher_momentum: At the end, reached by half a cosine.
        mask_probability: Share of the large crops that are masked.
        mask_ratio: Smallest and largest share of their patches.
        ibot_weight: Of the term of masked patches.
        koleo_weight: Of KoLeo, a large crop.
        koleo_neighbours: Among the rows of `all` ranks, or of this `rank` as upstream's code does.

    Raises:
        ConfigError: A modality that is not there, or a setting out of range.
    """

    publishes_teacher = True

    def __init__(
        self,
        modalities: Sequence[str],
        modality: str | None = None,
        local_crops: int = 8,
        global_size: int = 224,
        local_size: int = 96,
        global_scale: tuple[float, float] = (0.32, 1.0),
        local_scale: tuple[float, float] = (0.05, 0.32),
        blur: tuple[float, float, float] = (0.0, 0.9, 0.5),
        head: Mapping[str, int] | None = None,
        ibot_head: Mapping[str, int] | None = None,
        targets: Literal["centering", "sinkhorn"] = "centering",
        centre_momentum: float = 0.9,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.07,
        warmup_teacher_temperature: float = 0.04,
        temperature_warmup_epochs: int = 30,
        teacher_momentum: float = 0.992,
        final_teacher_momentum: float = 1.0,
        mask_probability: float = 0.5,
        mask_ratio: tuple[float, float] = (0.1, 0.5),
        ibot_weight: float = 1.0,
        koleo_weight: float = 0.1,
        koleo_neighbours: Literal["all", "rank"] = "all",
    ) -> None:
        _check_ranges(locals())
        super().__init__(modalities)
        self.modality = one_modality("dinov2", modality, self.modalities)
        self.local_crops = local_crops
        self._sizes, self._scales, self._blur = (
            (global_size, local_size),
            (global_scale, local_scale),
            blur,
        )
        self._head_settings, self._ibot_settings = head or {}, ibot_head
        self.targets, self._centre_momentum = targets, centre_momentum
        self.student_temperature = student_temperature
        self._temperatures = (warmup_teacher_temperature, teacher_temperature)
        self._temperature_epochs = temperature_warmup_epochs
        self._momenta = (teacher_momentum, final_teacher_momentum)
        self._mask_probability, self._mask_ratio = mask_probability, mask_ratio
        self._ibot_weight, self._koleo_weight = ibot_weight, koleo_weight
        self._koleo_across_ranks = koleo_neighbours == "all"
        student = [("pooled", "global"), ("tokens", "global")]
        student += [("pooled", "local")] if local_crops else []
        self.requests = tuple(
            Request(self.modality, cast(Any, output), view, gather="none")
            for output, view in student
        ) + tuple(
            Request(self.modality, cast(Any, output), "teacher", "teacher", gather="none")
            for output in ("pooled", "tokens")
        )

    def bind(self, model: Model) -> None:
        encoder = cast(Any, model.encoders[self.modality])
        if getattr(encoder, "mask_token", None) is None:
            raise ConfigError(
                f"dinov2: the encoder of {self.modality} has no mask token. Take one with patches, "
                "such as vit, and set mask_token=true."
            )
        if any(size % encoder.patch_size for size in self._sizes):
            raise ConfigError(
                f"dinov2: global_size={self._sizes[0]} and local_size={self._sizes[1]} must be "
                f"multiples of the encoder's patch_size={encoder.patch_size}."
            )
        self._grid = [self._sizes[0] // encoder.patch_size] * 2
        # what is not normalised by channel is left as it is
        settings = model.preprocessors[self.modality].settings
        mean, std = settings.get("mean", [0.0]), settings.get("std", [1.0])
        self._crop = MultiCrop(*self._sizes, self.local_crops, *self._scales, self._blur, mean, std)
        self.dino_head = build_dino_head(encoder.dim, self._head_settings, "dinov2: head")
        self.ibot_head: DINOHead | None = None
        if self._ibot_settings is not None:
            self.ibot_head = build_dino_head(encoder.dim, self._ibot_settings, "dinov2: ibot_head")
        self.dino_centre, self.ibot_centre = (
            Centre(head.last_layer.weight_g.shape[0], self._centre_momentum)
            for head in (self.dino_head, self.ibot_head or self.dino_head)
        )
        self.teacher = deepcopy(model).requires_grad_(False).eval()
        # these are fitted later, once for both
        self.teacher.preprocessors = model.preprocessors
        self.teacher_dino_head = deepcopy(self.dino_head).requires_grad_(False)
        self.teacher_ibot_head = deepcopy(self.ibot_head)
        if self.teacher_ibot_head is not None:
            self.teacher_ibot_head.requires_grad_(False)

    def train(self, mode: bool = True) -> "DINOv2":
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def make_views(self, batch: Batch) -> dict[str, View]:
        seeds = batch.seeds_of(self.modality).tolist()
        crops, local = self._crop(batch.inputs[self.modality]["values"], seeds)
        # how many images of a batch are masked is fixed: a draw for the whole batch
        rng = Random(int(torch.randint(2**62, ())))
        masks = draw_masks(rng, len(crops), self._grid, self._mask_probability, self._mask_ratio)
        return self.views(crops, local, masks)

    def views(self, crops: Tensor, local: Tensor, masks: Tensor) -> dict[str, View]:
        """The views of given crops and masks.

        Args:
            crops: (2 · rows, C, H, W), crop by crop.
            local: (local_crops · rows, C, h, w), crop by crop.
            masks: (2 · rows, patches) bool, True where the student sees the mask token.
        """
        # before they are moved, so that no device has to be waited for
        where = {"masked": masks.flatten().nonzero()[:, 0], "weights": masked_weights(masks)}
        targets = {name: tensor.to(crops.device) for name, tensor in where.items()}
        masked = {"values": crops, "token_mask": masks.to(crops.device)}
        views = {
            "global": View({self.modality: masked}, targets=targets, copies=2),
            "teacher": View({self.modality: {"values": crops}}, copies=2),
        }
        if self.local_crops:
            views["local"] = View({self.modality: {"values": local}}, copies=self.local_crops)
        return views

    def forward(self, tensors: Tensors) -> LossOutput:
        found = self._distil(tensors)
        crops = self._rows(tensors, "pooled", "global")
        weights = tensors.views["global"].targets["weights"]
        terms = self.crop_terms(found.crops, found.local, found.crop_targets)
        terms["ibot"] = self.patch_term(found.patches, found.patch_targets, weights, len(crops))
        terms["koleo"] = self.koleo_term(crops)
        return LossOutput(terms)

    def crop_terms(self, crops: Tensor, local: Tensor, targets: Tensor) -> dict[str, Term]:
        """Every student crop against the teacher's large crops, but none against itself.

        Args:
            crops: (2 · images, prototypes) logits of the large crops, crop by crop.
            local: (local_crops · images, prototypes) of the small ones.
            targets: (2 · images, prototypes) of the large crops.
        """
        images = len(targets) // 2
        number = targets.new_tensor(images)
        # upstream counts one pair where there is no small crop
        pairs = 2 + max(2 * self.local_crops, 1)
        other = targets.roll(images, dims=0)
        losses = cross_entropies(crops, other, self.student_temperature)
        terms = {"global": Term(losses.sum(), 2 * number, 2 / pairs)}
        if self.local_crops:
            both = targets[:images] + targets[images:]
            logits = local.reshape(self.local_crops, images, local.shape[1])
            losses = cross_entropies(logits, both, self.student_temperature)
            terms["local"] = Term(losses.sum(), number, 1 / pairs)
        return terms

    def patch_term(self, patches: Tensor, targets: Tensor, weights: Tensor, images: int) -> Term:
        """Masked patches: each image's mean, averaged over all images, masked or not.

        Args:
            patches: (masked, prototypes) logits of the student.
            targets: (masked, prototypes).
            weights: (masked,) of `masked_weights`.
            images: Number of large crops.
        """
        losses = cross_entropies(patches, targets, self.student_temperature)
        return Term((weights * losses).sum(), weights.new_tensor(images), self._ibot_weight)

    def koleo_term(self, crops: Tensor) -> Term:
        """Spread of each of the two large crops by itself.

        Args:
            crops: (2 · images, dim) class tokens before the head, crop by crop.
        """
        views = crops.reshape(2, len(crops) // 2, crops.shape[1])
        losses = torch.stack([koleo_losses(view, self._koleo_across_ranks) for view in views])
        return Term(losses.sum(), losses.new_tensor(losses.shape[1]), self._koleo_weight)

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """Entropy of the teacher's targets and the student's divergence from them (nat): both show
        a collapse, whose divergence is 0 (DINO, arXiv:2104.14294, §5.3)."""
        found = self._distil(tensors)
        # each crop beside the other one of its image
        targets = found.crop_targets.roll(len(found.crops) // 2, dims=0)
        entropy = torch.special.entr(targets).sum(dim=-1)
        between = cross_entropies(found.crops, targets, self.student_temperature)
        count = entropy.new_tensor(len(entropy))
        return {
            "teacher_entropy": Term(entropy.sum(), count),
            "divergence": Term((between - entropy).sum(), count),
        }

    def after_step(self, model: Model, position: Position) -> None:
        self.dino_centre.update()
        self.ibot_centre.update()
        assert self.teacher is not None
        momentum = self.momentum_at(position)
        student = _parameters(model, self.dino_head, self.ibot_head)
        teacher = _parameters(self.teacher, self.teacher_dino_head, self.teacher_ibot_head)
        get_ema_multi_avg_fn(momentum)(teacher, student, 0)  # type: ignore[no-untyped-call]

    def momentum_at(self, position: Position) -> float:
        """Weight of the past in the teacher's weights."""
        return cosine(position.step, position.total_steps, *self._momenta)

    def temperature_at(self, position: Position) -> float:
        """Temperature of the teacher."""
        warmup = self._temperature_epochs * position.steps_per_epoch
        return linear(position.step, warmup, *self._temperatures)

    def _distil(self, tensors: Tensors) -> Distillation:
        masked = tensors.views["global"].targets["masked"]
        crops = self._rows(tensors, "pooled", "global")
        local = self._rows(tensors, "pooled", "local") if self.local_crops else crops[:0]
        patches = self._rows(tensors, "tokens", "global").flatten(0, 1).index_select(0, masked)
        student = _logits(self.dino_head, self.ibot_head, [crops, local], patches)
        with torch.no_grad():
            crops = self._rows(tensors, "pooled", "teacher")
            patches = self._rows(tensors, "tokens", "teacher").flatten(0, 1).index_select(0, masked)
            teacher = _logits(self.teacher_dino_head, self.teacher_ibot_head, [crops], patches)
            temperature = self.temperature_at(tensors.position)
            centres = (self.dino_centre, self.ibot_centre)
            targets = [
                self._targets(logits, centre, temperature)
                for logits, centre in zip(teacher, centres, strict=True)
            ]
        return Distillation(*student, *targets)

    def _targets(self, logits: Tensor, centre: Centre, temperature: float) -> Tensor:
        if self.targets == "sinkhorn":
            return sinkhorn_targets(logits, temperature)
        if self.training:
            centre.remember(logits)
        return centred_targets(logits, centre.value, temperature)

    def _rows(self, tensors: Tensors, output: str, view: str) -> Tensor:
        """Rows that stand for data, crop by crop."""
        tower: Literal["teacher", "model"] = "teacher" if view == "teacher" else "model"
        request = Request(self.modality, cast(Any, output), view, tower, gather="none")
        encoded = tensors.encoded[request]
        present = len(tensors.views[view].inputs[self.modality]["values"])
        return encoded.rows if present == len(encoded.rows) else encoded.rows[encoded.present]


def _check_ranges(settings: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first setting that cannot be."""
    for words, (good, names) in _RANGES.items():
        for name in names:
            if not good(settings[name]):
                raise ConfigError(f"dinov2: {name}={settings[name]} has to be {words}.")


def _logits(
    dino_head: nn.Module, ibot_head: nn.Module | None, classes: Sequence[Tensor], patches: Tensor
) -> list[Tensor]:
    """Logits of each tensor of class tokens and of the patches, a head being run once."""
    sizes = [len(tokens) for tokens in classes]
    if ibot_head is None:
        joint: Tensor = dino_head(torch.cat([*classes, patches]))
        return list(torch.split(joint, [*sizes, len(patches)]))
    return [*torch.split(dino_head(torch.cat(list(classes))), sizes), ibot_head(patches)]


def _parameters(*modules: nn.Module | None) -> list[nn.Parameter]:
    return [p for module in modules if module is not None for p in module.parameters()]
