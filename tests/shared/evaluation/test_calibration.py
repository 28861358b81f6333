import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax, softmax
from scipy.stats import binomtest

from shared.errors import EvaluationError
from shared.evaluation.calibration import (
    TEMPERATURES,
    fit_temperature,
    reliability,
    wilson_interval,
)


def drawn(n, temperature, seed=0, n_classes=4):
    """Logits whose labels follow softmax(logits / temperature)."""
    rng = np.random.default_rng(seed)
    logits = 3 * rng.normal(size=(n, n_classes))
    p = softmax(logits / temperature, axis=1)
    return logits, (p.cumsum(axis=1) < rng.random((n, 1))).sum(axis=1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_the_temperature_that_made_the_labels_is_found(temperature):
    logits, truth = drawn(20_000, temperature)
    assert fit_temperature(logits, truth) == pytest.approx(temperature, rel=0.05)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.integers(5, 60), st.floats(0.3, 3))
def test_no_other_temperature_has_a_smaller_loss(seed, n, temperature):
    logits, truth = drawn(n, temperature, seed)

    def loss(t):
        return -log_softmax(logits / t, axis=1)[np.arange(n), truth].mean()

    if (logits.argmax(axis=1) == truth).all():
        return  # no temperature is the best
    found = minimize_scalar(loss, bounds=TEMPERATURES, method="bounded", options={"xatol": 1e-9})
    assert loss(fit_temperature(logits, truth)) <= found.fun + 1e-9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.2, 5))
def test_a_scale_goes_into_the_temperature_and_a_shift_nowhere(seed, scale):
    logits, truth = drawn(200, 1.0, seed)
    shift = np.random.default_rng(seed).normal(size=(200, 1))
    expected = scale * fit_temperature(logits, truth)
    assert fit_temperature(scale * logits + shift, truth) == pytest.approx(expected, rel=1e-6)


def test_where_no_temperature_is_best_it_is_a_bound():
    logits, truth = np.eye(3)[[0, 1, 2, 0]], np.array([0, 1, 2, 0])
    assert fit_temperature(logits, truth) == 1.0
    assert fit_temperature(-logits, truth) == TEMPERATURES[1]
    assert fit_temperature(np.ones((4, 3)), truth) == 1.0
    assert fit_temperature(np.zeros((4, 1)), np.zeros(4, dtype=int)) == 1.0


def test_logits_that_do_not_fit_are_refused():
    with pytest.raises(EvaluationError, match="n > 0"):
        fit_temperature(np.empty((0, 3)), np.empty(0, dtype=int))
    with pytest.raises(EvaluationError, match="there are 2 classes"):
        fit_temperature(np.ones((1, 2)), np.array([2]))
    with pytest.raises(EvaluationError, match="NaN"):
        fit_temperature(np.array([[1.0, np.nan]]), np.array([0]))


def test_reliability_by_hand():
    p = np.array([[0.95, 0.05], [0.05, 0.95], [0.6, 0.4], [0.5, 0.5]])
    bins = reliability(p, np.array([0, 0, 0, 1]), n_bins=5)
    assert bins.count.tolist() == [0, 0, 2, 0, 2]  # 0.6 closes the third bin
    np.testing.assert_allclose(bins.confidence, [np.nan, np.nan, 0.55, np.nan, 0.95])
    np.testing.assert_allclose(bins.accuracy, [np.nan, np.nan, 0.5, np.nan, 0.5])
    assert np.isnan(bins.low[0])
    assert bins.edges.tolist() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])


@given(st.integers(1, 200).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_intervals_are_scipys(counts):
    k, n = counts
    low, high = wilson_interval(np.array([k / n]), np.array([n]))
    expected = binomtest(k, n).proportion_ci(method="wilson")
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), abs=1e-12)
