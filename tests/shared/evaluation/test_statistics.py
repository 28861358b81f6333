import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest, ttest_1samp
from scipy.stats import t as student
from sklearn.metrics import roc_auc_score

from shared.errors import EvaluationError
from shared.evaluation import statistics
from shared.evaluation.calibration import wilson_interval
from shared.evaluation.metrics import METRICS
from shared.evaluation.outcomes import (
    ClassOutcome,
    ClusterOutcome,
    RankOutcome,
    ScalarOutcome,
    SeededOutcome,
    ValueOutcome,
)
from shared.evaluation.statistics import (
    bootstrap,
    draw_weights,
    holm,
    mcnemar,
    paired_difference,
)

CLASSES = ("a", "b")


def names(n):
    return np.array([f"g{i:05d}" for i in range(n)])


def classes(rng, n, distance=1.5):
    """Two classes, the classifier's probability of the second a logistic function of a score."""
    truth = rng.integers(2, size=n)
    p = 1 / (1 + np.exp(-distance * (truth - 0.5) - rng.normal(size=n)))
    return ClassOutcome(truth, (p > 0.5).astype(int), CLASSES, np.stack([1 - p, p], axis=1))


def shares(right):
    """An outcome whose accuracy is the share of these."""
    right = np.asarray(right, dtype=int)
    return ClassOutcome(np.ones(len(right), int), right, CLASSES)


def ends(found, outcome, metric):
    i = outcome.metrics.index(metric)
    return found.low[i], found.high[i]


def logit(p):
    return np.log(p / (1 - p))


def test_shares_of_independent_rows_have_wilsons_interval():
    outcome = shares(np.arange(400) < 300)
    found = ends(bootstrap(outcome, names(400), n_resamples=5000), outcome, "accuracy")
    expected = binomtest(300, 400).proportion_ci(method="wilson")
    assert found == pytest.approx((expected.low, expected.high), abs=0.001)


def test_rows_that_agree_within_groups_count_as_one():
    right = np.arange(100) < 75
    single = bootstrap(shares(right), names(100))
    copied = bootstrap(shares(right.repeat(4)), names(100).repeat(4))
    assert copied.low[0] == pytest.approx(single.low[0])
    assert copied.high[0] == pytest.approx(single.high[0])


def test_the_standard_error_is_that_of_a_loop_over_scikit_learn():
    outcome = classes(np.random.default_rng(0), 60)
    found = bootstrap(outcome, names(60), n_resamples=100)
    (weights,) = draw_weights(np.arange(60), 60, 100, seed=0)
    rows = [np.repeat(np.arange(60), w.astype(int)) for w in weights.T]
    loop = [roc_auc_score(outcome.truth[r], outcome.probabilities[r, 1]) for r in rows]
    value = outcome.values()[outcome.metrics.index("auroc")]
    half = student.ppf(0.975, 59) * np.std(loop, ddof=1) / (value * (1 - value))
    low, high = ends(found, outcome, "auroc")
    assert logit(low) == pytest.approx(logit(value) - half)
    assert logit(high) == pytest.approx(logit(value) + half)


def test_median_ranks_have_percentiles_of_the_draws():
    outcome = RankOutcome(np.random.default_rng(0).integers(1, 9, size=60), 20)
    (weights,) = draw_weights(np.arange(60), 60, 500, seed=0)
    draws = outcome.statistic(weights.T)[:, outcome.metrics.index("median_rank")]
    found = ends(bootstrap(outcome, names(60), n_resamples=500), outcome, "median_rank")
    assert found == pytest.approx(tuple(np.quantile(draws, [0.025, 0.975])))


def test_coverage_is_near_nominal():
    """The table of coverage is made by benchmarks/coverage.py."""
    rng = np.random.default_rng(1)
    held = []
    for trial in range(200):
        outcome = classes(rng, 100, distance=1.0)
        found = bootstrap(outcome, names(100), n_resamples=100, seed=trial)
        low, high = ends(found, outcome, "auroc")
        held.append(low <= 0.7602 <= high)  # Φ(1 / √2)
    assert 0.89 <= np.mean(held) <= 0.99


def test_intervals_stay_in_the_range_of_the_metric():
    rng = np.random.default_rng(0)
    for n in (5, 20):
        values = rng.normal(size=n)
        close = ValueOutcome(values, values + 0.1 * rng.normal(size=n))
        for outcome in (classes(rng, n, 6.0), close):
            found = bootstrap(outcome, names(n))
            there = ~np.isnan(found.low)
            errors = [METRICS[metric].scale == "log" for metric in outcome.metrics]
            assert (found.high[there & ~np.array(errors)] <= 1.0).all()
            assert (found.low[there] <= outcome.values()[there]).all()
            assert (found.high[there] >= outcome.values()[there]).all()


@pytest.mark.parametrize("seed", range(5))
def test_a_few_rows_do_not_lead_out_of_the_range(seed):
    """Calibration error and mutual information of three rows, whose t is 4.3."""
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(3), size=3)
    judged = ClassOutcome(np.arange(3), p.argmax(axis=1), ("a", "b", "c"), p)
    clusters = ClusterOutcome(np.array([0, 0, 1]), np.array([0, 1, 2]), CLASSES)
    for outcome, metric, most in (
        (judged, "ece", 1.0), (judged, "brier", 2.0), (clusters, "nmi", 1.0)
    ):  # fmt: skip
        low, high = ends(bootstrap(outcome, names(3)), outcome, metric)
        assert 0 <= low <= high <= most


def test_an_interval_that_says_nothing_is_missing():
    """R² of draws whose rows are nearly alike is minus billions."""
    truth = np.array([1.0, 1.0 + 1e-6, 2.0])
    outcome = ValueOutcome(truth, np.array([1.5, 0.5, 1.0]))
    found = bootstrap(outcome, names(3))
    assert np.isnan(found.low[0])
    assert found.missing["r2"] == "the draws scatter too widely"
    assert np.isfinite(found.low[outcome.metrics.index("rmse")])


def test_copies_in_a_group_do_not_narrow_the_interval():
    outcome = classes(np.random.default_rng(0), 50)
    copied = outcome.take(np.repeat(np.arange(50), 10))
    single = bootstrap(outcome, names(50))
    grouped = bootstrap(copied, np.repeat(names(50), 10))
    apart = bootstrap(copied, names(500))
    assert grouped.low[0] == pytest.approx(single.low[0])
    assert apart.high[0] - apart.low[0] < 0.5 * (grouped.high[0] - grouped.low[0])
    assert grouped.n_groups == 50


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 40), st.integers(0, 10**6))
def test_row_order_does_not_matter(n, seed):
    rng = np.random.default_rng(seed)
    outcome, groups, order = (
        classes(rng, n),
        names(n // 2 + 1)[np.arange(n) // 2],
        rng.permutation(n),
    )
    first = bootstrap(outcome, groups, n_resamples=50)
    second = bootstrap(outcome.take(order), groups[order], n_resamples=50)
    for a, b in ((first.low, second.low), (first.high, second.high)):
        if a is not None:
            np.testing.assert_allclose(a, b, atol=1e-9)


def test_memory_blocks_keep_every_draw(monkeypatch):
    (whole,) = draw_weights(np.arange(30) // 3, 10, 100, seed=4)
    assert (whole.sum(axis=0) == 30).all()
    monkeypatch.setattr(statistics, "_BLOCK_ELEMENTS", 30 * 7)
    blocks = list(draw_weights(np.arange(30) // 3, 10, 100, seed=4))
    assert max(block.shape[1] for block in blocks) == 7
    assert (np.concatenate(blocks, axis=1) == whole).all()


def test_the_seed_decides():
    outcome = classes(np.random.default_rng(0), 50)
    a, b, c = (bootstrap(outcome, names(50), seed=s).low for s in (0, 0, 1))
    assert a.tolist() == b.tolist()
    assert a[0] != c[0]


@pytest.mark.parametrize("right", [True, False])
def test_all_right_is_not_certainty(right):
    outcome = shares([right] * 40)
    found = bootstrap(outcome, names(20).repeat(2))
    low, high = wilson_interval(float(right), 20, df=19)
    assert ends(found, outcome, "accuracy") == pytest.approx((low, high))
    assert high - low > 0.1
    assert np.isnan(found.low[outcome.metrics.index("balanced_accuracy")])
    assert "the same" in found.missing["balanced_accuracy"]


def test_draws_without_a_value_are_counted():
    truth = np.array([1] + [0] * 19)
    p = np.linspace(0.2, 0.8, 20)
    outcome = ClassOutcome(truth, truth, CLASSES, np.stack([1 - p, p], axis=1))
    found = bootstrap(outcome, names(20))
    i = outcome.metrics.index("auroc")
    assert found.undefined[i] == pytest.approx((19 / 20) ** 20, abs=0.05)  # the one is not drawn
    assert found.undefined[0] == 0
    several = SeededOutcome((outcome, outcome), (0, 1))
    assert bootstrap(several, names(20)).undefined[i] == found.undefined[i]


def test_a_metric_without_a_value_has_no_interval():
    outcome = ValueOutcome(np.ones(9), np.arange(9.0))
    found = bootstrap(outcome, names(9))
    assert found.missing["r2"] == "all true values are equal"
    assert np.isnan(found.low[0])
    assert np.isfinite(found.low[outcome.metrics.index("rmse")])


@pytest.mark.parametrize(
    ("outcome", "groups", "n_resamples", "reason"),
    [
        (shares([0, 1, 1]), np.repeat("a", 3), 100, "one group"),
        (shares([0, 1, 1]), names(3), 0, "no resamples"),
        (shares([]), names(0), 100, "no test rows"),
        (ScalarOutcome({"uniformity": -1.0}, 3), names(3), 100, "the set as a whole"),
    ],
)
def test_no_interval_where_nothing_is_resampled(outcome, groups, n_resamples, reason):
    found = bootstrap(outcome, groups, n_resamples=n_resamples)
    assert found.low is None
    assert found.high is None
    assert found.method.startswith("none: ")
    assert reason in found.method


def test_groups_and_rows_have_one_number():
    with pytest.raises(EvaluationError, match="2 groups of 3 rows"):
        bootstrap(shares([0, 1, 1]), names(2))


def seeded(rng, n, spread):
    truth = np.ones(n, int)
    chances = 0.7 + spread * np.array([-1, 0, 1])
    parts = [ClassOutcome(truth, (rng.random(n) < p).astype(int), CLASSES) for p in chances]
    return SeededOutcome(tuple(parts), (0, 1, 2))


def test_the_spread_of_seeds_widens_the_interval():
    rng = np.random.default_rng(0)
    outcome = seeded(rng, 2000, 0.1)
    low, high = ends(bootstrap(outcome, names(2000)), outcome, "accuracy")
    values = [part.values()[0] for part in outcome.outcomes]
    over_seeds = ttest_1samp(values, 0).confidence_interval(0.95)
    assert high - low == pytest.approx(over_seeds.high - over_seeds.low, rel=0.15)
    alike = SeededOutcome(outcome.outcomes[:1] * 3, (0, 1, 2))
    one = bootstrap(outcome.outcomes[0], names(2000))
    assert bootstrap(alike, names(2000)).low == pytest.approx(one.low)
    single = bootstrap(SeededOutcome(outcome.outcomes[:1], (0,)), names(2000))
    assert single.low == pytest.approx(one.low)
    assert "1 seeds" not in single.method


def test_a_difference_has_its_sign_and_turns_with_the_order():
    rng = np.random.default_rng(0)
    a = classes(rng, 300, 1.0)
    p = 0.9 * a.truth + 0.05
    b = ClassOutcome(a.truth, a.truth, CLASSES, np.stack([1 - p, p], axis=1))
    forth, back = paired_difference(a, b, names(300)), paired_difference(b, a, names(300))
    assert forth.metrics == a.metrics
    np.testing.assert_allclose(forth.difference, b.values() - a.values())
    np.testing.assert_allclose(forth.low, -back.high)
    np.testing.assert_allclose(forth.p_value, back.p_value)
    assert forth.p_value[0] < 1e-6
    assert forth.low[0] > 0


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10**6), st.sampled_from([0.8, 0.95]))
def test_p_and_interval_say_the_same(seed, level):
    rng = np.random.default_rng(seed)
    a, other = classes(rng, 40), classes(rng, 40, 2.5)
    b = ClassOutcome(a.truth, other.predicted, CLASSES, other.probabilities)
    found = paired_difference(a, b, names(40), n_resamples=50, level=level)
    outside = (found.low > 0) | (found.high < 0)
    assert (outside == (found.p_value < 1 - level)).all()


def test_a_difference_stays_in_its_range():
    found = paired_difference(shares([0, 0, 1]), shares([1, 1, 1]), names(3))
    assert found.difference[0] == pytest.approx(2 / 3)
    assert found.high[0] == 1.0
    assert found.low[0] >= -1.0


def test_pairing_narrows_the_interval_of_models_that_err_alike():
    rng = np.random.default_rng(0)
    right = rng.random(500) < 0.7
    a, b = shares(right), shares(right ^ (rng.random(500) < 0.02))
    paired = paired_difference(a, b, names(500))
    alone = bootstrap(a, names(500))
    assert paired.high[0] - paired.low[0] < 0.6 * (alone.high[0] - alone.low[0])


def test_models_that_never_differ_are_not_proven_equal():
    a = shares(np.arange(50) < 30)
    found = paired_difference(a, a, names(50))
    assert found.difference[0] == 0
    assert found.p_value[0] == pytest.approx(1.0)
    assert 0 < found.high[0] < 0.1
    assert found.missing["balanced_accuracy"] == "every draw gives the same"


def test_rounding_is_no_difference():
    a = classes(np.random.default_rng(0), 50)
    b = ClassOutcome(a.truth, a.predicted, CLASSES, np.add(a.probabilities, [[1e-17, -1e-17]]))
    found = paired_difference(a, b, names(50))
    assert found.metrics[3:] == ("auroc", "log_loss", "brier", "ece")
    assert not (found.p_value < 1).any()


def test_a_handful_of_rows_is_no_proof():
    """Five rows for b and none for a: McNemar's exact p is 1/16."""
    a, b = np.arange(200) >= 5, np.ones(200, bool)
    assert mcnemar(a, b) == pytest.approx(0.0625)
    assert mcnemar(a, a) == 1.0
    assert paired_difference(shares(a), shares(b), names(200)).p_value[0] > 0.05
    a = np.arange(200) >= 15
    assert paired_difference(shares(a), shares(b), names(200)).p_value[0] < 0.01


def test_equal_models_are_seldom_called_different():
    rng = np.random.default_rng(0)
    found = []
    for trial in range(200):
        common = rng.random(80) < 0.6
        a, b = (shares(common ^ (rng.random(80) < 0.15)) for _ in range(2))
        found.append(paired_difference(a, b, names(80), n_resamples=60, seed=trial).p_value[0])
    assert np.mean(np.array(found) < 0.05) < 0.1


def test_shared_seeds_are_paired_and_others_are_not():
    rng = np.random.default_rng(0)
    a = seeded(rng, 1000, 0.1)
    b = SeededOutcome(
        tuple(shares(o.predicted | (rng.random(1000) < 0.1)) for o in a.outcomes), a.seeds
    )
    paired = paired_difference(a, b, names(1000))
    apart = paired_difference(a, SeededOutcome(b.outcomes, (5, 6, 7)), names(1000))
    assert paired.difference[0] == apart.difference[0]
    assert paired.high[0] - paired.low[0] < 0.5 * (apart.high[0] - apart.low[0])
    mixed = paired_difference(a, b.outcomes[0], names(1000))
    assert np.isfinite(mixed.p_value[0])


def test_only_metrics_of_both_are_compared():
    rng = np.random.default_rng(0)
    a = classes(rng, 30)
    b = ClassOutcome(a.truth, a.predicted, CLASSES)
    assert paired_difference(a, b, names(30)).metrics == b.metrics
    with pytest.raises(EvaluationError, match="the same rows of the same kind"):
        paired_difference(a, b.take(np.arange(5)), names(30))
    with pytest.raises(EvaluationError, match="30 rows of classes and 30 of ranks"):
        paired_difference(a, RankOutcome(np.ones(30, int), 40), names(30))
    one_group = paired_difference(a, a, np.repeat("g", 30))
    assert np.isnan(one_group.p_value).all()
    assert set(one_group.missing) == set(a.metrics)


def test_holm_by_hand():
    adjusted = holm([0.01, 0.04, np.nan, 0.03, 0.5])
    assert adjusted[[0, 1, 3, 4]] == pytest.approx([0.04, 0.09, 0.09, 0.5])
    assert np.isnan(adjusted[2])
    assert holm([]).shape == (0,)
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_keeps_the_order_and_never_lowers_a_p(p):
    adjusted = holm(p)
    assert (adjusted >= np.array(p)).all()
    assert (adjusted[np.argsort(p)] == np.sort(adjusted)).all()
