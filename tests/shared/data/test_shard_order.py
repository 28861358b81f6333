"""Order of an epoch over shards."""

import numpy as np
import pytest

from shared.data.shard_order import shuffle_in_lanes

SHARDS = np.repeat(np.arange(12), 100)


def order(seed: int = 0, **changed: int) -> np.ndarray:
    settings = {"batch_size": 40, "lanes": 4, "window": 30, **changed}
    rows = np.arange(1200)
    return shuffle_in_lanes(rows, SHARDS, np.random.default_rng([seed, 0]), **settings)


@pytest.mark.parametrize("lanes", [1, 3, 4, 7])
@pytest.mark.parametrize("batch_size", [1, 7, 40, 1200, 5000])
def test_whole_batches_of_rows_that_come_once(lanes: int, batch_size: int) -> None:
    found = order(lanes=lanes, batch_size=batch_size)
    assert len(found) == (1200 // batch_size * batch_size or 1200)
    assert len(np.unique(found)) == len(found)


def test_it_is_a_function_of_the_seed() -> None:
    assert np.array_equal(order(), order())
    assert not np.array_equal(order(), order(1))


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_each_rank_reads_shards_of_its_own(ranks: int) -> None:
    """12 shards of 100 in 4 lanes: none is cut."""
    parts = np.split(order().reshape(-1, 40), ranks, axis=1)
    read = [set(SHARDS[part].ravel().tolist()) for part in parts]
    assert [len(shards) for shards in read] == [12 // ranks] * ranks
    assert len(set.union(*read)) == 12


def test_a_lane_reads_near_to_the_order_of_its_files() -> None:
    rows, shard = np.arange(300), np.zeros(300, np.int32)
    rng = np.random.default_rng(0)
    lane = shuffle_in_lanes(rows, shard, rng, batch_size=10, lanes=1, window=30)
    assert 15 < np.abs(lane - rows).max() < 30
    assert np.array_equal(
        shuffle_in_lanes(rows, shard, rng, batch_size=10, lanes=1, window=1), rows
    )


def test_batches_mix_shards_and_change_with_the_epoch() -> None:
    batches = order().reshape(-1, 40)
    assert all(len(set(SHARDS[batch].tolist())) >= 4 for batch in batches)
    first, second = (SHARDS[order(seed).reshape(-1, 40)[0]] for seed in (0, 1))
    assert set(first.tolist()) != set(second.tolist())


def test_the_last_rows_are_left_out_by_chance() -> None:
    left = [set(range(1200)) - set(order(seed, batch_size=500).tolist()) for seed in range(3)]
    assert [len(rows) for rows in left] == [200] * 3
    assert not set.intersection(*left)
