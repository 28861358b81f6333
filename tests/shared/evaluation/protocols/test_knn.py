import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from shared.errors import ConfigError, EvaluationError
from shared.evaluation.embeddings.vectors import normalise, unit_mean
from shared.evaluation.protocols.knn import NEAREST_NEIGHBOUR, PROTOCOL, nearest_neighbours


def run(embeddings, protocol=PROTOCOL, **settings):
    chosen = {**protocol.settings, **settings}
    tasks = protocol.tasks(embeddings, chosen)
    return {(t.inputs, t.target): protocol.run(t, embeddings, chosen) for t in tasks}


def unit_rows(*sizes, seed=0):
    rng = np.random.default_rng(seed)
    return [normalise(rng.normal(size=(n, 5))) for n in sizes]


@pytest.mark.parametrize("weights", ["softmax", "uniform"])
def test_votes_are_scikit_learns(weights):
    train, test = unit_rows(90, 40)
    labels = np.arange(90) % 3
    # of unit vectors: cosine = 1 - distance² / 2
    softmax = lambda distance: np.exp(-(distance**2) / 2 / 0.1)  # noqa: E731
    model = KNeighborsClassifier(11, weights=softmax if weights == "softmax" else weights)
    found = nearest_neighbours(train, test, 11, temperature=0.1, weights=weights)
    expected = model.fit(train, labels).predict_proba(test)
    np.testing.assert_allclose(found.shares(labels, 3), expected, atol=1e-9)
    numbers = np.random.default_rng(1).normal(size=90)
    regression = KNeighborsRegressor(11, weights=model.weights).fit(train, numbers)
    np.testing.assert_allclose(found.mean(numbers), regression.predict(test), atol=1e-9)


def test_unknown_numbers_are_left_out():
    found = nearest_neighbours(np.eye(3), np.eye(3), 2, weights="uniform")
    assert found.rows.tolist() == [[0, 1], [1, 0], [2, 0]]
    assert found.mean(np.array([1.0, np.nan, 4.0])).tolist() == [1.0, 1.0, 2.5]
    nearest = nearest_neighbours(np.eye(3), np.eye(3), 1)
    assert nearest.mean(np.array([1.0, np.nan, 4.0])).tolist() == [1.0, 2.5, 4.0]


@settings(max_examples=15, deadline=None)
@given(st.permutations(range(4)), st.integers(0, 999), st.floats(0.01, 100))
def test_invariances(make_set, permutation, seed, scale):
    """Names of the classes, order of the rows and the length of embeddings change no vote."""
    rng, p = np.random.default_rng(seed), np.array(permutation)
    train, test = rng.normal(size=(2, 60, 4))
    labels, order = np.arange(60) % 4, rng.permutation(60)
    before = nearest_neighbours(normalise(train), normalise(test), 7).shares(labels, 4)
    lengths = scale * rng.uniform(0.5, 2, size=(60, 1))
    moved = nearest_neighbours(normalise(train * lengths)[order], normalise(test * lengths), 7)
    np.testing.assert_allclose(moved.shares(p[labels[order]], 4)[:, p], before, atol=1e-9)


def test_protocol_on_a_set(make_set):
    made = make_set()
    output = run(made, k=10**6)["m0", "label"]
    n_train = len(made.rows("train", "m0", target="label"))
    assert output.settings == {"n_train": n_train, "k": n_train}
    outputs = run(made)
    assert [inputs for inputs, _ in outputs] == ["m0", "m1", "all"]
    for output in outputs.values():
        outcome = output.outcome
        np.testing.assert_allclose(outcome.probabilities.sum(axis=1), 1)
        assert (outcome.predicted == outcome.probabilities.argmax(axis=1)).all()
        assert (outcome.predicted == outcome.truth).mean() > 0.8
        assert output.settings["k"] == 20


def test_tags_and_numbers(make_set):
    made = make_set()
    labels = made.labels.astype(float)
    made = make_set(
        labels=np.full(240, -1),
        tags={"first": (labels == 0) * 1.0, "even": np.where(labels == 3, np.nan, labels % 2 == 0)},
        targets={"size": labels**2},
    )
    outputs = run(made)
    assert {target for _, target in outputs} == {"tags", "size"}
    tags, size = outputs["m0", "tags"].outcome, outputs["m0", "size"].outcome
    assert tags.tags == ("first", "even")
    right = (tags.scores > 0.5) == (tags.truth > 0.5)
    assert right[np.isfinite(tags.truth)].mean() > 0.9
    assert np.corrcoef(size.truth, size.predicted)[0, 1] > 0.9
    assert len(np.unique(outputs["m0", "size"].trivial.predicted)) == 1


def test_the_nearest_neighbour_is_astrom3s(make_set):
    made = make_set()
    outputs = run(made, NEAREST_NEIGHBOUR)
    for inputs, modalities in (("m0", ("m0",)), ("all", ("m0", "m1"))):
        train, test = (made.rows(split, *modalities) for split in ("train", "test"))
        parts = [unit_mean([made.vectors[m][rows] for m in modalities]) for rows in (train, test)]
        expected = made.labels[train][(parts[1] @ parts[0].T).argmax(axis=1)]
        assert outputs[inputs, "label"].outcome.predicted.tolist() == expected.tolist()
        assert outputs[inputs, "label"].outcome.metrics == (
            "accuracy", "balanced_accuracy", "macro_f1",
        )  # fmt: skip


def test_the_longer_row_wins_against_one_of_the_same_direction():
    found = nearest_neighbours(np.array([[0.5, 0], [1, 0]]), np.array([[0.5, 0.1]]), 1)
    assert found.rows.tolist() == [[1]]


@pytest.mark.parametrize("protocol", [PROTOCOL, NEAREST_NEIGHBOUR])
def test_constant_embeddings_predict_one_class(make_set, protocol):
    made = make_set(vectors={m: np.ones((240, 3), np.float32) for m in ("m0", "m1")})
    for output in run(made, protocol).values():
        assert len(np.unique(output.outcome.predicted)) == 1


@pytest.mark.parametrize("protocol", [PROTOCOL, NEAREST_NEIGHBOUR])
def test_what_cannot_be_judged_is_missing_with_a_reason(make_set, protocol):
    for changes, reason in [
        ({"splits": np.full(240, "train")}, "no labelled rows in the test split"),
        ({"labels": np.full(240, -1)}, "no labelled rows in the train split"),
        ({"labels": np.zeros(240, np.int64)}, "fewer than 2 classes in the train split"),
    ]:
        assert reason in run(make_set(**changes), protocol)["m0", "label"].missing
    assert "differ in width" in run(make_set(widths=(3, 4)), protocol)["all", "label"].missing
    numbers = make_set(targets={"size": np.full(240, np.nan)})
    assert run(numbers)["m0", "size"].missing == "no rows with size in the train split"


def test_wrong_settings_are_told():
    x = np.eye(3)
    for wrong, message in [
        ({"weights": "distance"}, "one of softmax, uniform"),
        ({"temperature": 0.0}, "above 0"),
    ]:
        with pytest.raises(ConfigError, match=message):
            nearest_neighbours(x, x, 1, **wrong)
    with pytest.raises(EvaluationError, match="k = 0"):
        nearest_neighbours(x, x, 0)
