"""SupCon by brute force, its gradient, its special cases, rows that are absent."""

import math
from collections.abc import Mapping

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from shared.errors import ConfigError
from shared.objectives.base import Encoded, Tensors
from shared.objectives.supcon import SupCon, supervised_contrastive


def brute_force(
    features: Tensor, labels: Tensor, present: Tensor, anchors: str, tau: float, base: float
) -> Tensor:
    """Mean over the anchors with positives, pair by pair, in the precision of the features."""
    batch, views = present.shape
    every = [(i, v) for v in range(views) for i in range(batch) if present[i, v]]
    losses = []
    for i, v in every:
        if anchors == "one" and v > 0:
            continue
        others = [(j, w) for j, w in every if (j, w) != (i, v)]
        same = [(j, w) for j, w in others if j == i or labels[j] == labels[i] >= 0]
        cosines = {(j, w): features[i, v] @ features[j, w] / tau for j, w in others}
        if same:
            log_sum = torch.logsumexp(torch.stack(list(cosines.values())), dim=0)
            losses.append(torch.stack([log_sum - cosines[pair] for pair in same]).mean())
    return tau / base * torch.stack(losses).mean()


def answers(objective: SupCon, features: Tensor, present: Tensor, labels: Tensor) -> Tensors:
    encoded: Mapping = {
        request: Encoded(features[:, view] * present[:, view, None], present[:, view])
        for view, request in enumerate(objective.requests)
    }
    return Tensors(encoded, {}, labels, torch.arange(len(labels)))


@pytest.mark.parametrize("anchors", ["all", "one"])
@pytest.mark.parametrize("views", [1, 2, 3])
def test_brute_force_and_its_gradient(anchors: str, views: int) -> None:
    torch.manual_seed(views)
    features = normalize(torch.randn(8, views, 5), dim=-1).requires_grad_()
    labels = torch.tensor([0, 1, 0, 2, -1, -1, 1, 0])
    present = torch.rand(8, views) > 0.25
    present[0], present[2] = True, True
    objective = SupCon("abc"[:views], anchors=anchors, temperature=0.2, base_temperature=0.1)
    found = objective(answers(objective, features, present, labels)).loss
    found.backward()
    exact = features.detach().double().requires_grad_()
    expected = brute_force(exact, labels, present, anchors, 0.2, 0.1)
    expected.backward()
    torch.testing.assert_close(found, expected.float())
    torch.testing.assert_close(features.grad.double(), exact.grad, rtol=1e-4, atol=1e-6)


def test_two_views_without_labels_are_nt_xent() -> None:
    features = normalize(torch.randn(6, 2, 5), dim=-1)
    objective = SupCon("ab", temperature=0.5, base_temperature=0.5, positives="sample")
    present = torch.ones(6, 2, dtype=torch.bool)
    found = objective(answers(objective, features, present, torch.zeros(6, dtype=torch.int64)))
    rows = torch.cat([features[:, 0], features[:, 1]])
    logits = (rows @ rows.T / 0.5).fill_diagonal_(-math.inf)
    partner = torch.arange(12).roll(6)
    torch.testing.assert_close(found.loss, cross_entropy(logits, partner))


def test_all_alike_cost_the_logarithm_of_the_others() -> None:
    features = normalize(torch.ones(5, 2, 3), dim=-1)
    positive = torch.ones(5, 5, dtype=torch.bool)
    losses = supervised_contrastive(features, positive)
    torch.testing.assert_close(losses.total / losses.positives, torch.full((10,), math.log(9)))


def test_order_of_samples_is_free() -> None:
    features, labels = normalize(torch.randn(9, 2, 4), dim=-1), torch.randint(0, 3, (9,))
    objective, present = SupCon("ab"), torch.ones(9, 2, dtype=torch.bool)
    order = torch.randperm(9)
    one = objective(answers(objective, features, present, labels)).loss
    two = objective(answers(objective, features[order], present, labels[order])).loss
    torch.testing.assert_close(one, two)


@pytest.mark.parametrize("batch", [0, 1])
def test_nothing_to_contrast(batch: int) -> None:
    features = torch.ones(batch, 1, 3, requires_grad=True)
    objective = SupCon("a")
    labels = torch.zeros(batch, dtype=torch.int64)
    output = objective(answers(objective, features, torch.ones(batch, 1, dtype=torch.bool), labels))
    output.loss.backward()
    assert output.loss == 0
    assert not features.grad.any()
    assert output.terms["supcon"].count == 0


def test_without_a_positive_the_ratio_is_not_a_number() -> None:
    features = normalize(torch.randn(3, 1, 4), dim=-1).requires_grad_()
    losses = supervised_contrastive(features, torch.eye(3, dtype=torch.bool))
    assert (losses.total / losses.positives).isnan().all()
    assert losses.positives.tolist() == [0, 0, 0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype: torch.dtype) -> None:
    features = normalize(torch.randn(8, 2, 4), dim=-1).to(dtype)
    positive = torch.eye(8, dtype=torch.bool)
    with torch.autocast("cpu", torch.bfloat16):
        found = supervised_contrastive(features, positive, temperature=0.001)
    exact = supervised_contrastive(features.float(), positive, temperature=0.001)
    assert found.total.dtype == torch.float32
    torch.testing.assert_close(found.total, exact.total)


def test_temperature_is_positive() -> None:
    with pytest.raises(ConfigError, match="above 0"):
        SupCon("ab", temperature=0.0)
