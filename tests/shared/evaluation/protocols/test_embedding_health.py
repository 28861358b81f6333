import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.spatial.distance import pdist
from scipy.stats import entropy, ortho_group

from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.metrics import METRICS
from shared.evaluation.protocols import embedding_health
from shared.evaluation.protocols.embedding_health import (
    PROTOCOL,
    alignment,
    dead_dimensions,
    effective_rank,
    mean_cosine,
    modality_gap,
    uniformity,
)


def unit_rows(n, d, seed=0):
    return normalise(np.random.default_rng(seed).normal(size=(n, d)))


def run_all(embeddings, **settings):
    merged = {**PROTOCOL.settings, **settings}
    return {
        task.inputs: PROTOCOL.run(task, embeddings, merged)
        for task in PROTOCOL.tasks(embeddings, merged)
    }


def values(output):
    numbers = output.outcome.statistic(np.ones((1, len(output.outcome))))[0]
    return dict(zip(output.outcome.metrics, numbers.tolist(), strict=True))


@pytest.mark.parametrize("n", [2, 3, 57])
def test_uniformity_is_that_of_all_pairs(n, monkeypatch):
    unit = unit_rows(n, 5)
    expected = np.log(np.exp(-2 * pdist(unit) ** 2).mean())
    assert uniformity(unit) == pytest.approx(expected, rel=1e-12)
    monkeypatch.setattr(embedding_health, "_BLOCK_ELEMENTS", 2 * n)
    assert uniformity(unit) == pytest.approx(expected, rel=1e-12)


def test_uniformity_of_points_that_are_known():
    assert uniformity(np.tile([1.0, 0.0], (4, 1))) == pytest.approx(0, abs=1e-12)
    opposite = np.array([[1.0, 0.0], [-1.0, 0.0]])
    assert uniformity(opposite) == pytest.approx(-8)
    # -t E‖x - y‖² + log of the rest: uniform directions in many dimensions come near -2t
    assert uniformity(unit_rows(2000, 1000)) == pytest.approx(-4, abs=0.02)


def test_mean_cosine_is_that_of_all_pairs():
    unit = unit_rows(40, 6)
    expected = (unit @ unit.T)[~np.eye(40, dtype=bool)].mean()
    assert mean_cosine(unit) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("n", "d"), [(60, 7), (7, 60), (5, 5)])
def test_effective_rank_is_the_entropy_of_the_singular_values(n, d):
    vectors = np.random.default_rng(1).normal(size=(n, d)) + 2
    singular = np.linalg.svd(vectors, compute_uv=False)
    assert effective_rank(vectors) == pytest.approx(np.exp(entropy(singular)), rel=1e-9)


def test_effective_rank_in_closed_form():
    assert effective_rank(np.eye(9)) == pytest.approx(9)
    assert effective_rank(np.ones((30, 4))) == pytest.approx(1)
    assert effective_rank(np.full((30, 4), 1e-30)) == pytest.approx(1)
    assert effective_rank(np.diag([3.0, 1.0, 0.0])) == pytest.approx(np.exp(entropy([0.75, 0.25])))


@given(seed=st.integers(0, 100), scale=st.floats(1e-6, 1e6))
def test_rotation_order_and_scale_change_nothing(seed, scale):
    vectors = np.random.default_rng(seed).normal(size=(12, 4)) + 0.5
    turned = scale * (vectors[::-1] @ ortho_group.rvs(4, random_state=seed))
    assert effective_rank(turned) == pytest.approx(effective_rank(vectors), rel=1e-6)
    for measure in (uniformity, mean_cosine):
        expected = measure(normalise(vectors))
        assert measure(normalise(turned)) == pytest.approx(expected, abs=1e-9)


def test_two_modalities():
    a, b = unit_rows(50, 6), unit_rows(50, 6, seed=1)
    assert alignment(a, a) == 0
    assert alignment(a, -a) == pytest.approx(4)
    assert alignment(a, b) == pytest.approx((2 - 2 * (a * b).sum(axis=1)).mean())
    assert modality_gap(a, a[::-1]) == pytest.approx(0, abs=1e-12)
    north, south = np.array([[0.0, 1.0]]), np.array([[0.0, -1.0]])
    assert modality_gap(north, south) == pytest.approx(2)


def test_dead_dimensions():
    assert dead_dimensions(np.array([[1.0, 2, 3], [1, 2, 4]])) == pytest.approx(2 / 3)


def test_the_protocol_needs_no_labels(make_set):
    made = make_set(labels=np.full(240, -1), classes=())
    outputs = run_all(made)
    assert list(outputs) == ["m0", "m1", "m0+m1"]
    rows = made.rows("test", "m1")
    assert np.array_equal(outputs["m1"].rows, rows)
    unit = normalise(made.vectors["m1"][rows])
    found = values(outputs["m1"])
    assert found["uniformity"] == pytest.approx(uniformity(unit))
    assert found["effective_rank_share"] == pytest.approx(found["effective_rank"] / 8)
    assert set(values(outputs["m0+m1"])) == {"alignment", "modality_gap"}
    metrics = {m for o in outputs.values() for m in o.outcome.metrics}
    assert metrics <= set(METRICS)


def test_many_rows_are_drawn_by_a_fixed_seed(make_set):
    made = make_set()
    first, second = (run_all(made, max_rows=10)["m0"] for _ in range(2))
    assert values(first) == values(second)
    assert first.settings["rows_used"] == 10
    assert len(first.rows) == len(made.rows("test", "m0"))


def test_what_cannot_be_measured_says_why(make_set):
    wide = make_set(widths=(8, 6))
    outputs = run_all(wide)
    assert outputs["m0"].missing is None
    assert "differ in width" in outputs["m0+m1"].missing
    few = make_set(splits=np.array(["test", *["train"] * 239]))
    assert run_all(few)["m0"].missing == "1 test rows with m0"
    zero = make_set(widths=(3,), vectors={"m0": np.zeros((240, 3), np.float32)},
                    present={"m0": np.ones(240, bool)})  # fmt: skip
    assert "no direction" in run_all(zero)["m0"].missing


def test_a_collapsed_model(make_set):
    made = make_set()
    line = np.outer(np.ones(240), np.arange(1, 9)).astype(np.float32)
    collapsed = make_set(vectors={"m0": line, "m1": made.vectors["m1"]}, present=made.present)
    found = values(run_all(collapsed)["m0"])
    assert found["uniformity"] == pytest.approx(0, abs=1e-9)
    assert found["mean_cosine"] == pytest.approx(1)
    assert found["dead_dimensions"] == 1
