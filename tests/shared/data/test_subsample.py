"""Class-balanced subsets: the published thresholds, and what holds for any counts."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.data.subsample import class_cap, subsample
from shared.errors import ConfigError

ROOT = Path(__file__).resolve().parents[3]
COUNTS = st.lists(st.integers(0, 300), min_size=1, max_size=12).filter(any)
FRACTIONS = st.decimals(0, 1, places=2).map(float).filter(lambda f: f > 0)


def labels_of(counts: list[int]) -> np.ndarray:
    labels = np.repeat(np.arange(-1, len(counts) - 1), counts)
    return np.random.default_rng(0).permutation(labels)


def test_published_thresholds_and_totals() -> None:
    folder = Path(os.environ.get("ZOO_REFERENCE", ROOT / "../shared/reference"))
    paths = sorted(folder.glob("*/class_counts.json"))
    if not paths:
        pytest.skip(f"no recorded class counts: ZOO_REFERENCE or {folder} is needed")
    for path in paths:
        recorded = json.loads(path.read_text())
        for name, splits in recorded["sub"].items():
            fraction = int(name.removeprefix("sub")) / 100
            for split, subset in splits.items():
                counts = recorded["full"][split]["counts"]
                cap = class_cap(list(counts.values()), subset["goal"])
                assert cap == subset["threshold"], (name, split)
                assert {c: min(n, cap) for c, n in counts.items()} == subset["counts"]
                labels = np.repeat(np.arange(len(counts)), list(counts.values()))
                assert len(subsample(labels, fraction, seed=0)) == subset["total"]


def test_by_hand() -> None:
    # 2, 4, 10: the two small classes stay whole, the large one gets what is left of 12
    assert class_cap([10, 2, 4], 12) == 6
    assert class_cap([10, 2, 4], 16) == 10
    assert class_cap([7], 3) == 3
    # two equal classes, of which the published formula would leave nothing of a half
    assert class_cap([100, 100], 100) == 47
    assert class_cap([100, 100], 1) == 1


@given(COUNTS, st.integers(1, 3600))
def test_the_cap_meets_the_goal(counts: list[int], goal: int) -> None:
    cap = class_cap(counts, goal)
    total = sum(min(n, cap) for n in counts)
    classes = sum(n > 0 for n in counts)
    goal = min(goal, sum(counts))
    assert total <= max(goal, classes)
    # a class more or less each, and at most 5 % below where the cap is below every class
    assert total >= min(0.95 * goal, goal) - classes
    assert class_cap(counts, goal + 1) >= cap


@given(COUNTS, FRACTIONS, FRACTIONS, st.integers(0, 3))
def test_subsets(counts: list[int], one: float, two: float, seed: int) -> None:
    labels = labels_of(counts)
    small, large = (subsample(labels, f, seed) for f in sorted((one, two)))
    assert set(small) <= set(large)
    assert (np.diff(large) > 0).all()
    assert (labels[large] < 0).sum() == (labels < 0).sum()
    number, whole = (np.bincount(values[values >= 0], minlength=12) for values in
                     (labels[large], labels))  # fmt: skip
    cap = number.max()
    np.testing.assert_array_equal(number, np.minimum(whole, cap))
    np.testing.assert_array_equal(subsample(labels, 1.0, seed), np.arange(len(labels)))


def test_the_seed_chooses_the_rows() -> None:
    labels = np.repeat([0, 1], 200)
    one, again, two = (subsample(labels, 0.5, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, again)
    assert set(one) != set(two)


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, float("nan")])
def test_no_fraction(fraction: float) -> None:
    with pytest.raises(ConfigError, match="above 0 and at most 1"):
        subsample([0, 1], fraction, 0)
