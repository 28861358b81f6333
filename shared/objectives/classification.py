"""Cross-entropy of the classes that the model's classifier gives."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import cross_entropy

from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import LossOutput, Objective, Request, Tensors, Term


class Classification(Objective):
    """The class of a sample from the modalities it has, by the model's classifier.

    The loss is the mean over samples with a known label and at least one modality.

    Args:
        modalities: Modalities of the model.
    """

    def __init__(self, modalities: Sequence[str]) -> None:
        super().__init__(modalities)
        # labels are of this rank's rows only: nothing is compared between samples
        self.request = Request(self.modalities, "logits", gather="none")
        self.requests = (self.request,)

    def bind(self, model: Model) -> None:
        """Raises ConfigError when the model has no classifier."""
        if model.classifier is None:
            raise ConfigError(
                "objective=classification needs a classifier: set model.classifier, such as "
                "model.classifier={features: projected, fusion: mean}."
            )

    def forward(self, tensors: Tensors) -> LossOutput:
        logits, labels, counts = self._read(tensors)
        losses = cross_entropy(logits, labels, reduction="none")
        return LossOutput({"cross_entropy": Term(losses.where(counts, 0.0).sum(), counts.sum())})

    def metrics(self, tensors: Tensors) -> dict[str, Term]:
        """`accuracy`: share of the counted samples whose largest logit is that of their label."""
        logits, labels, counts = self._read(tensors)
        right = (logits.argmax(dim=1) == labels) & counts
        return {"accuracy": Term(right.sum(), counts.sum())}

    def _read(self, tensors: Tensors) -> tuple[Tensor, Tensor, Tensor]:
        """(n, num_classes) float32 logits, (n,) labels from 0, and (n,) bool which rows count."""
        encoded, labels = tensors.encoded[self.request], tensors.labels[tensors.own]
        counts = encoded.present & (labels >= 0)
        return encoded.rows.float(), labels.clamp(min=0), counts
