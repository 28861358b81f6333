import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.data.splits import assign_splits

ROWS = st.lists(
    st.tuples(st.integers(0, 12).map("g{}".format), st.integers(-1, 3)), min_size=1, max_size=60
)


@given(ROWS, st.randoms(use_true_random=False), st.integers(0, 3))
def test_row_order_does_not_matter_and_a_group_is_never_divided(rows, random, seed):
    groups, labels = zip(*rows, strict=True)
    by_group = dict(zip(groups, assign_splits(groups, labels, seed).tolist(), strict=True))
    assert assign_splits(groups, labels, seed).tolist() == [by_group[g] for g in groups]
    shuffled = random.sample(rows, len(rows))
    groups, labels = zip(*shuffled, strict=True)
    assert assign_splits(groups, labels, seed).tolist() == [by_group[g] for g in groups]


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60))
def test_every_class_of_three_groups_is_in_every_split(labels):
    splits = assign_splits([f"star{i}" for i in range(len(labels))], labels)
    for label in set(labels):
        present = set(splits[np.asarray(labels) == label])
        assert present == ({"train", "val", "test"} if labels.count(label) >= 3 else {"train"})


def test_fractions_are_70_15_15_on_average():
    groups = [f"star{i}" for i in range(4000)]
    splits = assign_splits(groups, np.arange(4000) % 4)
    for split, share in (("train", 0.70), ("val", 0.15), ("test", 0.15)):
        # four standard deviations of a binomial share
        assert abs((splits == split).mean() - share) < 4 * np.sqrt(share * (1 - share) / 4000)


def test_nobody_moves_when_others_come_or_go():
    groups = np.array([f"star{i}" for i in range(300)])
    labels = np.arange(300) % 5
    whole = assign_splits(groups, labels)
    part = assign_splits(groups[:200], labels[:200])
    assert (part == whole[:200]).all()


def test_the_class_of_a_group_is_its_majority_label():
    groups = np.repeat(["a", "b", "c", "d"], 3)
    labels = [0, 1, 1, 0, 1, 1, 1, 1, 0, 1, 0, 0]
    for seed in range(8):  # a, b, c are the class of three; d is alone in its class
        splits = assign_splits(groups, labels, seed)
        assert set(splits[:9]) == {"train", "val", "test"}
        assert set(splits[9:]) == {"train"}


def test_the_seed_changes_the_split():
    names, labels = np.arange(100).astype(str), np.zeros(100, int)
    assert (assign_splits(names, labels, 0) != assign_splits(names, labels, 1)).any()


@pytest.mark.parametrize("n", [0, 1])
def test_tiny_sets(n):
    assert assign_splits(["a"] * n, [0] * n).tolist() == ["train"] * n
