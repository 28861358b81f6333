import numpy as np
import pytest
from sklearn.linear_model import Ridge

from shared.errors import EvaluationError
from shared.evaluation.solvers.ridge import fit_ridge

GRID = (100.0, 1.0, 1e-3, 1e-7)


@pytest.mark.parametrize("shape", [(80, 10), (30, 60), (2, 3), (1, 4)])
def test_equals_scikit_learn(shape):
    rng = np.random.default_rng(0)
    x, y = 3 + rng.normal(size=shape), rng.normal(size=(shape[0], 3))
    path = fit_ridge(x, y, GRID)
    for i, l2 in enumerate(GRID):
        model = Ridge(alpha=l2 * shape[0], solver="svd").fit(x, y)
        np.testing.assert_allclose(path.coef[i], model.coef_.T, rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(path.predict(x)[i], model.predict(x), rtol=1e-6, atol=1e-9)


def test_unknown_targets_do_not_count():
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(50, 6)), rng.normal(size=(50, 3))
    y[:10, 1] = np.nan
    path = fit_ridge(x, y, GRID)
    np.testing.assert_allclose(path.coef[:, :, 1:2], fit_ridge(x[10:], y[10:, 1:2], GRID).coef)
    np.testing.assert_allclose(path.coef[:, :, [0, 2]], fit_ridge(x, y[:, [0, 2]], GRID).coef)


def test_collinear_and_constant_columns():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(50, 4))
    x = np.hstack([x, x[:, :2], np.ones((50, 1))])
    path = fit_ridge(x, rng.normal(size=(50, 1)), GRID)
    np.testing.assert_allclose(path.coef[:, :2], path.coef[:, 4:6], atol=1e-6)
    np.testing.assert_allclose(path.coef[:, 6], 0, atol=1e-12)


def test_input_is_left_as_it_is():
    x = np.random.default_rng(0).normal(size=(20, 3))
    before = x.copy()
    fit_ridge(x, x[:, :1], GRID)
    np.testing.assert_array_equal(x, before)


def test_errors():
    with pytest.raises(EvaluationError, match="strengths"):
        fit_ridge(np.ones((2, 1)), np.ones((2, 1)), [0.0])
    with pytest.raises(EvaluationError, match="Target 0 is known of no row"):
        fit_ridge(np.ones((2, 1)), np.full((2, 1), np.nan), [1.0])
