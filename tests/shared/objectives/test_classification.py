"""The classification objective: closed forms, unknown labels, samples that lack a modality."""

import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from shared.data.batch import Batch
from shared.encoders.base import Embedding, Encoder
from shared.errors import ConfigError
from shared.model import Model
from shared.model_config import ClassifierConfig, ModalityConfig, ModelConfig
from shared.objectives.base import Encoded, Tensors
from shared.objectives.classification import Classification
from shared.training.runner import Runner

NAMES = ("a", "b")
CLASSES = 4


def tensors_of(logits: Tensor, labels: Tensor, own: slice = slice(None)) -> Tensors:
    present = torch.ones(len(logits), dtype=torch.bool)
    request = Classification(NAMES).request
    return Tensors({request: Encoded(logits, present)}, {}, labels, labels, own)


def test_equal_logits_cost_the_logarithm_of_the_classes() -> None:
    output = Classification(NAMES)(tensors_of(torch.zeros(5, CLASSES), torch.arange(5) % CLASSES))
    assert float(output.loss) == pytest.approx(math.log(CLASSES))


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[1.0, 2.0, 0.5], [0.0, -1.0, 3.0]])
    tensors = tensors_of(logits, torch.tensor([0, 2]))
    rows = [
        math.log(math.exp(1) + math.exp(2) + math.exp(0.5)) - 1,
        math.log(1 + math.exp(-1) + math.exp(3)) - 3,
    ]
    objective = Classification(NAMES)
    assert float(objective(tensors).loss) == pytest.approx(sum(rows) / 2)
    assert float(objective.metrics(tensors)["accuracy"].mean) == 0.5


def test_unknown_labels_do_not_count() -> None:
    torch.manual_seed(0)
    logits, labels = torch.randn(6, CLASSES), torch.tensor([0, -1, 2, -1, 3, 1])
    known = labels >= 0
    objective = Classification(NAMES)
    some = tensors_of(logits[known], labels[known])
    every = tensors_of(logits.requires_grad_(), labels)
    torch.testing.assert_close(objective(every).loss, objective(some).loss)
    for tensors in (every, some):
        assert int(objective.metrics(tensors)["accuracy"].count) == 4
    objective(every).loss.backward()
    assert logits.grad is not None
    assert (logits.grad[~known] == 0).all()
    assert (logits.grad[known] != 0).any(dim=1).all()


def test_nothing_is_known() -> None:
    logits = torch.randn(3, CLASSES, requires_grad=True)
    output = Classification(NAMES)(tensors_of(logits, torch.full((3,), -1)))
    output.loss.backward()
    assert output.loss.item() == 0
    assert logits.grad is not None
    assert (logits.grad == 0).all()


def test_labels_of_other_ranks_are_left_out() -> None:
    logits = torch.eye(CLASSES)[:2] * 50
    gathered = torch.tensor([3, 3, 0, 1])
    assert float(Classification(NAMES)(tensors_of(logits, gathered, slice(2, 4))).loss) < 1e-6


class Rows(Encoder):
    """Its input."""

    dim = 3

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        return Embedding(inputs["values"])


def make_model(classifier: ClassifierConfig | None) -> Model:
    torch.manual_seed(0)
    parts = {m: ModalityConfig({}, {}, head=None) for m in NAMES}
    config = ModelConfig("rows", 3, parts, classifier=classifier)
    return Model(config, {}, {m: Rows() for m in NAMES}, None, {})


@pytest.mark.parametrize("features", ["projected", "pooled"])
def test_mean_over_the_modalities_that_a_sample_has(features: str) -> None:
    model = make_model(ClassifierConfig(CLASSES, features, "mean"))  # type: ignore[arg-type]
    first, second = torch.randn(3, 3), torch.randn(2, 3)
    # the first sample has both, two have one, the last has none
    present = {
        "a": torch.tensor([True, True, False, True, False]),
        "b": torch.tensor([True, False, True, False, False]),
    }
    labels = torch.tensor([2, 0, 1, -1, 3])
    numbers = torch.arange(5)
    inputs = {"a": {"values": first}, "b": {"values": second}}
    runner = Runner(model, {"classification": Classification(NAMES)}, {"classification": 1.0})
    output = runner(Batch(inputs, present, labels, numbers, numbers, numbers), with_metrics=True)

    if features == "projected":
        first, second = normalize(first, dim=-1), normalize(second, dim=-1)
    joined = torch.stack([(first[0] + second[0]) / 2, first[1], second[1]])
    assert model.classifier is not None
    logits = joined @ model.classifier.weight.T + model.classifier.bias
    expected = torch.nn.functional.cross_entropy(logits, labels[:3])
    torch.testing.assert_close(output.loss, expected)
    assert int(output.metrics["classification/accuracy"].count) == 3


def test_a_model_without_classifier() -> None:
    with pytest.raises(ConfigError, match=r"needs a classifier: set model\.classifier"):
        Runner(make_model(None), {"classification": Classification(NAMES)}, {"classification": 1.0})
