import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.preprocessing import StandardScaler

from shared.evaluation.outcomes import ValueOutcome
from shared.evaluation.protocols.ridge_probe import PROTOCOL, ridge_probe

GRID = (10.0, 1.0, 0.1, 1e-2, 1e-3)


@pytest.fixture
def parts():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 30)) * 10.0 ** rng.integers(-2, 3, size=30) + 4
    y = StandardScaler().fit_transform(x) @ rng.normal(size=30) + 5 * rng.normal(size=200) + 7
    return [(x[rows], y[rows]) for rows in (slice(60), slice(60, 100), slice(100, 200))]


def test_is_what_scikit_learn_gives(parts):
    train, val, (x_test, _) = parts
    probe = ridge_probe(train, val, x_test, l2_grid=GRID)
    scaler = StandardScaler().fit(train[0])

    def fitted(x, y, l2):
        return Ridge(alpha=l2 * len(y)).fit(scaler.transform(x), y)

    scores = [r2_score(val[1], fitted(*train, l2).predict(scaler.transform(val[0]))) for l2 in GRID]
    assert probe.val_r2 == pytest.approx(max(scores))
    assert probe.l2 == GRID[int(np.argmax(scores))]
    assert not probe.at_end
    both = (np.concatenate(part) for part in zip(train, val, strict=True))
    expected = fitted(*both, probe.l2).predict(scaler.transform(x_test))
    np.testing.assert_allclose(probe.predicted, expected)


def test_follows_units_of_inputs_and_target(parts):
    train, val, (x_test, _) = parts
    plain = ridge_probe(train, val, x_test, l2_grid=GRID)
    moved = [(1000 * x - 3, -2 * y + 5) for x, y in (train, val)]
    again = ridge_probe(*moved, 1000 * x_test - 3, l2_grid=GRID)
    assert again.l2 == plain.l2
    np.testing.assert_allclose(again.predicted, -2 * plain.predicted + 5)


def test_without_standardising_only_one_unit_is_shared(parts):
    train, val, (x_test, _) = parts
    scale = np.sqrt(train[0].var(axis=0).mean())
    both, targets = (np.concatenate(part) for part in zip(train, val, strict=True))
    probe = ridge_probe(train, val, x_test, l2_grid=[0.1], standardise=False)
    expected = Ridge(alpha=0.1 * len(targets)).fit(both / scale, targets).predict(x_test / scale)
    np.testing.assert_allclose(probe.predicted, expected)


def test_val_rows_of_one_value(parts):
    train, val, (x_test, _) = parts
    probe = ridge_probe(train, (val[0], np.ones(len(val[0]))), x_test)
    assert probe.val_r2 is None
    assert np.isfinite(probe.predicted).all()


def test_protocol_on_a_set(make_set):
    plain = make_set()
    rng = np.random.default_rng(0)
    age = plain.vectors["m0"][:, 0] + 0.1 * rng.normal(size=len(plain))
    age[:30] = np.nan
    embeddings = make_set(targets={"age": age, "nothing": np.full(len(plain), np.nan)})
    tasks = PROTOCOL.tasks(embeddings, PROTOCOL.settings)
    assert [task.target for task in tasks] == ["age"] * 3 + ["nothing"] * 3
    output = PROTOCOL.run(tasks[0], embeddings, PROTOCOL.settings)
    assert isinstance(output.outcome, ValueOutcome)
    assert output.outcome.values()[0] > 0.95
    assert len(output.rows) == np.isfinite(age[plain.splits == "test"]).sum()
    assert output.settings["n_train"] == len(embeddings.rows("train", "m0", target="age"))
    output = PROTOCOL.run(tasks[3], embeddings, PROTOCOL.settings)
    assert output.missing == "no rows with a known nothing in the train split"


def test_no_targets(made_up):
    (first, *_) = PROTOCOL.tasks(made_up, PROTOCOL.settings)
    assert PROTOCOL.run(first, made_up, PROTOCOL.settings).missing == "no numeric targets"
