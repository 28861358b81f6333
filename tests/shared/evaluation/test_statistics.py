import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.evaluation import statistics
from shared.evaluation.statistics import bootstrap_interval


def mean_of(values):
    return lambda weights: (weights @ values / weights.sum(axis=1))[:, None]


def names(n):
    return np.array([f"g{i:04d}" for i in range(n)])


def test_interval_of_a_mean_is_close_to_the_normal_one():
    values = np.random.default_rng(0).normal(size=400)
    interval = bootstrap_interval(mean_of(values), names(400), n_resamples=4000)
    half = 1.96 * values.std() / 20
    assert interval.low[0] == pytest.approx(values.mean() - half, abs=0.01)
    assert interval.high[0] == pytest.approx(values.mean() + half, abs=0.01)
    assert "4000 resamples of 400 groups" in interval.method


def test_coverage_is_near_nominal():
    rng = np.random.default_rng(1)
    covered = 0
    for trial in range(200):
        hits = (rng.random(100) < 0.7).astype(float)
        interval = bootstrap_interval(mean_of(hits), names(100), n_resamples=300, seed=trial)
        covered += interval.low[0] <= 0.7 <= interval.high[0]
    assert 0.88 <= covered / 200 <= 0.99


def test_copies_in_a_group_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=50)
    single = bootstrap_interval(mean_of(values), names(50))
    copied = bootstrap_interval(mean_of(np.repeat(values, 10)), np.repeat(names(50), 10))
    apart = bootstrap_interval(mean_of(np.repeat(values, 10)), names(500))
    assert copied.low == pytest.approx(single.low)
    assert copied.high == pytest.approx(single.high)
    assert apart.high - apart.low < 0.5 * (copied.high - copied.low)


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.randoms(use_true_random=False))
def test_row_order_does_not_matter(n, random):
    rng = np.random.default_rng(n)
    values, groups = rng.normal(size=n), names(n)
    order = np.array(random.sample(range(n), n))
    first = bootstrap_interval(mean_of(values), groups, n_resamples=50)
    second = bootstrap_interval(mean_of(values[order]), groups[order], n_resamples=50)
    assert second.low == pytest.approx(first.low)
    assert second.high == pytest.approx(first.high)


def test_memory_blocks_keep_every_resample(monkeypatch):
    seen = []

    def statistic(weights):
        seen.append(len(weights))
        assert (weights.sum(axis=1) == 30).all()
        return weights[:, :1]

    monkeypatch.setattr(statistics, "_BLOCK_ELEMENTS", 30 * 7)
    bootstrap_interval(statistic, names(30), n_resamples=100)
    assert sum(seen) == 100
    assert max(seen) == 7


def test_the_seed_decides():
    values = np.random.default_rng(0).normal(size=50)
    a, b, c = (bootstrap_interval(mean_of(values), names(50), seed=s) for s in (0, 0, 1))
    assert a.low == b.low
    assert a.low != c.low


@pytest.mark.parametrize(
    ("groups", "n_resamples", "reason"),
    [(np.repeat("a", 9), 100, "one group"), (names(9), 0, "no resamples")],
)
def test_no_interval_where_nothing_is_resampled(groups, n_resamples, reason):
    interval = bootstrap_interval(mean_of(np.arange(9.0)), groups, n_resamples=n_resamples)
    assert interval.low is None
    assert interval.high is None
    assert reason in interval.method
