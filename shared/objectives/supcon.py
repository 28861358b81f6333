"""Supervised contrast (SupCon, arXiv:2004.11362, eq. 2) of samples seen through all modalities."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from shared.errors import ConfigError
from shared.objectives.base import LossOutput, Objective, Request, Tensors, Term
from shared.objectives.pairs import Positives, positive_keys


class AnchorLosses(NamedTuple):
    """What each anchor adds to the loss, which is the mean over anchors of total / positives.

    An anchor without positives has no loss: 0 / 0.

    Attributes:
        total: (anchors,) sum over its positives of -log softmax.
        positives: (anchors,) how many it has.
    """

    total: Tensor
    positives: Tensor


def supervised_contrastive(
    features: Tensor,
    positive: Tensor,
    present: Tensor | None = None,
    anchors: Literal["all", "one"] = "all",
    temperature: float = 0.07,
    base_temperature: float = 0.07,
) -> AnchorLosses:
    """Every anchor against all views of all samples but itself, in float32.

    Args:
        features: (batch, views, dim), of unit norm where similarity means cosine.
        positive: (batch, batch) bool, whether the second sample is a positive of the first; on the
            diagonal, whether the other views of a sample are.
        present: (batch, views) bool, which features stand for data; None: all.
        anchors: All views of the samples, or only the first.
        temperature: Divides the similarities.
        base_temperature: The loss is multiplied by temperature / base_temperature.

    Returns:
        Anchors in the order of views, each with all samples.
    """
    batch, views = features.shape[:2]
    number = batch if anchors == "one" else views * batch
    with torch.autocast(features.device.type, enabled=False):
        rows = features.float().transpose(0, 1).flatten(0, 1)
        logits = rows[:number] @ rows.T / temperature
    others = ~torch.eye(views * batch, dtype=torch.bool, device=rows.device)[:number]
    positive = positive.repeat(number // batch if batch else 1, views) & others
    if present is not None:
        there = present.T.flatten()
        others = others & there
        positive = positive & there & there[:number, None]
    lowest = torch.finfo(logits.dtype).min
    log_sum = logits.masked_fill(~others, lowest).logsumexp(dim=1, keepdim=True)
    total = ((log_sum - logits) * positive).sum(dim=1) * (temperature / base_temperature)
    return AnchorLosses(total, positive.sum(dim=1))


class SupCon(Objective):
    """Samples of one label or group are drawn together, in every modality and between them.

    The views of a sample are its modalities. Anchors without a positive do not count.

    Args:
        modalities: Modalities of the model.
        anchors: Rows of `all` modalities, or only of the first (`one`).
        temperature: Divides the cosines.
        base_temperature: The loss is multiplied by temperature / base_temperature.
        positives: What makes another sample a positive: the same `label` or `group`, or nothing
            (`sample`). The other modalities of a sample always are.

    Raises:
        ConfigError: A temperature that is not above 0.
    """

    def __init__(
        self,
        modalities: Sequence[str],
        anchors: Literal["all", "one"] = "all",
        temperature: float = 0.07,
        base_temperature: float = 0.07,
        positives: Positives = "label",
    ) -> None:
        super().__init__(modalities)
        if temperature <= 0 or base_temperature <= 0:
            raise ConfigError(
                f"supcon: temperature={temperature:g} and base_temperature={base_temperature:g} "
                "have to be above 0."
            )
        self.requests = tuple(Request(m) for m in self.modalities)
        self.anchors, self.positives = anchors, positives
        self.temperature, self.base_temperature = temperature, base_temperature

    def forward(self, tensors: Tensors) -> LossOutput:
        encoded = [tensors.encoded[request] for request in self.requests]
        keys = positive_keys(tensors, self.positives)
        losses = supervised_contrastive(
            torch.stack([e.rows for e in encoded], dim=1),
            keys[:, None] == keys,
            torch.stack([e.present for e in encoded], dim=1),
            self.anchors,
            self.temperature,
            self.base_temperature,
        )
        means = losses.total / losses.positives.clamp(min=1)
        return LossOutput({"supcon": Term(means.sum(), (losses.positives > 0).sum())})
