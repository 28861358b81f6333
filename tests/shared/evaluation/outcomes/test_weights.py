"""What every kind of outcome promises of its metrics under weights."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import EvaluationError
from shared.evaluation.metrics import METRICS
from shared.evaluation.outcomes import KINDS, ScalarOutcome, SeededOutcome


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30))
def test_weights_are_repeated_rows(make, seed, n):
    rng = np.random.default_rng(seed)
    outcome = make(rng, n)
    weights = rng.multinomial(n, np.ones(n) / n, size=4)
    repeated = [outcome.take(np.repeat(np.arange(n), w)).values() for w in weights]
    np.testing.assert_allclose(outcome.statistic(weights.astype(float)), repeated, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(1, 30))
def test_order_of_rows_and_blocks_of_draws_do_not_matter(make, seed, n):
    rng = np.random.default_rng(seed)
    outcome, order = make(rng, n), rng.permutation(n)
    weights = rng.integers(0, 3, size=(5, n)).astype(float)
    whole = outcome.statistic(weights)
    shuffled = outcome.take(order).statistic(weights[:, order])
    np.testing.assert_allclose(shuffled, whole, atol=1e-9)
    np.testing.assert_allclose([outcome.statistic(w[None])[0] for w in weights], whole, atol=1e-9)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 10**6), n=st.integers(0, 12))
def test_what_has_no_value_has_a_reason(make, seed, n):
    outcome = make(np.random.default_rng(seed), n)
    missing = {m for m, v in zip(outcome.metrics, outcome.values(), strict=True) if np.isnan(v)}
    assert missing == set(outcome.reasons())
    assert not np.isinf(outcome.values()).any()


def test_no_draw_of_any_row_has_no_value(make):
    outcome = make(np.random.default_rng(0), 9)
    assert np.isnan(outcome.statistic(np.zeros((2, 9)))).all()


def test_metrics_are_known_by_name(make):
    outcome = make(np.random.default_rng(0))
    assert set(outcome.metrics) <= set(METRICS)
    assert outcome.values().shape == (len(outcome.metrics),)
    assert KINDS[outcome.kind] is type(outcome)


def test_columns_tell_the_outcome(make):
    outcome = make(np.random.default_rng(0))
    same = type(outcome).from_columns(outcome.columns(), outcome.meta())
    assert (same.values() == outcome.values()).all()
    assert same.metrics == outcome.metrics


def test_scalars_are_of_the_whole_set():
    outcome = ScalarOutcome({"uniformity": -2.0}, 7, {"alignment": "one modality"})
    assert outcome.metrics == ("uniformity", "alignment")
    np.testing.assert_array_equal(outcome.values(), [-2.0, np.nan])
    assert not outcome.resampled
    part = outcome.take(np.arange(3))
    assert np.isnan(part.values()).all()
    assert set(part.reasons()) == {"uniformity", "alignment"}
    with pytest.raises(EvaluationError, match="say why"):
        ScalarOutcome({"uniformity": float("nan")}, 7)


def test_seeds_are_averaged(make):
    rng = np.random.default_rng(0)
    one = make(rng, 20)
    if isinstance(one, SeededOutcome):
        with pytest.raises(EvaluationError, match="one kind"):
            SeededOutcome((one,), (0,))
        return
    two = one.take(rng.permutation(20))
    both = SeededOutcome((one, two), (0, 1))
    weights = rng.integers(0, 3, size=(4, 20)).astype(float)
    mean = (one.statistic(weights) + two.statistic(weights)) / 2
    np.testing.assert_allclose(both.statistic(weights), mean)
    assert both.metrics == one.metrics
    with pytest.raises(EvaluationError, match="same rows"):
        SeededOutcome((one, two.take(np.arange(5))), (0, 1))
    with pytest.raises(EvaluationError, match="one each"):
        SeededOutcome((one, two), (0,))
