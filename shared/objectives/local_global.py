"""Local-to-global self-distillation (DINO, arXiv:2104.14294) beside another objective, as SILC
(arXiv:2310.13355) and RS-M-CLIP (arXiv:2410.23370) train an image tower beside CLIP's loss."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Literal, cast

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from shared.data.batch import Batch, View
from shared.encoders.base import Encoder
from shared.errors import ConfigError
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import (
    LossOutput,
    Objective,
    Position,
    Request,
    Tensors,
    Term,
    one_modality,
)
from shared.objectives.multi_crop import MultiCrop
from shared.objectives.self_distillation import (
    Centre,
    build_dino_head,
    centred_targets,
    cross_entropies,
)

GLOBAL_CROPS = 2


class LocalGlobal(Objective):
    """An image tower predicts from any crop what its running mean says of the other large crops.

    Unlike `DINOv2` it masks no patches, so any image encoder will do, and keeps the teacher to
    itself: what a run leaves is the student, whose other objective the teacher never saw. All crops
    have the side that the encoder takes, since towers of CLIP have position embeddings of one size.

    Args:
        modalities: Modalities of the model.
        modality: The one that is trained; null where the model has only one.
        local_crops: Small crops an image, beside two large ones.
        global_scale: Smallest and largest share of the image's area of a large crop.
        local_scale: The same of a small one.
        blur: Probability of a blur in the first and second large crop and in the small ones.
        head: Settings of the `DINOHead` on what the encoder pools; its gains stay 1.
        centre_momentum: Weight of the past in the centre.
        student_temperature: Of the student.
        teacher_temperature: Of the teacher.
        teacher_momentum: Weight of the past in the teacher's weights; constant.

    Raises:
        ConfigError: A modality that is not there, or a setting out of range.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        modality: str | None = None,
        local_crops: int = 8,
        global_scale: tuple[float, float] = (0.4, 1.0),
        local_scale: tuple[float, float] = (0.05, 0.4),
        blur: tuple[float, float, float] = (1.0, 0.1, 0.5),
        head: Mapping[str, int] | None = None,
        centre_momentum: float = 0.9,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        teacher_momentum: float = 0.996,
    ) -> None:
        super().__init__(modalities)
        self.modality = one_modality("local_global", modality, self.modalities)
        shares = (centre_momentum, teacher_momentum, *blur)
        scales = (global_scale, local_scale)
        if (
            local_crops < 0
            or min(student_temperature, teacher_temperature) <= 0
            or not all(0 <= share <= 1 for share in shares)
            or not all(0 < low <= high <= 1 for low, high in scales)
        ):
            raise ConfigError(
                "local_global: momenta and blur have to be from 0 to 1, scales 0 < smallest <= "
                "largest <= 1, temperatures above 0 and local_crops at least 0."
            )
        self.local_crops = local_crops
        self.student_temperature, self.teacher_temperature = (
            student_temperature,
            teacher_temperature,
        )
        self._augmentation = (global_scale, local_scale, blur)
        self._head_settings, self._centre_momentum = dict(head or {}), centre_momentum
        self._teacher_momentum = teacher_momentum
        views = ("global", "local") if local_crops else ("global",)
        self.requests = (
            *(self.request(view) for view in views),
            self.request("global", "teacher"),
        )

    def request(self, view: str, tower: Literal["model", "teacher"] = "model") -> Request:
        """What is read of a view."""
        return Request(self.modality, "pooled", view, tower, gather="none")

    def bind(self, model: Model) -> None:
        preprocessor = model.preprocessors[self.modality]
        side = preprocessor.sizes.get("image_size")
        if side is None:
            raise ConfigError(f"local_global: {self.modality} is no image; set its modality.")
        # what is not normalised by channel is left as it is
        mean, std = (preprocessor.settings.get(n, v) for n, v in (("mean", [0.0]), ("std", [1.0])))
        self._crop = MultiCrop(side, side, self.local_crops, *self._augmentation, mean, std)
        encoder = cast(Encoder, model.encoders[self.modality])
        self.head = build_dino_head(encoder.dim, self._head_settings, "local_global: head")
        # unit gain: prototypes whose norm is free can win by being long (DINO, appendix C)
        self.head.last_layer.weight_g.requires_grad_(False)
        prototypes = self.head.last_layer.weight_g.shape[0]
        self.centre = Centre(prototypes, self._centre_momentum)
        # only the tower: a teacher needs no text
        parts = replace(model.config.modalities[self.modality], head=None, token_head=None)
        config = ModelConfig(model.config.name, encoder.dim, {self.modality: parts})
        towers = {self.modality: deepcopy(encoder)}
        self.teacher = Model(config, {}, towers, None, {}).requires_grad_(False).eval()
        self.teacher_head = deepcopy(self.head).requires_grad_(False)

    def train(self, mode: bool = True) -> "LocalGlobal":
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def make_views(self, batch: Batch) -> dict[str, View]:
        seeds = batch.seeds_of(self.modality).tolist()
        crops, local = self._crop(batch.inputs[self.modality]["values"], seeds)
        views = {"global": View({self.modality: {"values": crops}}, copies=GLOBAL_CROPS)}
        if self.local_crops:
            views["local"] = View({self.modality: {"values": local}}, copies=self.local_crops)
        return views

    def forward(self, tensors: Tensors) -> LossOutput:
        names = ("global", "local") if self.local_crops else ("global",)
        student = [self._logits(self.head, tensors, self.request(name)) for name in names]
        return LossOutput({"distillation": self.term(torch.cat(student), self._targets(tensors))})

    def term(self, student: Tensor, targets: Tensor) -> Term:
        """Mean of −Σ_k t_k log softmax(s / temperature)_k over images and over the pairs of a large
        crop of the teacher and another crop of the student (DINO, eq. 3).

        Args:
            student: (crops, images, prototypes) logits, large crops first.
            targets: (large crops, images, prototypes).
        """
        large, images = targets.shape[:2]
        total = student.new_zeros((), dtype=torch.float32)
        for number, logits in enumerate(student):
            others = [target for i, target in enumerate(targets) if i != number]
            for target in others:
                total = total + cross_entropies(logits, target, self.student_temperature).sum()
        return Term(total, total.new_tensor(large * (len(student) - 1) * images))

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """Entropy of the teacher's targets (nat): 0 or the logarithm of the number of prototypes
        show a collapse (DINO, §5.3)."""
        entropy = torch.special.entr(self._targets(tensors)).sum(dim=-1)
        return {"teacher_entropy": Term(entropy.sum(), entropy.new_tensor(entropy.numel()))}

    def after_step(self, model: Model, position: Position) -> None:
        self.centre.update()
        assert self.teacher is not None
        teacher, student = (
            [*tower.encoders[self.modality].parameters(), *head.parameters()]
            for tower, head in ((self.teacher, self.teacher_head), (model, self.head))
        )
        get_ema_multi_avg_fn(self._teacher_momentum)(teacher, student, 0)  # type: ignore[no-untyped-call]

    @torch.no_grad()
    def _targets(self, tensors: Tensors) -> Tensor:
        logits = self._logits(self.teacher_head, tensors, self.request("global", "teacher"))
        if self.training:
            self.centre.remember(logits.flatten(0, 1))
        return centred_targets(logits, self.centre.value, self.teacher_temperature)

    def _logits(self, head: nn.Module, tensors: Tensors, request: Request) -> Tensor:
        """(crops, images that are there, prototypes) of a view."""
        encoded, copies = tensors.encoded[request], tensors.views[request.view].copies
        logits: Tensor = head(encoded.rows[encoded.present])
        return logits.reshape(copies, len(logits) // copies, logits.shape[1])
