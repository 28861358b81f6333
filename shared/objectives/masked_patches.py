"""Patches of an image: which of them are hidden, and what losses on the hidden ones are.

Masks and losses of MAE (arXiv:2111.06377) and MultiMAE (arXiv:2204.01678)."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, cross_entropy

from shared.objectives.base import Term

VARIANCE_EPS = 1e-6

PatchLoss = Literal["mse", "norm_mse", "l1", "cross_entropy"]


def patchify(images: Tensor, patch_size: int) -> Tensor:
    """(batch, C, H, W) → (batch, patches, patch_size² · C): patches row by row, each ordered by
    row, column, channel."""
    batch, channels, height, width = images.shape
    down, across = height // patch_size, width // patch_size
    cut = images.reshape(batch, channels, down, patch_size, across, patch_size)
    return cut.permute(0, 2, 4, 3, 5, 1).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch_size: int, grid: tuple[int, int]) -> Tensor:
    """Inverse of `patchify`, for a grid of (rows, columns) of patches."""
    down, across = grid
    channels = patches.shape[2] // patch_size**2
    cut = patches.reshape(len(patches), down, across, patch_size, patch_size, channels)
    image = cut.permute(0, 5, 1, 3, 2, 4)
    return image.reshape(len(patches), channels, down * patch_size, across * patch_size)


def standardise_patches(patches: Tensor) -> Tensor:
    """Every patch by its own mean and unbiased variance over pixels and channels, plus 1e-6
    (arXiv:2111.06377, §3, "normalized pixel values"); 0 where a patch is constant."""
    variance, mean = torch.var_mean(patches, dim=-1, keepdim=True)
    return (patches - mean) / (variance + VARIANCE_EPS).sqrt()


class Masking(NamedTuple):
    """Which tokens an encoder sees.

    Attributes:
        ids_keep: (batch, kept) int64, in the order in which it sees them.
        ids_restore: (batch, tokens) int64, where each token stands when the kept ones come first.
        mask: (batch, tokens) bool, True where a token is hidden.
    """

    ids_keep: Tensor
    ids_restore: Tensor
    mask: Tensor


def keep_lowest(keys: Tensor, number: int) -> Masking:
    """Keep the tokens with the lowest keys; uniform noise as keys keeps a random subset.

    Args:
        keys: (batch, tokens).
        number: Tokens of each row that are kept.
    """
    shuffled = keys.argsort(dim=1, stable=True)
    restore = shuffled.argsort(dim=1)
    return Masking(shuffled[:, :number], restore, restore >= number)


def take_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """(batch, tokens, dim) and (batch, kept) → (batch, kept, dim)."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[2]))


def restore_tokens(kept: Tensor, mask_token: Tensor, ids_restore: Tensor) -> Tensor:
    """Kept tokens back at their places, and the mask token at all others.

    Args:
        kept: (batch, kept, dim).
        mask_token: (1, 1, dim).
        ids_restore: (batch, tokens).
    """
    hidden = ids_restore.shape[1] - kept.shape[1]
    filled = torch.cat([kept, mask_token.expand(len(kept), hidden, -1)], dim=1)
    return take_tokens(filled, ids_restore)


def draw_subsets(present: Tensor, uniform: Tensor) -> Tensor:
    """A non-empty subset of the modalities that each sample has, all subsets equally likely.

    Args:
        present: (batch, modalities) bool.
        uniform: (batch,) in [0, 1).

    Returns:
        (batch, modalities) bool.
    """
    subsets = 2 ** present.sum(dim=1) - 1
    # the binary digits of 1 … subsets, one for each modality that is there
    code = 1 + (uniform * subsets).long().clamp(max=subsets - 1)
    digit = present.long().cumsum(dim=1) - 1
    return present & (code[:, None] >> digit.clamp(min=0)).bitwise_and(1).bool()


def share_present(shares: Tensor, present: Tensor) -> Tensor:
    """Shares among the modalities that a sample has: of a Dirichlet distribution, those that are
    left and sum to 1 again follow the one of their own parameters.

    Args:
        shares: (batch, modalities).
        present: (batch, modalities) bool.
    """
    left = shares * present
    return left / left.sum(dim=1, keepdim=True).clamp(min=torch.finfo(shares.dtype).tiny)


def visible_numbers(shares: Tensor, budget: int) -> Tensor:
    """Tokens of each modality that a share asks for, rounded half to even.

    Args:
        shares: (batch, modalities), each row sums to 1.
        budget: Visible tokens of all modalities.

    Returns:
        (batch, modalities) int64; neither their sum nor a modality's size bounds them.
    """
    return (shares * budget).round().long()


def allocate_visible(
    numbers: Tensor, noises: Sequence[Tensor], repair: Tensor, budget: int, present: Tensor
) -> Masking:
    """Random visible tokens, about as many of each modality as asked for and `budget` in all
    (MultiMAE, §3).

    Where the numbers ask for too few, random hidden tokens of any modality that is there are
    added; where they ask for too many, random visible ones are dropped.

    Args:
        numbers: (batch, modalities) int64.
        noises: By modality, (batch, its tokens) uniform in [0, 1).
        repair: (batch, all tokens) uniform in [0, 1).
        budget: Visible tokens of each row.
        present: (batch, modalities) bool; tokens of an absent modality are visible only where the
            others have fewer than `budget`.
    """
    keys = []
    for number, noise, there in zip(numbers.T, noises, present.T, strict=True):
        hidden = noise.argsort(dim=1, stable=True) >= number[:, None]
        keys.append(hidden.to(repair.dtype) + (~there)[:, None].to(repair.dtype))
    return keep_lowest(torch.cat(keys, dim=1) + repair, budget)


def patch_losses(loss: PatchLoss, prediction: Tensor, target: Tensor, patch_size: int) -> Tensor:
    """Mean loss of each patch over its pixels, in float32, channels averaged first.

    Args:
        loss: Squared error, the same against the standardised patches of the target, absolute
            error, or cross-entropy.
        prediction: (batch, C, H, W); logits for cross-entropy.
        target: (batch, C, H, W), or classes (batch, H, W) int64.
        patch_size: Side of a patch in pixels of the prediction.

    Returns:
        (batch, patches).
    """
    prediction = prediction.float()
    if loss == "cross_entropy":
        pixels = cross_entropy(prediction, target, reduction="none")
    else:
        target = target.float()
        if loss == "norm_mse":
            grid = (target.shape[2] // patch_size, target.shape[3] // patch_size)
            patches = standardise_patches(patchify(target, patch_size))
            target = unpatchify(patches, patch_size, grid)
        difference = prediction - target
        pixels = (difference.abs() if loss == "l1" else difference.square()).mean(dim=1)
    return avg_pool2d(pixels[:, None], patch_size).flatten(1)


def masked_mean(losses: Tensor, mask: Tensor) -> Term:
    """Mean over all masked patches of the batch (MAE).

    Args:
        losses: (batch, patches).
        mask: (batch, patches), 1 where a patch counts.
    """
    return Term((losses * mask).sum(), mask.sum())


def mean_of_masked_means(losses: Tensor, mask: Tensor) -> Term:
    """Mean over samples of each one's mean over its masked patches (MultiMAE); a sample without
    any does not count.

    Args:
        losses: (batch, patches).
        mask: (batch, patches), 1 where a patch counts.
    """
    number = mask.sum(dim=1)
    means = (losses * mask).sum(dim=1) / number.clamp(min=1)
    return Term(means.sum(), (number > 0).sum())
