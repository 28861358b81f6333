from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import softmax

from shared.errors import ConfigError
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.protocols.zero_shot import PROTOCOL, class_vectors, zero_shot


def run(embeddings, **settings):
    merged = {**PROTOCOL.settings, **settings}
    return [PROTOCOL.run(t, embeddings, merged) for t in PROTOCOL.tasks(embeddings, merged)]


def values(output):
    numbers = output.outcome.statistic(np.ones((1, len(output.outcome))))[0]
    return dict(zip(output.outcome.metrics, numbers.tolist(), strict=True))


@pytest.fixture
def prompted(make_set):
    """Prompts are class centres of `m0`, each text with a length of its own."""
    made = make_set(noise=2.0)  # with some val rows wrong, so that there is a best temperature
    rng = np.random.default_rng(0)
    centres = np.stack([made.vectors["m0"][made.labels == c].mean(axis=0) for c in range(4)])
    prompts = centres[:, None] + 0.3 * rng.normal(size=(4, 3, 8))
    return replace(made, prompts=prompts.astype(np.float32))


def test_both_orders_by_hand():
    prompts = np.array([[[2.0, 0.0], [0.0, 1.0]]])
    by_unit = class_vectors(prompts, "normalise_first")
    assert np.allclose(by_unit, [[np.sqrt(0.5), np.sqrt(0.5)]])
    assert np.allclose(class_vectors(prompts, "average_first"), [[2 / np.sqrt(5), 1 / np.sqrt(5)]])


def test_one_template_is_the_cosine_in_both_orders():
    rng = np.random.default_rng(0)
    vectors, prompts = rng.normal(size=(5, 4)), rng.normal(size=(3, 1, 4))
    expected = 100 * normalise(vectors) @ normalise(prompts[:, 0]).T
    for order in ("normalise_first", "average_first"):
        assert np.allclose(zero_shot(vectors, prompts, order=order), expected)


@given(seed=st.integers(0, 50), factor=st.floats(0.01, 100))
def test_lengths_and_the_order_of_templates_change_nothing(seed, factor):
    rng = np.random.default_rng(seed)
    vectors, prompts = rng.normal(size=(6, 5)), rng.normal(size=(3, 4, 5))
    lengths = rng.uniform(0.1, 10, size=(3, 4, 1))
    first = zero_shot(vectors, prompts)
    assert np.allclose(zero_shot(factor * vectors, (lengths * prompts)[:, ::-1]), first)
    averaged = zero_shot(vectors, prompts, order="average_first")
    assert np.allclose(zero_shot(vectors, factor * prompts, order="average_first"), averaged)


def test_the_protocol(prompted):
    first, second = run(prompted)
    rows = prompted.rows("test", "m0", target="label")
    logits = zero_shot(prompted.vectors["m0"][rows], prompted.prompts)
    assert np.array_equal(first.rows, rows)
    assert np.array_equal(first.outcome.predicted, logits.argmax(axis=1))
    assert np.allclose(first.outcome.probabilities, softmax(logits, axis=1))
    assert values(first)["accuracy"] > 0.7
    assert first.chance["accuracy"] == pytest.approx(0.25)
    assert first.settings["n_templates"] == 3
    assert len(first.settings["accuracy_of_each_template"]) == 3
    # the logits are 100 times a cosine: a temperature makes their losses smaller
    assert values(first)["log_loss_calibrated"] < values(first)["log_loss"]
    assert len(second.rows) < len(prompted.rows("test", target="label"))


def test_the_scale_changes_probabilities_and_no_class(prompted):
    (first, _), (second, _) = run(prompted), run(prompted, logit_scale=10)
    assert np.array_equal(first.outcome.predicted, second.outcome.predicted)
    assert not np.allclose(first.outcome.probabilities, second.outcome.probabilities)
    assert np.allclose(first.outcome.calibrated, second.outcome.calibrated, atol=1e-4)


def test_it_learns_nothing_from_the_train_split(prompted):
    all_test = replace(prompted, splits=np.full(240, "test"))
    first, _ = run(all_test)
    assert first.trivial is None
    assert first.outcome.calibrated is None
    assert first.settings["temperature"] is None
    assert first.chance["accuracy"] == pytest.approx(0.25)


def test_a_class_without_test_rows_can_still_be_predicted(prompted):
    splits = np.where((prompted.labels == 3) & (prompted.splits == "test"), "val", prompted.splits)
    first, _ = run(replace(prompted, splits=splits))
    assert first.missing is None
    assert first.outcome.probabilities.shape[1] == 4


def test_classes_that_only_a_classifier_knows_have_no_prompt(prompted):
    more = replace(prompted, classes=(*prompted.classes, "another"))
    first, _ = run(more)
    assert (first.outcome.probabilities[:, 4] == 0).all()
    assert first.chance["accuracy"] == pytest.approx(0.25)


def test_what_cannot_be_run_says_why(make_set, prompted):
    (output,) = run(make_set())
    assert output.missing.startswith("no prompts: give templates=")
    narrow = replace(prompted, prompts=prompted.prompts[:, :, :5])
    assert [o.missing for o in run(narrow)] == [
        "prompts are 5 wide, m0 8",
        "prompts are 5 wide, m1 8",
    ]
    unlabelled = replace(prompted, labels=np.full(240, -1))
    assert {o.missing for o in run(unlabelled)} == {"no labelled rows in the test split"}
    one = replace(prompted, prompts=prompted.prompts[:1], labels=np.zeros(240, np.int64))
    assert {o.missing for o in run(one)} == {"prompts of fewer than 2 classes"}


def test_only_modalities_as_wide_as_the_prompts(make_set, prompted):
    made = make_set(widths=(8, 5))
    assert len(run(replace(made, prompts=prompted.prompts))) == 1


def test_an_unknown_order_is_told(prompted):
    with pytest.raises(ConfigError, match="Did you mean 'average_first'"):
        run(prompted, order="average_frst")
