"""Patches, masks and their losses: inverses, counts, brute force, edge cases."""

from fractions import Fraction
from itertools import product

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from shared.objectives.masked_patches import (
    PatchLoss,
    allocate_visible,
    draw_subsets,
    keep_lowest,
    masked_mean,
    mean_of_masked_means,
    patch_losses,
    patchify,
    restore_tokens,
    share_present,
    standardise_patches,
    take_tokens,
    unpatchify,
    visible_numbers,
)


def test_patches_are_ordered_row_column_channel() -> None:
    images = torch.randn(2, 3, 4, 6)
    patches = patchify(images, 2)
    assert patches.shape == (2, 6, 12)
    # patch 4 is in row 1, column 1
    expected = [images[1, c, 2 + i, 2 + j] for i, j, c in product(range(2), range(2), range(3))]
    assert torch.equal(patches[1, 4], torch.stack(expected))
    assert torch.equal(unpatchify(patches, 2, (2, 3)), images)


def test_standardised_patches() -> None:
    patches = torch.randn(2, 5, 12, dtype=torch.float64) * 7 + 3
    patches[0, 0] = 4.0
    found = standardise_patches(patches)
    assert torch.equal(found[0, 0], torch.zeros(12, dtype=torch.float64))
    torch.testing.assert_close(found[1].mean(-1), torch.zeros(5, dtype=torch.float64))
    torch.testing.assert_close(
        found[1].var(-1), torch.ones(5, dtype=torch.float64), rtol=1e-5, atol=0
    )


def test_a_mask_keeps_and_restores() -> None:
    masking = keep_lowest(torch.rand(4, 10), 3)
    assert masking.ids_keep.shape == (4, 3)
    assert torch.equal(masking.mask.sum(1), torch.full((4,), 7))
    assert not masking.mask.gather(1, masking.ids_keep).any()
    tokens = torch.randn(4, 10, 5)
    found = restore_tokens(
        take_tokens(tokens, masking.ids_keep), torch.ones(1, 1, 5), masking.ids_restore
    )
    assert torch.equal(found, torch.where(masking.mask[..., None], 1.0, tokens))


SIZES = st.lists(st.integers(1, 9), min_size=1, max_size=4)


@given(SIZES, st.data())
def test_allocation(sizes: list[int], data: st.DataObject) -> None:
    total, batch = sum(sizes), 5
    budget = data.draw(st.integers(1, total))
    torch.manual_seed(data.draw(st.integers(0, 2**31)))
    present = torch.rand(batch, len(sizes)) < 0.7
    present[:, 0] |= ~present.any(dim=1)
    shares = share_present(torch.rand(batch, len(sizes)) ** 3, present)
    numbers = visible_numbers(shares, budget)
    noises = [torch.rand(batch, size) for size in sizes]
    masking = allocate_visible(numbers, noises, torch.rand(batch, total), budget, present)
    assert torch.equal((~masking.mask).sum(1), torch.full((batch,), budget))
    assert not masking.mask.gather(1, masking.ids_keep).any()
    ordered = masking.ids_restore.argsort(1)
    assert torch.equal(ordered[:, :budget], masking.ids_keep)
    visible = torch.stack([(~m).sum(1) for m in torch.split(masking.mask, sizes, dim=1)], dim=1)
    limits = torch.tensor(sizes) * present
    # absent tokens are seen only where those that are there do not suffice
    lacking = (budget - limits.sum(1)).clamp(min=0)
    assert torch.equal((visible * ~present).sum(1), lacking)
    # the repair moves all modalities in one direction, by what the rounding or a limit left over
    asked = numbers.minimum(limits)
    change = (visible * present) - asked
    surplus = budget - lacking - asked.sum(1)
    assert torch.equal(change.sum(1), surplus)
    assert torch.equal(change.abs().sum(1), surplus.abs())


def test_shares_are_equal_in_the_mean() -> None:
    torch.manual_seed(0)
    batch, sizes = 4000, [16, 16, 16]
    present = torch.ones(batch, 3, dtype=torch.bool)
    shares = torch.distributions.Dirichlet(torch.ones(3)).sample((batch,))
    noises = [torch.rand(batch, size) for size in sizes]
    repair = torch.rand(batch, sum(sizes))
    masking = allocate_visible(visible_numbers(shares, 12), noises, repair, 12, present)
    visible = 1 - masking.mask.float()
    # each token is as likely as any other: 12 of 48
    torch.testing.assert_close(visible.mean(0), torch.full((48,), 0.25), atol=0.03, rtol=0)


def test_subsets_are_equally_likely() -> None:
    present = torch.tensor([[True, False, True, True]]).expand(7000, 4)
    uniform = torch.arange(7000) / 7000
    found = draw_subsets(present, uniform)
    assert not found[:, 1].any()
    kinds, counts = found.unique(dim=0, return_counts=True)
    assert len(kinds) == 7
    assert kinds.any(1).all()
    assert counts.tolist() == [1000] * 7


def test_shares_of_present_modalities() -> None:
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.5, 0.25, 0.25], [1.0, 0.0, 0.0]])
    present = torch.tensor([[True, True, True], [False, True, True], [False, True, True]])
    found = share_present(shares, present)
    assert found.tolist() == [[0.5, 0.25, 0.25], [0.0, 0.5, 0.5], [0.0, 0.0, 0.0]]


def test_numbers_are_rounded_half_to_even() -> None:
    shares = torch.tensor([[0.125, 0.375, 0.5]])
    assert visible_numbers(shares, 4).tolist() == [[0, 2, 2]]
    assert [round(Fraction(n, 8) * 4) for n in (1, 3, 4)] == [0, 2, 2]


def brute_force(loss: PatchLoss, pred: Tensor, target: Tensor, mask: Tensor, size: int) -> float:
    """The definition over pixels of one sample at a time, in float64."""
    means = []
    for x, y, hidden in zip(pred.double(), target, mask, strict=True):
        rows, columns = (side // size for side in x.shape[1:])
        losses = []
        for number, (i, j) in enumerate(product(range(rows), range(columns))):
            if not hidden[number]:
                continue
            window = (slice(i * size, (i + 1) * size), slice(j * size, (j + 1) * size))
            part = x[:, *window]
            if loss == "cross_entropy":
                chosen = part.log_softmax(0).gather(0, y[window][None])
                losses.append(-chosen.mean())
                continue
            wanted = y[:, *window].double()
            if loss == "norm_mse":
                wanted = (wanted - wanted.mean()) / (wanted.var() + 1e-6).sqrt()
            difference = part - wanted
            losses.append(difference.abs().mean() if loss == "l1" else (difference**2).mean())
        if losses:
            means.append(torch.stack(losses).mean())
    return float(torch.stack(means).mean())


@pytest.mark.parametrize("loss", ["mse", "norm_mse", "l1", "cross_entropy"])
def test_losses(loss: PatchLoss) -> None:
    torch.manual_seed(0)
    pred, mask = torch.randn(4, 3, 4, 6, requires_grad=True), torch.rand(4, 6) < 0.5
    mask[1] = False
    classes = loss == "cross_entropy"
    target = torch.randint(3, (4, 4, 6)) if classes else torch.randn(4, 3, 4, 6)
    if not classes:
        target[0] = 2.0
    term = mean_of_masked_means(patch_losses(loss, pred, target, 2), mask)
    expected = brute_force(loss, pred.detach(), target, mask, 2)
    assert float(term.mean.detach()) == pytest.approx(expected, rel=1e-5)
    term.mean.backward()
    assert pred.grad is not None
    assert pred.grad.isfinite().all()
    assert not pred.grad[1].any()
    order = torch.tensor([2, 0, 3, 1])
    moved = mean_of_masked_means(patch_losses(loss, pred[order], target[order], 2), mask[order])
    torch.testing.assert_close(moved.mean, term.mean)


@pytest.mark.parametrize("mean", [masked_mean, mean_of_masked_means])
def test_nothing_masked_is_zero(mean: object) -> None:
    losses = torch.rand(2, 3, requires_grad=True)
    term = mean(losses, torch.zeros(2, 3, dtype=torch.bool))  # type: ignore[operator]
    assert float(term.mean) == 0
    term.mean.backward()
    assert torch.equal(losses.grad, torch.zeros(2, 3))  # type: ignore[arg-type]


def test_the_two_means_weigh_samples_differently() -> None:
    losses = torch.tensor([[1.0, 1.0, 1.0], [4.0, 0.0, 0.0]])
    mask = torch.tensor([[1, 1, 1], [1, 0, 0]])
    assert float(masked_mean(losses, mask).mean) == 7 / 4
    assert float(mean_of_masked_means(losses, mask).mean) == 5 / 2


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_predictions_are_judged_in_float32(dtype: torch.dtype) -> None:
    # a square of 300 is beyond float16
    pred = torch.full((1, 1, 2, 2), 300.0, dtype=dtype)
    losses = patch_losses("mse", pred, torch.zeros(1, 1, 2, 2), 2)
    assert losses.dtype == torch.float32
    assert float(losses) == 90000
