"""The sigmoid loss: closed forms, a brute-force reference, chunks and parts, invariances."""

import math
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import normalize

from shared.errors import ConfigError
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Encoded, Position, Tensors
from shared.objectives.sigmoid import Sigmoid, sigmoid_losses

NAMES = ("a", "b")
REQUESTS = Sigmoid(NAMES).requests


def make(seed: int = 0, batch: int = 7, share: float = 1.0) -> Tensors:
    generator = torch.Generator().manual_seed(seed)
    encoded = {}
    for request in REQUESTS:
        present = torch.rand(batch, generator=generator) < share
        rows = normalize(torch.randn(batch, 5, generator=generator), dim=-1)
        encoded[request] = Encoded((rows * present[:, None]).requires_grad_(), present)
    scalars = {
        "logit_scale": torch.tensor(math.log(10.0), requires_grad=True),
        "logit_bias": torch.tensor(-10.0, requires_grad=True),
    }
    labels = torch.randint(-1, 3, (batch,), generator=generator)
    return Tensors(encoded, scalars, labels, torch.randint(0, 3, (batch,), generator=generator))


def leaves(tensors: Tensors) -> list[Tensor]:
    return [*(e.rows for e in tensors.encoded.values()), *tensors.scalars.values()]


def brute_force(tensors: Tensors, key: Tensor | None) -> Tensor:
    """The definition, pair by pair in float64."""
    a, b = tensors.encoded.values()
    scale, bias = (tensors.scalars[n].double() for n in ("logit_scale", "logit_bias"))
    total, paired = torch.zeros((), dtype=torch.float64), 0
    for i in range(len(a.rows)):
        paired += int(a.present[i] and b.present[i])
        for j in range(len(b.rows)):
            if a.present[i] and b.present[j]:
                same = i == j or (key is not None and key[i] >= 0 and key[i] == key[j])
                logit = scale.exp() * (a.rows[i].double() @ b.rows[j].double()) + bias
                total = total + (1 + (-logit if same else logit).exp()).log()
    return total / paired


@pytest.mark.parametrize("positives", ["sample", "group", "label"])
@pytest.mark.parametrize("share", [1.0, 0.7])
@pytest.mark.parametrize("chunk_rows", [None, 2])
def test_equals_the_definition(positives: str, share: float, chunk_rows: int | None) -> None:
    tensors = make(3, share=share)
    key = {"sample": None, "group": tensors.groups, "label": tensors.labels}[positives]
    objective = Sigmoid(NAMES, positives=positives, chunk_rows=chunk_rows)  # type: ignore[arg-type]
    expected, loss = brute_force(tensors, key), objective(tensors).loss
    torch.testing.assert_close(loss, expected.float())
    wanted = torch.autograd.grad(expected, leaves(tensors))
    for found, gradient in zip(torch.autograd.grad(loss, leaves(tensors)), wanted, strict=True):
        torch.testing.assert_close(found, gradient, atol=1e-5, rtol=1e-4)


def test_closed_forms() -> None:
    rows = Encoded(torch.ones(4, 1), torch.ones(4, dtype=torch.bool))
    scalars = {"logit_scale": torch.tensor(math.log(3.0)), "logit_bias": torch.tensor(-1.0)}
    same = Tensors(
        dict.fromkeys(REQUESTS, rows),
        scalars,
        torch.full((4,), -1),
        torch.arange(4),
    )
    # all duplicates: each row has one match and three others at logit 2
    expected = math.log1p(math.exp(-2)) + 3 * math.log1p(math.exp(2))
    assert float(Sigmoid(NAMES)(same).loss) == pytest.approx(expected, rel=1e-6)
    one = Tensors(
        {r: Encoded(rows.rows[:1], rows.present[:1]) for r in same.encoded},
        scalars,
        torch.tensor([-1]),
        torch.tensor([0]),
    )
    assert float(Sigmoid(NAMES)(one).loss) == pytest.approx(math.log1p(math.exp(-2)), rel=1e-6)


def test_nobody_has_both() -> None:
    tensors = make(batch=4)
    half = torch.tensor([True, True, False, False])
    a, b = tensors.encoded.values()
    halves = (Encoded(a.rows, half), Encoded(b.rows, ~half))
    encoded = dict(zip(REQUESTS, halves, strict=True))
    output = Sigmoid(NAMES)(replace(tensors, encoded=encoded))
    output.loss.backward()
    assert float(output.loss) == 0.0
    assert not a.rows.grad.any()


@given(st.integers(0, 1000), st.permutations(range(7)))
def test_symmetries(seed: int, order: list[int]) -> None:
    """Neither the order of samples nor that of modalities matters."""
    tensors, index = make(seed, share=0.8), torch.tensor(order)
    shuffled = replace(
        tensors,
        encoded={r: Encoded(e.rows[index], e.present[index]) for r, e in tensors.encoded.items()},
        labels=tensors.labels[index],
    )
    expected = Sigmoid(NAMES, positives="label")(tensors).loss
    torch.testing.assert_close(Sigmoid(NAMES, positives="label")(shuffled).loss, expected)
    turned = Sigmoid(NAMES[::-1], positives="label")
    encoded = dict(zip(turned.requests[::-1], tensors.encoded.values(), strict=True))
    torch.testing.assert_close(turned(replace(tensors, encoded=encoded)).loss, expected)


def test_the_ranks_parts_make_the_whole() -> None:
    tensors = make(6, share=0.8)
    whole = Sigmoid(NAMES)(tensors).terms["a-b"]
    first, second = tensors.encoded
    parts = []
    for own in (slice(0, 3), slice(3, 7)):
        # of the first modality a rank has its own rows alone
        rows, present, _ = vars(tensors.encoded[first]).values()
        encoded = {first: Encoded(rows[own], present[own]), second: tensors.encoded[second]}
        parts.append(Sigmoid(NAMES)(replace(tensors, encoded=encoded, own=own)))
    total = torch.stack([part.terms["a-b"].total for part in parts]).sum()
    torch.testing.assert_close(total, whole.total)
    assert sum(int(part.terms["a-b"].count) for part in parts) == int(whole.count)
    expected = torch.autograd.grad(whole.total, leaves(tensors))
    for found, gradient in zip(torch.autograd.grad(total, leaves(tensors)), expected, strict=True):
        torch.testing.assert_close(found, gradient)


def test_gradients_are_those_of_finite_differences() -> None:
    logits = torch.randn(3, 4, dtype=torch.float64).mul(8).requires_grad_()
    positive = torch.eye(3, 4, dtype=torch.bool)
    assert torch.autograd.gradcheck(lambda z: sigmoid_losses(z, positive), (logits,))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_rows_give_a_float32_loss(dtype: torch.dtype) -> None:
    tensors = make(2)
    low = {r: Encoded(e.rows.to(dtype), e.present) for r, e in tensors.encoded.items()}
    scalars = {"logit_scale": torch.tensor(math.log(100.0)), "logit_bias": torch.tensor(-10.0)}
    tensors = replace(tensors, scalars=scalars)
    with torch.autocast("cpu", torch.bfloat16):
        loss = Sigmoid(NAMES)(replace(tensors, encoded=low)).loss
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(Sigmoid(NAMES)(tensors).loss), rel=0.05)


def test_scalars_and_settings() -> None:
    assert Sigmoid(NAMES).model_scalars() == {"logit_scale": math.log(10.0), "logit_bias": -10.0}
    scalars = {"logit_scale": 9.0, "logit_bias": -10.0}
    model = Model(ModelConfig("bounded", 1, {}), {}, {}, None, scalars)
    with torch.no_grad():
        Sigmoid(NAMES).after_step(model, Position())
    assert float(model.scalars["logit_scale"]) == pytest.approx(math.log(100.0))
    assert float(model.scalars["logit_bias"]) == -10.0
    three = Sigmoid((*NAMES, "c"), pairs={"a-b": 3.0, "b-c": 1.0})
    assert three.weights == {("a", "b"): 0.75, ("b", "c"): 0.25}
    with pytest.raises(ConfigError, match="sigmoid: chunk_rows=0"):
        Sigmoid(NAMES, chunk_rows=0)
    with pytest.raises(ConfigError, match=r"sigmoid: pair 'a-c'.*objective\.sigmoid\.pairs"):
        Sigmoid(NAMES, pairs={"a-c": 1.0})
