"""DINO, iBOT and KoLeo: closed forms, brute force, gradients, what must not blow up."""

import math

import pytest
import torch
from torch.nn.functional import normalize

from shared.objectives.self_distillation import (
    Centre,
    DINOHead,
    build_dino_head,
    centred_targets,
    cross_entropies,
    koleo_losses,
    masked_weights,
    nearest_neighbours,
    sinkhorn_targets,
)


def test_sinkhorn_rows_are_distributions_and_prototypes_share_evenly() -> None:
    torch.manual_seed(0)
    targets = sinkhorn_targets(torch.randn(40, 8), 0.5, iterations=50)
    torch.testing.assert_close(targets.sum(1), torch.ones(40))
    torch.testing.assert_close(targets.sum(0), torch.full((8,), 40 / 8), rtol=1e-3, atol=1e-3)


def test_sinkhorn_is_the_published_algorithm() -> None:
    torch.manual_seed(0)
    logits = torch.randn(6, 4, dtype=torch.float64)
    shares = (logits / 0.3).exp().T
    shares /= shares.sum()
    for _ in range(3):
        shares /= shares.sum(1, keepdim=True) * 4
        shares /= shares.sum(0, keepdim=True) * 6
    torch.testing.assert_close(sinkhorn_targets(logits, 0.3).double(), (shares * 6).T)


def test_sinkhorn_does_not_overflow() -> None:
    logits = torch.tensor([[1000.0, 0.0], [0.0, 1000.0], [-1000.0, -1000.0]])
    targets = sinkhorn_targets(logits, 0.04)
    assert targets.isfinite().all()
    torch.testing.assert_close(targets[:2], torch.eye(2))


def test_sinkhorn_of_one_row_and_of_none() -> None:
    torch.testing.assert_close(sinkhorn_targets(torch.randn(1, 5), 0.1), torch.full((1, 5), 0.2))
    assert sinkhorn_targets(torch.zeros(0, 5), 0.1).shape == (0, 5)


def test_centred_targets() -> None:
    logits, centre = torch.tensor([[math.log(2), 0.0]]), torch.tensor([0.0, -math.log(2)])
    torch.testing.assert_close(centred_targets(logits, centre, 1.0), torch.full((1, 2), 0.5))


def test_the_centre_is_a_running_mean_one_step_behind() -> None:
    centre = Centre(2, momentum=0.75)
    centre.update()
    assert not centre.value.any()
    centre.remember(torch.tensor([[1.0, 2.0], [3.0, 6.0]]))
    assert not centre.value.any()
    centre.update()
    torch.testing.assert_close(centre.value, torch.tensor([0.5, 1.0]))
    centre.update()
    centre.remember(torch.zeros(0, 2))
    centre.update()
    torch.testing.assert_close(centre.value, torch.tensor([0.5, 1.0]))


def test_cross_entropy_by_hand() -> None:
    student, targets = torch.tensor([[0.0, 0.1 * math.log(3)]]), torch.tensor([[0.5, 0.5]])
    expected = -0.5 * math.log(1 / 4) - 0.5 * math.log(3 / 4)
    torch.testing.assert_close(cross_entropies(student, targets, 0.1), torch.tensor([expected]))


def test_cross_entropy_gradient() -> None:
    torch.manual_seed(0)
    student = torch.randn(3, 4, requires_grad=True)
    targets = torch.rand(3, 4).softmax(1)
    cross_entropies(student, targets, 0.5).sum().backward()
    expected = ((student.detach() / 0.5).softmax(1) - targets) / 0.5
    torch.testing.assert_close(student.grad, expected)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_losses_stay_float32_and_finite(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    student = (200 * torch.randn(4, 6)).to(dtype).requires_grad_()
    rows = torch.randn(4, 6).to(dtype)
    rows[1] = rows[0]
    rows.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        losses = cross_entropies(student, sinkhorn_targets(student.detach(), 0.04), 0.1)
        spread = koleo_losses(rows)
    assert losses.dtype == spread.dtype == torch.float32
    (losses.sum() + spread.sum()).backward()
    assert losses.isfinite().all()
    assert spread.isfinite().all()
    assert student.grad.isfinite().all()
    assert rows.grad.isfinite().all()


def test_weights_of_masked_patches_add_up_to_one_an_image() -> None:
    mask = torch.tensor([[True, False, True], [False, False, False], [True, True, True]])
    expected = torch.tensor([1 / 2, 1 / 2, 1 / 3, 1 / 3, 1 / 3])
    torch.testing.assert_close(masked_weights(mask), expected)


def test_koleo_by_brute_force() -> None:
    torch.manual_seed(0)
    x = torch.randn(7, 4)
    rows = normalize(x, dim=1).double()
    distances = torch.cdist(rows, rows).fill_diagonal_(math.inf).min(1).values
    torch.testing.assert_close(koleo_losses(x).double(), -distances.log(), rtol=1e-5, atol=1e-5)
    unit = rows.float()
    nearest = nearest_neighbours(unit, unit, torch.arange(7))
    assert torch.equal(nearest, torch.cdist(rows, rows).fill_diagonal_(math.inf).argmin(1))


def test_koleo_does_not_depend_on_order_or_length() -> None:
    torch.manual_seed(0)
    x, order = torch.randn(6, 5), torch.randperm(6)
    torch.testing.assert_close(koleo_losses(3 * x[order]), koleo_losses(x)[order])


def test_koleo_of_duplicates_is_finite() -> None:
    x = torch.ones(5, 3, requires_grad=True)
    losses = koleo_losses(x)
    losses.sum().backward()
    torch.testing.assert_close(losses, torch.full((5,), -math.log(1e-8 * (1 + math.sqrt(3)))))
    assert x.grad.isfinite().all()


@pytest.mark.parametrize("number", [0, 1])
def test_koleo_of_nobody_beside(number: int) -> None:
    x = torch.ones(number, 3, requires_grad=True)
    losses = koleo_losses(x)
    assert losses.shape == (0,)
    losses.sum().backward()
    assert not x.grad.any()


def test_logits_of_the_head_are_cosines_times_lengths() -> None:
    torch.manual_seed(0)
    head = DINOHead(6, prototypes=5, hidden_dim=8, bottleneck_dim=4)
    torch.nn.init.normal_(head.mlp[-1].weight)
    x = torch.randn(3, 6)
    cosines = normalize(head.mlp(x), dim=1) @ normalize(head.last_layer.weight_v, dim=1).T
    torch.testing.assert_close(head(x), cosines)
    torch.nn.init.constant_(head.last_layer.weight_g, 2.0)
    torch.testing.assert_close(head(x), 2 * cosines)


def test_names_of_the_head() -> None:
    single = build_dino_head(6, {"layers": 1, "prototypes": 5, "bottleneck_dim": 4}, "test")
    names = {"mlp.weight", "mlp.bias", "last_layer.weight_g", "last_layer.weight_v"}
    assert set(single.state_dict()) == names
