"""Neighbours, ranks and average precision against their definitions in float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.retrieval import retrieval_average_precision

from shared.errors import EvaluationError
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.neighbours import products, ranking
from shared.evaluation.neighbours import top_k as neighbours
from shared.evaluation.neighbours.ranking import average_precision, best_ranks
from shared.evaluation.neighbours.top_k import top_k


def by_definition(queries, candidates, exclude=None):
    """(q, n) scores, -inf for what is left out, and the candidates in order, by sorting."""
    scores = queries.astype(np.float64) @ candidates.astype(np.float64).T
    if exclude is not None:
        scores[exclude[0][:, None] == exclude[1]] = -np.inf
    size = np.linalg.norm(queries.astype(float), axis=1)[:, None]
    size = size * np.linalg.norm(candidates.astype(float), axis=1).max()
    order = []
    for row in scores / np.where(size > 0, size, 1):
        by_score = np.argsort(-row, kind="stable")
        with np.errstate(invalid="ignore"):  # -inf less -inf
            new = -np.diff(row[by_score], prepend=np.inf) > 1e-12
        order.append(by_score[np.lexsort((by_score, new.cumsum()))])
    return scores, np.array(order)


def few_values(rng, n, d):
    return rng.integers(0, 3, size=(n, d)).astype(np.float32)


def narrow(rng, n, d):
    return (1 + 1e-4 * rng.normal(size=(n, d))).astype(np.float32)


def near_ties(rng, n, d):
    """Differences that float32 products cannot see."""
    base = normalise(rng.normal(size=(3, d)))
    return base[rng.integers(3, size=n)] + 1e-7 * rng.normal(size=(n, d))


def of_any_length(rng, n, d):
    return rng.normal(size=(n, d)) * 10.0 ** rng.integers(-3, 3, size=(n, 1))


MAKE = {
    "normal": lambda rng, n, d: rng.normal(size=(n, d)),
    "float32": lambda rng, n, d: rng.normal(size=(n, d)).astype(np.float32),
    "few_values": few_values,
    "narrow": narrow,
    "near_ties": near_ties,
    "copies": lambda rng, n, d: rng.normal(size=(4, d))[rng.integers(4, size=n)],
    "equal": lambda rng, n, d: np.full((n, d), 1 / 3),
    "zeros": lambda rng, n, d: np.zeros((n, d)),
    "huge": lambda rng, n, d: 1e30 * rng.normal(size=(n, d)),
    "tiny": lambda rng, n, d: 1e-30 * rng.normal(size=(n, d)),
    "of_any_length": of_any_length,
}
CASES = st.tuples(
    st.sampled_from([*MAKE]),
    st.integers(1, 40),  # queries
    st.integers(1, 150),  # candidates
    st.integers(1, 9),  # width
    st.integers(0, 10**6),  # seed
)


def drawn(case):
    """Queries, candidates, and codes of both for what matches and for what is left out."""
    name, n_queries, n_candidates, width, seed = case
    rng = np.random.default_rng(seed)
    sizes = n_queries, n_candidates
    vectors = [MAKE[name](rng, n, width) for n in sizes]
    wanted, left_out = (tuple(rng.integers(c, size=n) for n in sizes) for c in (5, 7))
    return *vectors, wanted, left_out if seed % 2 else None


@pytest.fixture(params=[False, True], ids=["whole", "small_blocks"])
def _blocks(request, monkeypatch):
    """Once as it is, once with several blocks, tiles and pieces of everything."""
    if request.param:
        monkeypatch.setattr(products, "ROWS", 7)
        monkeypatch.setattr(products, "FEWEST_ROWS", 7)
        monkeypatch.setattr(products, "COLUMNS", 64)
        monkeypatch.setattr(products, "ELEMENTS", 300)
        monkeypatch.setattr(products, "CACHED", 20)
        monkeypatch.setattr(neighbours, "COLUMNS", 64)
        monkeypatch.setattr(ranking, "ELEMENTS", 300)


@settings(max_examples=150, deadline=None)
@given(CASES, st.integers(1, 30))
@pytest.mark.usefixtures("_blocks")
def test_neighbours_by_definition(case, k):
    queries, candidates, _, exclude = drawn(case)
    scores, order = by_definition(queries, candidates, exclude)
    expected = order[:, :k]
    of_expected = np.take_along_axis(scores, expected, axis=1)
    there = of_expected > -np.inf
    indices, found = top_k(queries, candidates, k, exclude=exclude)
    assert indices.tolist() == np.where(there, expected, -1).tolist()
    assert (found[~there] == -np.inf).all()
    size = np.abs(scores[scores > -np.inf]).max(initial=0)
    np.testing.assert_allclose(found[there], of_expected[there], rtol=1e-9, atol=1e-12 * size)


@settings(max_examples=150, deadline=None)
@given(CASES)
@pytest.mark.usefixtures("_blocks")
def test_ranks_and_average_precision_by_definition(case):
    queries, candidates, wanted, exclude = drawn(case)
    scores, order = by_definition(queries, candidates, exclude)
    hit = (wanted[0][:, None] == wanted[1]) & (scores > -np.inf)
    hit = np.take_along_axis(hit, order, axis=1)
    n = hit.sum(axis=1)
    rank = np.where(n > 0, 1 + hit.argmax(axis=1), 0)
    precision = np.where(hit, hit.cumsum(axis=1) / np.arange(1, len(candidates) + 1), 0).sum(axis=1)
    assert best_ranks(queries, candidates, wanted, exclude=exclude).tolist() == rank.tolist()
    found, first, number = average_precision(queries, candidates, wanted, exclude=exclude)
    assert first.tolist() == rank.tolist()
    assert number.tolist() == n.tolist()
    np.testing.assert_allclose(found[n > 0], precision[n > 0] / n[n > 0])
    assert np.isnan(found[n == 0]).all()


@pytest.mark.parametrize("name", ["normal", "few_values", "near_ties", "copies", "narrow"])
def test_large_sets_by_definition(name):
    """More than one tile, and both ways to decide: pair by pair and whole rows."""
    rng = np.random.default_rng(0)
    queries, candidates = (MAKE[name](rng, n, 24) for n in (60, 5000))
    _, order = by_definition(queries, candidates)
    for k in (1, 20, 300):
        assert top_k(queries, candidates, k)[0].tolist() == order[:, :k].tolist()
    place = np.argsort(order, axis=1)
    for n_codes in (3, 5000):
        wanted = rng.integers(n_codes, size=60), np.arange(5000) % n_codes
        positive = wanted[0][:, None] == wanted[1]
        expected = 1 + np.where(positive, place, 5000).min(axis=1)
        assert best_ranks(queries, candidates, wanted).tolist() == expected.tolist()


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 60), st.integers(0, 10**6), st.floats(1e-6, 1e6))
def test_order_rotation_and_length_mean_nothing(n, seed, scale):
    rng = np.random.default_rng(seed)
    queries, candidates = rng.normal(size=(2, n, 5))
    k, codes = min(n, 7), np.arange(n)
    indices, scores = top_k(queries, candidates, k)
    ranks = best_ranks(queries, candidates, (codes, codes))
    rotation = np.linalg.qr(rng.normal(size=(5, 5)))[0]
    order = rng.permutation(n)
    lengths = scale * rng.uniform(0.1, 10, size=(n, 1))
    moved = queries @ rotation * lengths, (candidates @ rotation * scale)[order]
    found, of_found = top_k(*moved, k)
    assert order[found].tolist() == indices.tolist()
    np.testing.assert_allclose(of_found, scores * lengths * scale)
    assert best_ranks(*moved, (codes, order)).tolist() == ranks.tolist()


def test_a_common_shift_of_the_candidates_means_nothing():
    rng = np.random.default_rng(0)
    queries, candidates = rng.normal(size=(2, 80, 6))
    shifted = candidates + 100.0
    assert (top_k(queries, candidates, 9)[0] == top_k(queries, shifted, 9)[0]).all()


def test_average_precision_is_torchmetrics():
    rng = np.random.default_rng(1)
    queries, candidates = (rng.normal(size=(n, 8)) for n in (20, 70))
    codes = rng.integers(4, size=20), rng.integers(4, size=70)
    found = average_precision(queries, candidates, codes)[0]
    # torchmetrics takes a score of zero or less for not retrieved
    scores = torch.from_numpy(queries @ candidates.T).exp()
    relevant = torch.from_numpy(codes[0][:, None] == codes[1])
    pairs = zip(scores, relevant, strict=True)
    expected = [retrieval_average_precision(s, r).item() for s, r in pairs]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


@pytest.mark.parametrize("search", [best_ranks, average_precision, lambda *a: top_k(*a[:2], 3)])
def test_what_does_not_fit_is_told(search):
    codes = np.zeros(4, np.int64)
    with pytest.raises(EvaluationError, match="no candidates"):
        search(np.ones((4, 2)), np.ones((0, 2)), (codes, codes[:0]))
    with pytest.raises(EvaluationError, match=r"\(4, 2\), candidates \(4, 3\)"):
        search(np.ones((4, 2)), np.ones((4, 3)), (codes, codes))


def test_wrong_codes_and_numbers_are_told():
    x, codes = np.ones((4, 2)), np.zeros(4, np.int64)
    with pytest.raises(EvaluationError, match="4 and 3 codes"):
        best_ranks(x, x, (codes, codes[:3]))
    with pytest.raises(EvaluationError, match="k = 0"):
        top_k(x, x, 0)


def test_no_queries():
    empty, x, codes = np.ones((0, 2)), np.ones((3, 2)), np.zeros(3, np.int64)
    indices, scores = top_k(empty, x, 2)
    assert indices.shape == scores.shape == (0, 2)
    assert best_ranks(empty, x, (codes[:0], codes)).shape == (0,)
    assert average_precision(empty, x, (codes[:0], codes))[0].shape == (0,)
