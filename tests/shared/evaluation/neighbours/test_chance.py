from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.evaluation.neighbours.chance import (
    chance_average_precision,
    chance_recall,
    ranking_chance,
)

SIZES = st.lists(
    st.integers(1, 20).flatmap(lambda n: st.tuples(st.just(n), st.integers(1, n))),
    min_size=1,
    max_size=15,
)


@settings(max_examples=50)
@given(SIZES)
def test_chance_recall_is_hypergeometric(sizes):
    found = chance_recall(*np.array(sizes).T)
    assert len(found) == max(n for n, _ in sizes)
    for k, recall in enumerate(found, start=1):
        miss = [comb(n - p, k) / comb(n, k) if k <= n else 0 for n, p in sizes]
        assert recall == pytest.approx(1 - np.mean(miss))


@pytest.mark.parametrize("n", [2, 7, 10, 200])
def test_one_positive_in_closed_form(n):
    harmonic = sum(1 / r for r in range(1, n + 1))
    assert ranking_chance(np.array([n]), np.array([1])) == pytest.approx(
        {f"recall@{k}": min(k, n) / n for k in (1, 5, 10)}
        | {"median_rank": (n + 1) / 2, "mrr": harmonic / n, "map": harmonic / n}
    )


@pytest.mark.parametrize(("n", "p"), [(5, 2), (9, 3), (6, 6), (1, 1)])
def test_all_rankings_counted(n, p):
    """The mean over all ways to place the positives."""
    from itertools import combinations

    places = np.array(list(combinations(range(1, n + 1), p)))
    precision = (np.arange(1, p + 1) / places).mean(axis=1)
    found = ranking_chance(np.array([n]), np.array([p]))
    assert found["map"] == pytest.approx(precision.mean())
    assert found["mrr"] == pytest.approx((1 / places[:, 0]).mean())
    assert found["median_rank"] == np.median(places[:, 0])


def test_queries_of_different_sizes_are_averaged():
    of_each = [chance_average_precision(np.array([n]), np.array([p])) for n, p in [(9, 2), (4, 1)]]
    both = chance_average_precision(np.array([9, 4]), np.array([2, 1]))
    assert both == pytest.approx(np.mean(of_each))
