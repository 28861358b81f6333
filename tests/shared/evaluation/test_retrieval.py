from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.evaluation import retrieval as module
from shared.evaluation.nearest_centroid import normalise
from shared.evaluation.retrieval import chance_recall, match_ranks, retrieval, weighted_median


def pair(n=30, width=6, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(n, width)).astype(np.float32)
    return queries, (queries + noise * rng.normal(size=(n, width))).astype(np.float32)


def groups(n):
    return np.array([f"g{i:03d}" for i in range(n)])


def values(output, field="value"):
    return {s.metric: getattr(s, field) for s in output.scores}


def slow_ranks(queries, candidates, codes):
    """By definition: sort all candidates of a query, stable, and look for the first positive."""
    ranks = []
    for query, code in zip(queries, codes, strict=True):
        order = np.argsort(-np.round(candidates @ query, 9), kind="stable")
        ranks.append(1 + int(np.flatnonzero(codes[order] == code)[0]))
    return ranks


@settings(max_examples=30)
@given(st.integers(1, 25), st.integers(1, 8), st.integers(0, 10**6))
def test_ranks_by_definition_with_ties_and_several_positives(n, n_codes, seed):
    rng = np.random.default_rng(seed)
    # Few distinct vectors, so that many scores tie.
    a, b = (normalise(rng.integers(0, 2, size=(n, 3)).astype(float)) for _ in range(2))
    codes = rng.integers(n_codes, size=n)
    assert match_ranks(a, b, codes).tolist() == slow_ranks(a, b, codes)


def test_blocks_change_nothing(monkeypatch):
    a, b = map(normalise, pair(50))
    whole = match_ranks(a, b, np.arange(50))
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 50 * 7)
    assert match_ranks(a, b, np.arange(50)).tolist() == whole.tolist()


def test_perfect_and_by_hand():
    x, _ = pair()
    output = retrieval(x, x, groups=groups(30))
    assert values(output) == {
        "recall@1": 1.0, "recall@5": 1.0, "recall@10": 1.0, "median_rank": 1.0, "mrr": 1.0,
    }  # fmt: skip
    queries = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    candidates = np.array([[1, 0.1], [0, 1], [0, 1]], np.float32)
    output = retrieval(queries, candidates, groups=groups(3))
    assert output.ranks.tolist() == [1, 1, 3]
    assert values(output)["recall@1"] == pytest.approx(2 / 3)
    assert values(output)["mrr"] == pytest.approx((1 + 1 + 1 / 3) / 3)


def test_all_ties_are_at_chance():
    x = np.ones((40, 7), np.float32) / 3
    output = retrieval(x, x, groups=groups(40))
    assert sorted(output.ranks.tolist()) == list(range(1, 41))
    assert values(output) == pytest.approx(values(output, "chance"))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10**6), st.floats(0.01, 100))
def test_a_common_order_and_scale_mean_nothing(n, seed, scale):
    a, b = pair(n, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    before = retrieval(a, b, groups=groups(n), n_resamples=20)
    after = retrieval(a[order] * scale, b[order], groups=groups(n)[order], n_resamples=20)
    assert after.ranks.tolist() == before.ranks[order].tolist()
    for field in ("value", "low", "high"):
        assert values(after, field) == pytest.approx(values(before, field))


@settings(max_examples=50)
@given(st.lists(st.integers(0, 5), min_size=1, max_size=20))
def test_chance_recall_is_hypergeometric(codes):
    codes = np.array(codes)
    n = len(codes)
    for k in range(1, n + 1):
        miss = [comb(n - int((codes == c).sum()), k) / comb(n, k) for c in codes]
        assert chance_recall(codes)[k - 1] == pytest.approx(1 - np.mean(miss))


@pytest.mark.parametrize("n", [2, 7, 10, 200])
def test_chance_of_one_positive_in_closed_form(n):
    chance = values(retrieval(*pair(n), groups=groups(n), n_resamples=0), "chance")
    harmonic = sum(1 / r for r in range(1, n + 1))
    assert chance == pytest.approx(
        {f"recall@{k}": min(k, n) / n for k in (1, 5, 10)}
        | {"median_rank": (n + 1) / 2, "mrr": harmonic / n}
    )


def test_noise_with_several_positives_is_at_chance():
    rng = np.random.default_rng(0)
    names = np.repeat(groups(20), 3)
    outputs = [
        retrieval(*rng.normal(size=(2, 60, 4)), groups=names, positives=names, n_resamples=0)
        for _ in range(60)
    ]
    for metric, chance in values(outputs[0], "chance").items():
        mean = np.mean([values(output)[metric] for output in outputs])
        assert mean == pytest.approx(chance, rel=0.1)


def test_any_positive_counts():
    queries = np.eye(4, dtype=np.float32)
    candidates = np.roll(queries, 1, axis=0)  # the match of query i stands at row i + 1
    names = np.array(["a", "a", "b", "b"])
    alone = retrieval(queries, candidates, groups=groups(4))
    shared = retrieval(queries, candidates, groups=groups(4), positives=names)
    assert values(alone)["recall@1"] == 0.0
    assert values(shared)["recall@1"] == 0.5


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 4)), min_size=1, max_size=30))
def test_weighted_median_is_numpys_of_the_repeated_values(pairs):
    ranks, weights = map(np.array, zip(*[*pairs, (3, 1)], strict=True))
    expected = np.median(np.repeat(ranks, weights))
    assert weighted_median(ranks, weights[None].astype(float))[0] == expected


def test_intervals_hold_the_values_and_name_what_is_fixed():
    output = retrieval(*pair(200), groups=groups(200))
    for s in output.scores:
        assert s.low <= s.value <= s.high
    assert "candidates fixed" in output.ci_method


@pytest.mark.parametrize("n", [0, 1])
def test_nothing_to_rank(n):
    output = retrieval(*pair(n), groups=groups(n))
    assert f"{n} test rows" in output.missing
    assert values(output)["recall@1"] is None


def test_different_widths_are_a_reason():
    output = retrieval(pair(5, 3)[0], pair(5, 4)[0], groups=groups(5))
    assert "differ in width (3 and 4)" in output.missing
