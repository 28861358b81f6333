from dataclasses import replace

import numpy as np
import pytest
from scipy.special import softmax

from shared.errors import EvaluationError
from shared.evaluation.outcomes import SeededOutcome
from shared.evaluation.protocols.classifier import (
    PROTOCOL,
    ClassifierOutput,
    over_seeds,
    subsets,
    with_classes,
)

OWN = ("class1", "class0", "class3", "class2")
"""The order of the made-up classifier's classes."""


def classify(made, classes=OWN, seed=0, splits=("val", "test"), skill=2.0):
    """What a made-up classifier of these classes says; overconfident."""
    rng = np.random.default_rng(seed)
    names = np.array([*made.classes, ""])[made.labels]
    truth = np.array([classes.index(n) if n in classes else 0 for n in names.tolist()])
    found = {}
    for subset in subsets(made.modalities):
        logits = rng.normal(size=(len(made), len(classes)))
        logits[np.arange(len(made)), truth] += skill
        table = softmax(4 * logits, axis=1).astype(np.float32)
        have = np.all([made.present[m] for m in subset], axis=0) & np.isin(made.splits, splits)
        table[~have] = np.nan
        found[subset] = table
    return ClassifierOutput(classes, found)


def run(made, output, protocol=PROTOCOL):
    embeddings = replace(with_classes(made, output), classified=output)
    return {
        task.inputs: protocol.run(task, embeddings, {}) for task in protocol.tasks(embeddings, {})
    }


def values(output):
    numbers = output.outcome.statistic(np.ones((1, len(output.outcome))))[0]
    return dict(zip(output.outcome.metrics, numbers.tolist(), strict=True))


@pytest.mark.parametrize(
    ("modalities", "expected"),
    [
        ("a", [("a",)]),
        ("ab", [("a",), ("b",), ("a", "b")]),
        ("abc", [("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]),
    ],
)
def test_each_each_pair_and_all(modalities, expected):
    assert subsets(tuple(modalities)) == expected


def test_subsets_of_modalities_have_names(make_set):
    made = make_set(widths=(8, 8, 8))
    assert list(run(made, classify(made))) == [
        "m0", "m1", "m2", "m0+m1", "m0+m2", "m1+m2", "all",
    ]  # fmt: skip


def test_columns_are_found_by_name(make_set):
    made = make_set()
    output = classify(made)
    for inputs, subset in (("m0", ("m0",)), ("all", ("m0", "m1"))):
        found = run(made, output)[inputs]
        rows = made.rows("test", *subset, target="label")
        assert np.array_equal(found.rows, rows)
        table = output.probabilities[subset][rows]
        for ours, name in enumerate(made.classes):
            assert np.allclose(found.outcome.probabilities[:, ours], table[:, OWN.index(name)])
        expected = [made.classes.index(OWN[i]) for i in table.argmax(axis=1)]
        assert found.outcome.predicted.tolist() == expected
        assert found.chance["accuracy"] == pytest.approx(0.25)
        assert found.trivial is not None


def test_a_temperature_of_the_validation_rows_calibrates(make_set):
    made = make_set(n=1000)
    found = run(made, classify(made))["m0"]
    assert found.settings["temperature"] > 1.5
    scores = values(found)
    assert scores["log_loss_calibrated"] < scores["log_loss"]
    assert scores["ece_calibrated"] < scores["ece"]
    assert np.allclose(found.outcome.calibrated.sum(axis=1), 1)
    test_only = run(made, classify(made, splits=("test",)))["m0"]
    assert test_only.outcome.calibrated is None
    assert test_only.settings["temperature"] is None


def test_classes_it_does_not_know_are_missed(make_set):
    made = make_set()
    found = run(made, classify(made, ("class0", "class2", "other")))["m0"]
    assert found.outcome.classes == (*made.classes, "other")
    assert found.settings["classes_unknown_to_the_model"] == ["class1", "class3"]
    assert (found.outcome.probabilities[:, [1, 3]] == 0).all()
    assert (found.outcome.calibrated[:, [1, 3]] == 0).all()
    assert values(found)["accuracy"] <= 0.51
    # a guess among its three classes: right in a third of the rows of the two that it knows
    n = np.bincount(made.labels[found.rows], minlength=4)
    assert found.chance["accuracy"] == pytest.approx((n[0] + n[2]) / n.sum() / 3)


def test_it_needs_no_train_rows(make_set):
    made = make_set(splits=np.full(240, "test"))
    found = run(made, classify(made))["m0"]
    assert found.missing is None
    assert found.trivial is None
    assert found.outcome.calibrated is None


def test_certain_probabilities_have_finite_scores(make_set):
    made = make_set()
    output = classify(made)
    hard = {
        subset: np.where(np.isnan(table), table, table == table.max(axis=1, keepdims=True))
        for subset, table in output.probabilities.items()
    }
    found = run(made, ClassifierOutput(OWN, hard))["m0"]
    assert all(np.isfinite(v) for v in values(found).values())


@pytest.mark.parametrize(
    ("changes", "classes", "words"),
    [
        ({}, None, "the names of the classifier's classes are not known"),
        ({}, ("x", "y"), "the classifier knows x, y; the data have class0, class1"),
        ({"labels": np.full(240, -1)}, OWN, "no labelled rows in the test split"),
    ],
)
def test_what_cannot_be_run_says_why(make_set, changes, classes, words):
    made = make_set(**changes)
    output = classify(made, classes or OWN)
    output = ClassifierOutput(classes, output.probabilities)
    assert words in run(made, output)["m0"].missing


def test_without_a_classifier_one_task_says_so(made_up):
    found = run(made_up, None)
    assert list(found) == ["all"]
    assert found["all"].missing == "needs a model with a classifier, not embeddings alone"
    moved = replace(made_up, splits=np.full(240, "test"), classified=classify(made_up))
    task = PROTOCOL.tasks(moved, {})[0]
    assert "not run on all test rows" in PROTOCOL.run(task, moved, {}).missing


def test_several_seeds_are_one_outcome(make_set):
    made = make_set()
    outputs = {seed: classify(made, seed=seed) for seed in (3, 5, 8)}
    protocol = over_seeds(outputs)
    assert protocol.name == "fine_tuning"
    found = run(made, outputs[3], protocol)
    assert list(found) == ["m0", "m1", "all"]
    assert isinstance(found["m0"].outcome, SeededOutcome)
    assert found["m0"].seeds == (3, 5, 8)
    alone = [values(run(made, output)["m0"])["accuracy"] for output in outputs.values()]
    assert values(found["m0"])["accuracy"] == pytest.approx(np.mean(alone))
    assert len(found["m0"].settings["temperature"]) == 3
    with pytest.raises(EvaluationError, match="0 classifiers"):
        over_seeds({})
    with pytest.raises(EvaluationError, match="the same classes"):
        over_seeds({0: outputs[3], 1: classify(made, OWN[::-1])})


def test_what_one_seed_lacks_all_lack(make_set):
    made = make_set(labels=np.full(240, -1))
    found = run(made, classify(made), over_seeds({0: classify(made), 1: classify(made, seed=1)}))
    assert found["m0"].missing == "no labelled rows in the test split"
