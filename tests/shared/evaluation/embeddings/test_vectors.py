"""Unit vectors and columns of unit variance, and those that have none."""

import numpy as np
import pytest

from shared.evaluation.embeddings.vectors import normalise, standardisation, unit_mean

ROWS = np.random.default_rng(0).normal(3, [1, 10, 0.1], (50, 3)).astype(np.float32)


@pytest.mark.parametrize("value", [0.0, 0.1, -7e5])
def test_a_constant_column_has_deviation_one(value):
    rows = ROWS.copy()
    rows[:, 1] = value
    mean, scale = standardisation(rows)
    assert mean[1] == pytest.approx(value)
    assert scale[1] == 1
    np.testing.assert_allclose(scale[[0, 2]], rows[:, [0, 2]].astype(float).std(axis=0))


def test_together_all_columns_have_one_deviation():
    _, scale = standardisation(ROWS, together=True)
    np.testing.assert_allclose(scale, np.sqrt(ROWS.astype(float).var(axis=0).mean()))


def test_unit_vectors_and_their_mean():
    unit = normalise(np.vstack([ROWS, np.zeros((1, 3), np.float32)]))
    np.testing.assert_allclose(np.linalg.norm(unit[:-1], axis=1), 1)
    assert not unit[-1].any()
    np.testing.assert_allclose(unit_mean([ROWS, 5 * ROWS]), normalise(ROWS))
