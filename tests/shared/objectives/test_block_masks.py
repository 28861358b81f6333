"""Block masks: what they promise for any seed."""

from random import Random

import torch
from hypothesis import given
from hypothesis import strategies as st

from shared.objectives.block_masks import block_mask, draw_masks

sides = st.integers(2, 20)


@given(seed=st.integers(0, 10**6), height=sides, width=sides, share=st.floats(0, 1))
def test_never_more_than_asked_for(seed: int, height: int, width: int, share: float) -> None:
    number = int(share * height * width)
    mask = block_mask(Random(seed), height, width, number, height // 2 * width)
    assert mask.shape == (height, width)
    assert int(mask.sum()) <= number


def test_nearly_all_of_what_is_asked_for() -> None:
    rng = Random(0)
    covered = [int(block_mask(rng, 16, 16, 64, 128).sum()) for _ in range(300)]
    assert 63 < sum(covered) / len(covered) <= 64


def test_half_of_a_batch_is_masked_in_ratios_spread_evenly() -> None:
    masks = draw_masks(Random(3), 40, (16, 16), 0.5, (0.1, 0.5))
    counts = masks.sum(1).sort().values
    assert torch.equal(counts[:20], torch.zeros(20, dtype=torch.int64))
    shares = counts[20:] / 256
    bounds = torch.linspace(0.1, 0.5, 21)
    assert torch.all(shares <= bounds[1:])
    assert torch.all(shares >= bounds[:-1] - 0.02)
    again = draw_masks(Random(3), 40, (16, 16), 0.5, (0.1, 0.5))
    assert torch.equal(masks, again)


def test_an_empty_batch() -> None:
    assert draw_masks(Random(0), 0, (4, 4), 0.5, (0.1, 0.5)).shape == (0, 16)
