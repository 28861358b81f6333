import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, logsumexp
from sklearn.linear_model import LogisticRegression

from shared.errors import EvaluationError
from shared.evaluation.solvers import path as path_module
from shared.evaluation.solvers.logistic import fit_binary, fit_logistic

GRID = (10.0, 1.0, 0.1, 1e-2, 1e-3, 1e-4)


def objective(x, y, coef, intercept, l2, weights=None):
    logits = x @ coef + intercept
    loss = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
    # Two classes have one vector of coefficients: the difference.
    free = np.diff(coef, axis=1) if coef.shape[1] == 2 else coef
    return np.average(loss, weights=weights) + l2 / 2 * (free**2).sum()


def reference(x, y, l2, weights=None):
    """Coefficients and intercepts of scikit-learn, a column a class."""
    total = len(y) if weights is None else weights.sum()
    model = LogisticRegression(C=1 / (l2 * total), tol=1e-10, max_iter=100_000)
    model.fit(x, y, sample_weight=weights)
    coef, intercept = model.coef_.T, model.intercept_
    if coef.shape[1] == 2 or len(model.classes_) > 2:
        return coef, intercept
    return np.hstack([-coef, coef]) / 2, np.hstack([-intercept, intercept]) / 2


def check(x, y, l2s=GRID, weights=None, coefficients=1e-3):
    n_classes = y.max() + 1
    fits = fit_logistic(x, y, n_classes, l2s, weights=weights, tol=1e-10)
    assert fits.converged.all()
    for i, l2 in enumerate(l2s):
        coef, intercept = reference(x, y, l2, weights)
        ours = objective(x, y, fits.coef[i], fits.intercept[i], l2, weights)
        assert ours == pytest.approx(objective(x, y, coef, intercept, l2, weights), rel=1e-6)
        scale = max(np.abs(coef).max(), 1e-12)
        assert np.abs(fits.coef[i] - coef).max() < coefficients * scale
        logits = x @ coef + intercept
        ours = x @ fits.coef[i] + fits.intercept[i]
        decided = np.diff(np.sort(logits, axis=1)[:, -2:], axis=1)[:, 0] > 1e-3 * np.ptp(logits)
        np.testing.assert_array_equal(ours.argmax(1)[decided], logits.argmax(1)[decided])
    return fits


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize("n_classes", [2, 3, 5])
def test_random(rng, n_classes):
    check(rng.normal(size=(200, 12)), rng.integers(n_classes, size=200))


def test_separable(rng):
    x = rng.normal(size=(150, 8))
    check(x, (x[:, 0] > 0).astype(int) + (x[:, 1] > 0))


def test_collinear_and_constant_columns(rng):
    x = rng.normal(size=(150, 8))
    x = np.hstack([x, x[:, :3], np.full((150, 1), 7.0)])
    fits = check(x, rng.integers(3, size=150))
    np.testing.assert_allclose(fits.coef[:, :3], fits.coef[:, 8:11], atol=1e-5)
    np.testing.assert_allclose(fits.coef[:, 11], 0, atol=1e-12)


def test_more_columns_than_rows(rng):
    check(rng.normal(size=(40, 90)), rng.integers(4, size=40), GRID[:-1])


def test_class_with_one_row(rng):
    y = rng.integers(3, size=60)
    y[0] = 3
    check(rng.normal(size=(60, 10)), y, GRID[:-1])


@pytest.mark.parametrize("l2", [1e8, 1e-9])
def test_extreme_strengths(rng, l2):
    check(rng.normal(size=(200, 6)), rng.integers(3, size=200), [l2])


def test_badly_scaled_columns(rng):
    x = rng.normal(size=(150, 6)) * 10.0 ** np.arange(-3, 3) + 5
    y = rng.integers(3, size=150)
    fits = fit_logistic(x, y, 3, GRID, tol=1e-10)
    assert fits.converged.all()
    for i, l2 in enumerate(GRID):
        # L-BFGS takes its time here; Newton's method does not.
        model = LogisticRegression(C=1 / (l2 * 150), tol=1e-10, solver="newton-cholesky").fit(x, y)
        best = objective(x, y, model.coef_.T, model.intercept_, l2)
        ours = objective(x, y, fits.coef[i], fits.intercept[i], l2)
        assert ours == pytest.approx(best, rel=1e-6)


def test_collinear_bits_at_the_default_tolerance(rng):
    """Separable, and half of the columns near copies of the others."""
    x = (rng.normal(size=(200, 8)) @ rng.normal(size=(8, 150)) > 2).astype(float)
    x = np.hstack([x, np.maximum(x, np.roll(x, 1, axis=1)), x[:, :50]])
    y = (x[:, :40].sum(axis=1) + 3 * rng.normal(size=200) > x[:, :40].sum(axis=1).mean()).astype(
        int
    )
    l2s = (1e-2, 1e-4, 1e-6)
    fits = fit_logistic(x, y, 2, l2s)
    for i, l2 in enumerate(l2s):
        model = LogisticRegression(C=1 / (l2 * 200), tol=1e-9, solver="newton-cholesky").fit(x, y)
        coef, intercept = (np.hstack([-a, a]) / 2 for a in (model.coef_.T, model.intercept_))
        best = objective(x, y, coef, intercept, l2)
        ours = objective(x, y, fits.coef[i], fits.intercept[i], l2)
        assert ours == pytest.approx(best, rel=1e-3)


def test_weights(rng):
    x, y = rng.normal(size=(120, 6)), rng.integers(3, size=120)
    weights = rng.integers(0, 4, size=120).astype(float)
    check(x, y, weights=weights)
    rows = np.repeat(np.arange(120), weights.astype(int))
    drawn = fit_logistic(x[rows], y[rows], 3, GRID, tol=1e-10)
    weighted = fit_logistic(x, y, 3, GRID, tol=1e-10, weights=weights)
    np.testing.assert_allclose(weighted.coef, drawn.coef, atol=1e-4)


def test_class_without_rows_has_no_probability(rng):
    x, y = rng.normal(size=(50, 5)), 2 * rng.integers(2, size=50)
    fits = fit_logistic(x, y, 4, [0.1])
    chance = fits.probabilities(x)[0]
    np.testing.assert_array_equal(chance[:, [1, 3]], 0)
    np.testing.assert_allclose(chance.sum(axis=1), 1)
    two = fit_logistic(x, y // 2, 2, [0.1])
    np.testing.assert_allclose(chance[:, [0, 2]], two.probabilities(x)[0])


def test_single_class_and_no_information(rng):
    x = rng.normal(size=(20, 3))
    one = fit_logistic(x, np.zeros(20, int), 1, GRID)
    assert one.converged.all()
    np.testing.assert_array_equal(one.probabilities(x), 1)
    y = np.arange(20) % 3
    constant = fit_logistic(np.ones((20, 3)), y, 3, GRID)
    assert constant.converged.all()
    frequency = np.broadcast_to(np.bincount(y) / 20, (6, 20, 3))
    np.testing.assert_allclose(constant.probabilities(np.ones((20, 3))), frequency)


def test_grid_gives_what_each_strength_gives_in_any_order(rng):
    x, y = rng.normal(size=(200, 10)), rng.integers(3, size=200)
    grid = np.logspace(2, -6, 23)
    rng.shuffle(grid)
    grid = np.append(grid, grid[:2])
    fits = fit_logistic(x, y, 3, grid, tol=1e-10)
    np.testing.assert_array_equal(fits.l2, grid)
    for i, l2 in enumerate(grid):
        alone = fit_logistic(x, y, 3, [l2], tol=1e-10)
        np.testing.assert_allclose(fits.coef[i], alone.coef[0], atol=1e-4)
    np.testing.assert_array_equal(fits.coef[:2], fits.coef[-2:])


def test_start_does_not_move_the_optimum(rng):
    x = rng.normal(size=(200, 10))
    for n_classes in (2, 3):
        y = rng.integers(n_classes, size=200)
        cold = fit_logistic(x, y, n_classes, [1e-3], tol=1e-10)
        warm = fit_logistic(x[:150], y[:150], n_classes, [1e-3, 1.0])
        warm = fit_logistic(x, y, n_classes, [1e-3], start=warm.at(0), tol=1e-10)
        np.testing.assert_allclose(warm.coef, cold.coef, atol=1e-4)
        again = fit_logistic(x, y, n_classes, [1e-3], start=cold, tol=1e-8)
        assert again.evaluations[0] == 1


def test_float32_comes_close(rng):
    x, y = rng.normal(size=(400, 20)), rng.integers(4, size=400)
    single = fit_logistic(x, y, 4, GRID, dtype=np.float32)
    double = fit_logistic(x, y, 4, GRID, tol=1e-10)
    assert single.converged.all()
    for i, l2 in enumerate(GRID):
        best = objective(x, y, double.coef[i], double.intercept[i], l2)
        assert objective(x, y, single.coef[i], single.intercept[i], l2) < best * (1 + 1e-5)


def test_float32_stops_where_rounding_allows_no_lower_loss(rng):
    x = rng.normal(size=(300, 100))
    y = (x[:, :10].argmax(axis=1)).astype(int)
    fits = fit_logistic(x, y, 10, np.logspace(0, -9, 10), dtype=np.float32, tol=1e-12)
    assert fits.converged.all()
    assert fits.evaluations.max() < 500


def test_blocks_of_rows_and_groups_of_strengths_change_nothing(rng, monkeypatch):
    x, y = rng.normal(size=(700, 6)), rng.integers(3, size=700)
    whole = fit_logistic(x, y, 3, np.logspace(1, -3, 12), tol=1e-10)
    monkeypatch.setattr(path_module, "BLOCK", 1)
    monkeypatch.setattr(path_module, "MAX_COLUMNS", 4)
    parts = fit_logistic(x, y, 3, np.logspace(1, -3, 12), tol=1e-10)
    np.testing.assert_allclose(parts.coef, whole.coef, atol=1e-5)


def test_axes_as_they_are(rng, monkeypatch):
    x, y = rng.normal(size=(100, 6)), rng.integers(3, size=100)
    turned = fit_logistic(x, y, 3, GRID, tol=1e-10)
    monkeypatch.setattr("shared.evaluation.solvers.spectrum.MAX_SIDE", 1)
    plain = fit_logistic(x, y, 3, GRID, tol=1e-10)
    np.testing.assert_allclose(plain.coef, turned.coef, atol=1e-4)


def test_deterministic(rng):
    x, y = rng.normal(size=(100, 6)), rng.integers(3, size=100)
    np.testing.assert_array_equal(*(fit_logistic(x, y, 3, GRID).coef for _ in range(2)))


def test_evaluations_are_limited(rng):
    x = rng.normal(size=(100, 6))
    fits = fit_logistic(x, (x[:, 0] > 0).astype(int), 2, [1e-9], max_evaluations=3)
    assert not fits.converged[0]
    assert fits.evaluations[0] == 3
    assert fits.gap[0] > 0


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_probabilities_follow_shifts_rotations_and_names(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.normal(size=(60, 5)), rng.permutation(np.arange(60) % 3)
    turn = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    plain = fit_logistic(x, y, 3, (1.0, 1e-2), tol=1e-12).probabilities(x)
    moved = x @ turn + rng.normal(size=5)
    fits = fit_logistic(moved, y, 3, (1.0, 1e-2), tol=1e-12)
    np.testing.assert_allclose(fits.probabilities(moved), plain, atol=1e-4)
    order = rng.permutation(60)
    names = np.array([2, 0, 1])
    named = fit_logistic(x[order], names[y[order]], 3, (1.0, 1e-2), tol=1e-12)
    np.testing.assert_allclose(named.probabilities(x)[:, :, names], plain, atol=1e-4)


def test_tags_are_independent_and_unknown_rows_do_not_count(rng):
    x = rng.normal(size=(150, 8))
    tags = (x @ rng.normal(size=(8, 4)) + rng.normal(size=(150, 4)) > 0).astype(float)
    tags[rng.random(size=tags.shape) < 0.3] = np.nan
    fits = fit_binary(x, tags, GRID, tol=1e-10)
    assert fits.converged.all()
    assert fits.converged.shape == (len(GRID), 4)
    chance = fits.probabilities(x)
    for tag in range(4):
        known = np.isfinite(tags[:, tag])
        for i, l2 in enumerate(GRID):
            model = LogisticRegression(C=1 / (l2 * known.sum()), tol=1e-10, max_iter=10_000)
            model.fit(x[known], tags[known, tag])
            np.testing.assert_allclose(fits.coef[i, :, tag], model.coef_[0], atol=1e-3)
            np.testing.assert_allclose(chance[i, :, tag], model.predict_proba(x)[:, 1], atol=1e-4)


def test_tags_of_one_value(rng):
    x = rng.normal(size=(30, 3))
    tags = np.column_stack([np.ones(30), np.zeros(30), x[:, 0] > 0]).astype(float)
    fits = fit_binary(x, tags, [0.1, 1.0])
    assert fits.converged.all()
    chance = fits.probabilities(x)
    np.testing.assert_array_equal(chance[:, :, 0], 1)
    np.testing.assert_array_equal(chance[:, :, 1], 0)
    alone = fit_binary(x, tags[:, 2:], [0.1, 1.0])
    np.testing.assert_allclose(chance[:, :, 2:], alone.probabilities(x))
    np.testing.assert_allclose(chance[0, :, 2], expit(alone.decision(x)[0, :, 0]))


def test_start_of_tags(rng):
    x = rng.normal(size=(100, 5))
    tags = (x[:, :2] + rng.normal(size=(100, 2)) > 0).astype(float)
    fits = fit_binary(x, tags, [1e-2], tol=1e-10)
    again = fit_binary(x, tags, [1e-2], tol=1e-8, start=fits)
    np.testing.assert_array_equal(again.evaluations, 1)


@pytest.mark.parametrize("l2", [[], [0.0], [1.0, -1.0], [np.nan]])
def test_strengths_are_positive(l2):
    with pytest.raises(EvaluationError, match="strengths"):
        fit_logistic(np.ones((2, 1)), np.array([0, 1]), 2, l2)


def test_what_cannot_be_fitted():
    with pytest.raises(EvaluationError, match="no rows"):
        fit_logistic(np.ones((0, 1)), np.array([], int), 2, [1.0])
    with pytest.raises(EvaluationError, match="there are 2 classes"):
        fit_logistic(np.ones((2, 1)), np.array([0, 2]), 2, [1.0])
    with pytest.raises(EvaluationError, match="Tag 1 is known of no row"):
        fit_binary(np.ones((2, 1)), np.array([[0, np.nan], [1, np.nan]]), [1.0])
