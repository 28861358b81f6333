from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.retrieval import retrieval_hit_rate, retrieval_reciprocal_rank

from shared.errors import ConfigError, EvaluationError
from shared.evaluation.embeddings.copies import with_copies
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.protocols.retrieval import MEAN_RECALL, METRICS, PROTOCOL, retrieval
from shared.evaluation.run import evaluate_arrays


def pair(n=30, width=6, noise=1.0, seed=0):
    rng = np.random.default_rng(seed)
    queries = rng.normal(size=(n, width)).astype(np.float32)
    return queries, (queries + noise * rng.normal(size=(n, width))).astype(np.float32)


def values(outcome):
    found = outcome.statistic(np.ones((1, len(outcome))))[0].tolist()
    return dict(zip(outcome.metrics, found, strict=True))


def run(embeddings, **settings):
    chosen = {**PROTOCOL.settings, **settings}
    return [PROTOCOL.run(t, embeddings, chosen) for t in PROTOCOL.tasks(embeddings, chosen)]


def test_perfect_and_by_hand():
    x, _ = pair()
    perfect = dict.fromkeys(METRICS, 1.0)
    assert values(retrieval(x, x)) == perfect
    queries = np.array([[1, 0], [0, 1], [1, 0]], np.float32)
    candidates = np.array([[1, 0.1], [0, 1], [0, 1]], np.float32)
    outcome = retrieval(queries, candidates)
    assert outcome.ranks.tolist() == [1, 1, 3]
    assert values(outcome)["recall@1"] == pytest.approx(2 / 3)
    assert values(outcome)["mrr"] == pytest.approx((1 + 1 + 1 / 3) / 3)


def test_all_ties_are_at_chance():
    x = np.ones((40, 7), np.float32) / 3
    assert retrieval(x, x).ranks.tolist() == list(range(1, 41))


def test_torchmetrics_says_the_same():
    queries, candidates = pair(40, noise=2.0)
    codes = np.arange(40) // 2
    outcome = retrieval(queries, candidates, codes, codes)
    scores = 2 + torch.from_numpy(normalise(queries) @ normalise(candidates).T)
    relevant = torch.from_numpy(codes[:, None] == codes)
    for k in (1, 5, 10):
        hits = [retrieval_hit_rate(s, r, k) for s, r in zip(scores, relevant, strict=True)]
        assert values(outcome)[f"recall@{k}"] == pytest.approx(np.mean(hits))
    reciprocal = [retrieval_reciprocal_rank(s, r) for s, r in zip(scores, relevant, strict=True)]
    assert values(outcome)["mrr"] == pytest.approx(np.mean(reciprocal))


@settings(max_examples=20, deadline=None)
@given(st.integers(2, 30), st.integers(0, 10**6), st.floats(0.01, 100))
def test_a_common_order_and_scale_mean_nothing(n, seed, scale):
    a, b = pair(n, seed=seed)
    order = np.random.default_rng(seed).permutation(n)
    after = retrieval(a[order] * np.float32(scale), b[order])
    assert after.ranks.tolist() == retrieval(a, b).ranks[order].tolist()


def test_noise_with_several_positives_is_at_chance(make_set):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(40):
        vectors = dict(zip(("a", "b"), rng.normal(size=(2, 60, 4)).astype(np.float32), strict=True))
        made = make_set(
            n=60,
            vectors=vectors,
            present={m: np.ones(60, np.bool_) for m in vectors},
            splits=np.full(60, "test"),
            groups=np.repeat([f"g{i}" for i in range(20)], 3),
        )
        found += run(made, positives="group")
    for metric, chance in found[0].chance.items():
        mean = np.mean([values(output.outcome)[metric] for output in found])
        assert mean == pytest.approx(chance, rel=0.1)


def test_any_positive_counts():
    queries = np.eye(4, dtype=np.float32)
    candidates = np.roll(queries, 1, axis=0)  # the match of query i stands at row i + 1
    codes = np.array([0, 0, 1, 1])
    assert values(retrieval(queries, candidates))["recall@1"] == 0.0
    shared = retrieval(queries, candidates, codes, codes)
    assert values(shared)["recall@1"] == 0.5
    assert shared.n_positives.tolist() == [2, 2, 2, 2]


def test_fewer_queries_than_candidates():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(6, 9))
    captions = np.repeat(images, 5, axis=0) + 0.01 * rng.normal(size=(30, 9))
    codes = np.arange(6), np.repeat(np.arange(6), 5)
    to_text = retrieval(images, captions, *codes)
    to_image = retrieval(captions, images, *codes[::-1])
    assert (len(to_text), to_text.n_candidates, to_text.n_positives.tolist()) == (6, 30, [5] * 6)
    assert (len(to_image), to_image.n_candidates) == (30, 6)
    assert (to_text.ranks == 1).all()
    assert (to_image.ranks == 1).all()


def captioned(make_set):
    """Eight images in five rows each, one a caption."""
    rng = np.random.default_rng(0)
    images = rng.normal(size=(8, 6)).astype(np.float32)
    rows = np.repeat(images, 5, axis=0)
    captions = (rows + rng.normal(size=rows.shape)).astype(np.float32)
    return make_set(
        n=40,
        vectors={"image": rows, "text": captions},
        present={m: np.ones(40, np.bool_) for m in ("image", "text")},
        splits=np.full(40, "test"),
        groups=np.repeat([f"image{i}" for i in range(8)], 5),
    )


def test_an_image_with_several_captions_is_one_query_and_one_candidate(make_set):
    to_text, to_image = run(with_copies(captioned(make_set)), positives="group")
    assert to_text.rows.tolist() == list(range(0, 40, 5))
    assert (to_text.outcome.n_candidates, to_image.outcome.n_candidates) == (40, 8)
    assert to_text.outcome.n_positives.tolist() == [5] * 8
    assert to_image.outcome.n_positives.tolist() == [1] * 40
    assert to_image.chance["recall@1"] == pytest.approx(1 / 8)


def test_equal_captions_of_an_image_are_several(make_set):
    made = captioned(make_set)
    made.vectors["text"][1] = made.vectors["text"][0]
    to_text, to_image = run(with_copies(made), positives="group")
    assert (to_text.outcome.n_candidates, len(to_image.outcome)) == (40, 40)


def test_captions_are_drawn_with_their_image(make_set):
    """As wide as if each image had one caption: five of a kind are no five measurements."""
    rng = np.random.default_rng(0)
    images, wrong = np.eye(60, dtype=np.float32), np.roll(np.eye(60, dtype=np.float32), 1, axis=0)
    texts = np.where(rng.random((60, 1)) < 0.5, images, wrong)

    def width(captions):
        made = make_set(
            n=60 * captions,
            vectors={m: np.repeat(v, captions, 0) for m, v in (("a", images), ("b", texts))},
            present={m: np.ones(60 * captions, np.bool_) for m in ("a", "b")},
            splits=np.full(60 * captions, "test"),
            groups=np.repeat([f"g{i:02}" for i in range(60)], captions),
        )
        # captions of an image differ in what no image looks at
        made.vectors["b"][:] += 1e-3 * rng.normal(size=made.vectors["b"].shape)
        evaluation = evaluate_arrays(
            made, [PROTOCOL], settings={"retrieval": {"positives": "group"}}, n_resamples=200
        )
        (result,) = (r for r in evaluation.results if (r.inputs, r.metric) == ("b->a", "recall@1"))
        assert (result.n, result.n_groups) == (60 * captions, 60)
        return result.ci_high - result.ci_low

    assert width(5) == pytest.approx(width(1), rel=0.02)


def both_ways(embeddings, **settings):
    chosen = {**MEAN_RECALL.settings, **settings}
    return [MEAN_RECALL.run(t, embeddings, chosen) for t in MEAN_RECALL.tasks(embeddings, chosen)]


@pytest.mark.parametrize("positives", ["row", "group", "label"])
def test_mean_recall_is_that_of_both_directions(make_set, positives):
    made = with_copies(make_set(n=60, noise=4.0, splits=np.full(60, "test"), absent=0))
    made = replace(made, groups=np.repeat([f"g{i}" for i in range(20)], 3))
    forward, backward = run(made, positives=positives)
    (both,) = both_ways(made, positives=positives)
    recalls = [f"recall@{k}" for k in (1, 5, 10)]
    expected = [values(o.outcome)[name] for o in (forward, backward) for name in recalls]
    assert values(both.outcome)["mean_recall"] == pytest.approx(np.mean(expected))
    chances = [o.chance[name] for o in (forward, backward) for name in recalls]
    assert both.chance["mean_recall"] == pytest.approx(np.mean(chances))
    assert len(both.rows) == (20 if positives == "group" else 60)


def test_mean_recall_draws_images_with_their_captions(make_set):
    (both,) = both_ways(with_copies(captioned(make_set)), positives="group")
    assert both.rows.tolist() == list(range(0, 40, 5))
    assert both.outcome.queries.tolist() == [[1, 5]] * 8
    assert "with 8 candidates" in both.outcome.reasons()["mean_recall"]
    first = both.outcome.take(np.array([0]))
    assert first.hits[0, 0].tolist() == sorted(first.hits[0, 0].tolist())


def test_mean_recall_of_one_modality_is_missing(make_set):
    (both,) = both_ways(make_set(widths=(3,)))
    assert (both.metrics, "one modality" in both.missing) == (("mean_recall",), True)


def test_classes_as_positives(make_set):
    made = make_set(n=60, splits=np.full(60, "test"), absent=0)
    made.labels[:3] = -1
    output = run(made, positives="label")[0]
    assert output.rows.tolist() == list(range(3, 60))
    assert output.outcome.n_positives.sum() == 3 * 14**2 + 15**2
    assert values(output.outcome)["recall@1"] > 0.8


def test_a_model_that_has_collapsed_is_at_chance(make_set):
    vectors = {m: np.ones((50, 3), np.float32) for m in ("a", "b")}
    present = {m: np.ones(50, np.bool_) for m in vectors}
    made = make_set(n=50, vectors=vectors, present=present, splits=np.full(50, "test"))
    for output in run(made):
        assert values(output.outcome) == pytest.approx(dict(output.chance))


def test_ordered_pairs(make_set):
    made = make_set(widths=(4, 4, 4))
    tasks = PROTOCOL.tasks(made, PROTOCOL.settings)
    pairs = ("m0->m1", "m0->m2", "m1->m0", "m1->m2", "m2->m0", "m2->m1")
    assert tuple(task.inputs for task in tasks) == pairs
    with pytest.raises(ConfigError, match="positives='name'"):
        PROTOCOL.tasks(made, {"positives": "name"})


def test_what_cannot_be_ranked_is_missing_with_a_reason(make_set):
    made = make_set(n=20)
    none = replace(made, splits=np.full(20, "train"))
    assert "0 test rows with both" in run(none)[0].missing
    assert "differ in width (m0 3, m1 4)" in run(make_set(widths=(3, 4)))[0].missing
    assert "one modality" in run(make_set(widths=(3,)))[0].missing
    assert run(none)[0].metrics == METRICS
    with pytest.raises(EvaluationError, match=r"\(5, 3\), candidates \(5, 4\)"):
        retrieval(pair(5, 3)[0], pair(5, 4)[0])
