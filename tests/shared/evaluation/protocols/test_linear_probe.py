from dataclasses import replace

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score, log_loss
from sklearn.preprocessing import StandardScaler

from shared.evaluation.outcomes import ClassOutcome, TagOutcome
from shared.evaluation.protocols.linear_probe import PROTOCOL, linear_probe, tag_probe

GRID = (1.0, 1e-1, 1e-2, 1e-3)


def split(x, *others, train=120, val=60):
    cuts = (train, train + val)
    return zip(*(np.split(array, cuts) for array in (x, *others)), strict=True)


@pytest.fixture
def classes():
    rng = np.random.default_rng(0)
    y = rng.integers(3, size=300)
    x = rng.normal(size=(300, 10)) * 10.0 ** rng.integers(-2, 3, size=10)
    x[:, :3] += 1.5 * np.eye(3)[y] * x[:, :3].std(axis=0)
    return list(split(x, y))


@pytest.fixture
def tags():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(300, 10))
    y = (x @ rng.normal(size=(10, 3)) + 2 * rng.normal(size=(300, 3)) > 0.5).astype(float)
    y[rng.random(size=y.shape) < 0.2] = np.nan
    return list(split(x, y))


def test_is_what_scikit_learn_gives(classes):
    train, val, (x_test, _) = classes
    probe = linear_probe(train, val, x_test, n_classes=3, l2_grid=GRID)
    scaler = StandardScaler().fit(train[0])

    def fitted(x, y, l2):
        model = LogisticRegression(C=1 / (l2 * len(y)), tol=1e-9, max_iter=10_000)
        return model.fit(scaler.transform(x), y)

    scores = [
        balanced_accuracy_score(val[1], fitted(*train, l2).predict(scaler.transform(val[0])))
        for l2 in GRID
    ]
    assert probe.val_score == pytest.approx(max(scores))
    assert probe.l2 == GRID[int(np.argmax(scores))]
    both = (np.concatenate(parts) for parts in zip(train, val, strict=True))
    final = fitted(*both, probe.l2)
    expected = final.predict_proba(scaler.transform(x_test))
    np.testing.assert_allclose(probe.probabilities, expected, atol=1e-3)
    # A temperature is a power, up to the sum.
    power = probe.probabilities ** (1 / probe.temperature)
    np.testing.assert_allclose(probe.calibrated, power / power.sum(axis=1, keepdims=True))


def test_on_a_tie_the_least_log_loss_and_ends_of_the_grid_are_told():
    x = np.repeat([-1.0, 1.0], 50)[:, None]
    y = np.repeat([0, 1], 50)
    probe = linear_probe((x, y), (x, y), x, n_classes=2, l2_grid=(1e-3, 10.0, 0.1))
    assert (probe.l2, probe.at_end) == (1e-3, True)
    assert probe.temperature == 1.0


@pytest.mark.parametrize("seed", range(4))
def test_what_is_easy_is_found_easy(seed):
    """Most strengths tie on val; under the strongest the refit moved the intercepts alone."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, 200)
    x = rng.normal(size=(200, 16))
    x[np.arange(200), y] += 5
    train, val, test = slice(140), slice(140, 170), slice(170, 200)
    probe = linear_probe((x[train], y[train]), (x[val], y[val]), x[test], n_classes=3)
    assert (probe.probabilities.argmax(axis=1) == y[test]).mean() > 0.95


def test_units_and_offsets_of_columns_do_not_matter(classes):
    train, val, (x_test, _) = classes
    plain = linear_probe(train, val, x_test, n_classes=3, l2_grid=GRID)
    scale, shift = np.geomspace(1e-3, 1e3, 10), np.arange(10)

    def moved(x):
        return x * scale + shift

    again = linear_probe(
        (moved(train[0]), train[1]), (moved(val[0]), val[1]), moved(x_test), n_classes=3,
        l2_grid=GRID,
    )  # fmt: skip
    assert again.l2 == plain.l2
    np.testing.assert_allclose(again.probabilities, plain.probabilities, atol=1e-3)


def test_class_without_train_rows(classes):
    (x, y), (x_val, y_val), (x_test, _) = classes
    y, y_val = np.where(y == 2, 1, y), y_val.copy()
    probe = linear_probe((x, y), (x_val, y_val), x_test, n_classes=4, l2_grid=GRID)
    assert np.isfinite(probe.temperature)
    np.testing.assert_array_equal(probe.calibrated[:, 3], 0)
    np.testing.assert_allclose(probe.calibrated.sum(axis=1), 1)


def test_tags_are_what_scikit_learn_gives(tags):
    train, val, (x_test, _) = tags
    probe = tag_probe(train, val, x_test, l2_grid=GRID)
    scaler = StandardScaler().fit(train[0])
    for tag in range(3):

        def fitted(x, y, l2, tag=tag):
            known = np.isfinite(y[:, tag])
            model = LogisticRegression(C=1 / (l2 * known.sum()), tol=1e-9, max_iter=10_000)
            return model.fit(scaler.transform(x[known]), y[known, tag])

        known = np.isfinite(val[1][:, tag])
        of_val = scaler.transform(val[0][known])
        losses = [
            log_loss(
                val[1][known, tag], fitted(*train, l2).predict_proba(of_val)[:, 1], labels=[0, 1]
            )
            for l2 in GRID
        ]
        assert probe.val_score[tag] == pytest.approx(min(losses), rel=1e-4)
        assert probe.l2[tag] == GRID[int(np.argmin(losses))]
        both = (np.concatenate(parts) for parts in zip(train, val, strict=True))
        expected = fitted(*both, probe.l2[tag]).predict_proba(scaler.transform(x_test))[:, 1]
        np.testing.assert_allclose(probe.probabilities[:, tag], expected, atol=1e-3)


def test_tag_without_val_rows_gets_the_strength_of_the_others(tags):
    train, (x_val, y_val), (x_test, _) = tags
    y_val = y_val.copy()
    y_val[:, 1] = np.nan
    probe = tag_probe(train, (x_val, y_val), x_test, l2_grid=GRID)
    assert np.isnan(probe.val_score[1])
    y_val[:] = np.nan
    probe = tag_probe(train, (x_val, y_val), x_test, l2_grid=GRID)
    np.testing.assert_array_equal(probe.l2, max(GRID))


def test_protocol_on_a_set(make_set):
    embeddings = make_set()
    tasks = PROTOCOL.tasks(embeddings, PROTOCOL.settings)
    assert [(task.inputs, task.target) for task in tasks] == [
        ("m0", "label"), ("m1", "label"), ("all", "label"),
    ]  # fmt: skip
    for task in tasks:
        output = PROTOCOL.run(task, embeddings, PROTOCOL.settings)
        assert isinstance(output.outcome, ClassOutcome)
        assert output.outcome.calibrated is not None
        assert len(output.rows) == len(output.outcome) == len(output.trivial)
        assert dict(zip(output.outcome.metrics, output.outcome.values(), strict=True))[
            "accuracy"
        ] > (0.8)
        assert output.settings["converged"] is True
        assert output.settings["gradient_norm"] < 1e-2


def test_without_standardising_only_one_unit_is_shared(classes):
    train, val, (x_test, _) = classes
    scale = np.sqrt(train[0].var(axis=0).mean())
    options = {"n_classes": 3, "l2_grid": [1e-2], "standardise": False}
    probe = linear_probe(train, val, x_test, **options)
    both, targets = (np.concatenate(parts) for parts in zip(train, val, strict=True))
    model = LogisticRegression(C=1 / (1e-2 * len(targets)), tol=1e-9, max_iter=10_000)
    expected = model.fit(both / scale, targets).predict_proba(x_test / scale)
    np.testing.assert_allclose(probe.probabilities, expected, atol=1e-3)
    again = linear_probe((7 * train[0], train[1]), (7 * val[0], val[1]), 7 * x_test, **options)
    np.testing.assert_allclose(again.probabilities, probe.probabilities, atol=1e-4)


def test_standardising_is_a_setting(make_set):
    lopsided = make_set(noise=4.0)
    lopsided.vectors["m0"][:, 0] *= 100
    lopsided = replace(lopsided, tags={"first": (lopsided.labels == 0).astype(float)})
    for task in PROTOCOL.tasks(lopsided, PROTOCOL.settings)[::3]:
        yes, no = (
            PROTOCOL.run(task, lopsided, {**PROTOCOL.settings, "standardise": flag})
            for flag in (True, False)
        )
        assert yes.settings["l2"] != no.settings["l2"]


def test_protocol_on_tags(make_set):
    plain = make_set()
    tags = {f"tag{i}": (plain.labels == i).astype(float) for i in range(3)}
    tags["tag0"][:20] = np.nan
    tags["never"] = np.where(plain.splits == "train", np.nan, 1.0)
    embeddings = make_set(tags=tags)
    tasks = PROTOCOL.tasks(embeddings, PROTOCOL.settings)
    assert [task.target for task in tasks] == ["label"] * 3 + ["tags"] * 3
    output = PROTOCOL.run(tasks[3], embeddings, PROTOCOL.settings)
    assert isinstance(output.outcome, TagOutcome)
    assert output.outcome.tags == ("tag0", "tag1", "tag2")
    assert output.settings["tags_not_in_train"] == ["never"]
    assert output.outcome.values()[0] > 0.9
    unlabelled = make_set(tags=tags, labels=np.full(len(plain), -1))
    assert {task.target for task in PROTOCOL.tasks(unlabelled, PROTOCOL.settings)} == {"tags"}


def test_what_is_missing_and_why(make_set):
    plain = make_set()

    def reason(**changes):
        embeddings = make_set(**changes)
        task = PROTOCOL.tasks(embeddings, PROTOCOL.settings)[0]
        output = PROTOCOL.run(task, embeddings, PROTOCOL.settings)
        assert output.outcome is None
        assert "accuracy" in output.metrics
        return output.missing

    assert "no labelled rows" in reason(labels=np.full(len(plain), -1))
    assert "fewer than 2 classes" in reason(labels=np.zeros(len(plain), int))
    no_val = np.where(plain.splits == "val", "train", plain.splits)
    assert "no labelled rows in the val split" in reason(splits=no_val)
    no_val_tags = make_set(splits=no_val, tags={"tag": np.ones(len(plain))})
    task = PROTOCOL.tasks(no_val_tags, PROTOCOL.settings)[-1]
    missing = PROTOCOL.run(task, no_val_tags, PROTOCOL.settings).missing
    assert missing == (
        "no rows with known tags in the val split, on which the L2 strength is chosen"
    )
