"""Periods that are known, found again."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domains.astro.period import lomb_scargle_period
from shared.errors import DataError

LOG_PERIODS = st.floats(np.log10(0.15), np.log10(30))


def sinusoid(period: float, seed: int, n: int = 100, span: float = 200) -> np.ndarray:
    """(3, n): nightly times with gaps, flux, error."""
    rng = np.random.default_rng(seed)
    time = 2458000 + rng.uniform(0, span, n)
    flux = 10 + np.sin(2 * np.pi * time / period + rng.uniform(0, 6)) + rng.normal(0, 0.15, n)
    return np.stack([time, flux, np.full(n, 0.15)])


@settings(max_examples=20)
@given(log_period=LOG_PERIODS, seed=st.integers(0, 1000))
def test_sinusoids_within_a_hundredth(log_period: float, seed: int) -> None:
    period = 10**log_period
    assert lomb_scargle_period(*sinusoid(period, seed)) == pytest.approx(period, rel=0.01)


@settings(max_examples=10)
@given(
    period=st.floats(0.4, 0.8),
    seed=st.integers(0, 1000),
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-1e4, 1e4),
)
def test_rr_lyrae_within_a_hundredth_in_any_order_unit_and_epoch(
    period: float, seed: int, scale: float, shift: float
) -> None:
    rng = np.random.default_rng(seed)
    time = rng.uniform(0, 300, 150)
    phase = time / period % 1
    # a rise over a seventh of the cycle, then a slow fall
    flux = np.where(phase < 0.15, phase / 0.15, (1 - phase) / 0.85)
    flux = 2 + flux + rng.normal(0, 0.03, len(time))
    error = np.full(len(time), 0.03)
    found = lomb_scargle_period(time, flux, error)
    assert found == pytest.approx(period, rel=0.01)
    order = rng.permutation(len(time))
    moved = (time[order] + shift, flux[order] * scale, error[order] * scale)
    assert lomb_scargle_period(*moved) == pytest.approx(found, rel=1e-4)


def test_long_periods_are_refined_between_the_frequencies_of_the_grid() -> None:
    time, flux, error = sinusoid(41.0, 0, n=400, span=250)
    assert lomb_scargle_period(time, flux, error) == pytest.approx(41.0, rel=0.01)


def test_shorter_periods_by_another_limit() -> None:
    curve = sinusoid(0.06, 3)
    assert lomb_scargle_period(*curve, shortest=0.04) == pytest.approx(0.06, rel=0.01)
    assert lomb_scargle_period(*curve) > 0.1 - 1e-6


def test_what_has_no_period_is_named() -> None:
    time, flux, error = sinusoid(0.5, 0)
    for arrays, says in (
        ((time[:4], flux[:4], error[:4]), "needs 5 observations, there are 4"),
        ((np.full(9, 3.0), flux[:9], error[:9]), "these span 0 d"),
        ((time, np.ones(100), error), "all values are equal"),
        ((time, np.where(time > time.mean(), np.nan, flux), error), "finite"),
        ((time, flux, -error), "above 0"),
        ((time * 1e6, flux, error), "Are the times in d"),
    ):
        with pytest.raises(DataError, match=says):
            lomb_scargle_period(*arrays)
