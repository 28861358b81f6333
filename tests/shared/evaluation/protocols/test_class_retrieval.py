from dataclasses import replace

import numpy as np
import pytest

from shared.errors import ConfigError
from shared.evaluation.protocols.class_retrieval import PROTOCOL
from shared.evaluation.protocols.zero_shot import PROTOCOL as ZERO_SHOT


def run(embeddings, **settings):
    chosen = {**PROTOCOL.settings, **settings}
    return [PROTOCOL.run(t, embeddings, chosen) for t in PROTOCOL.tasks(embeddings, chosen)]


def values(output):
    return dict(zip(output.outcome.metrics, output.outcome.values().tolist(), strict=True))


@pytest.fixture
def by_hand(make_set):
    """Five test rows of three classes on a circle; prompts at 0°, 90° and 180°."""
    angles = np.radians([0, 50, 80, 100, 140])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    return make_set(
        n=5,
        n_classes=3,
        labels=np.array([0, 0, 1, 2, 1]),
        vectors={"image": vectors},
        present={"image": np.ones(5, np.bool_)},
        splits=np.full(5, "test"),
        prompts=np.array([[[3, 0]], [[0, 1]], [[-1, 0]]], np.float32),
    )


def test_ranks_by_hand(by_hand):
    to_names, from_names = run(by_hand)
    assert to_names.outcome.ranks.tolist() == [1, 2, 1, 2, 2]
    assert to_names.rows.tolist() == [0, 1, 2, 3, 4]
    # for 180° the rows stand in the order 4, 3, 2, 1, 0
    assert from_names.outcome.ranks.tolist() == [1, 1, 2]
    assert from_names.outcome.average_precision == pytest.approx([1, (1 + 2 / 4) / 2, 1 / 2])
    assert from_names.rows.tolist() == [0, 2, 3]
    assert from_names.outcome.n_positives.tolist() == [2, 2, 1]


def test_the_first_name_is_the_class_of_zero_shot(make_set):
    made = make_set(noise=2.0)
    rng = np.random.default_rng(0)
    made = replace(made, prompts=rng.normal(size=(4, 3, 8)).astype(np.float32))
    for order in ("normalise_first", "average_first"):
        (zero_shot, *_) = (
            ZERO_SHOT.run(task, made, {**ZERO_SHOT.settings, "order": order})
            for task in ZERO_SHOT.tasks(made, ZERO_SHOT.settings)
        )
        to_names = run(made, order=order)[0]
        accuracy = zero_shot.outcome.values()[0]
        assert values(to_names)["recall@1"] == pytest.approx(accuracy)


def test_noise_is_at_chance(make_set):
    rng = np.random.default_rng(0)
    found = []
    for seed in range(60):
        made = make_set(n=40, noise=1e6, splits=np.full(40, "test"), absent=0, seed=seed)
        found.append(run(replace(made, prompts=rng.normal(size=(4, 1, 8)).astype(np.float32))))
    for direction in range(2):
        chance = found[0][direction].chance
        for metric in ("recall@1", "mrr", "map"):
            mean = np.mean([values(outputs[direction])[metric] for outputs in found])
            assert mean == pytest.approx(chance[metric], abs=0.04), metric


def test_what_cannot_be_ranked_is_missing(by_hand):
    assert "no prompts" in run(replace(by_hand, prompts=None))[0].missing
    with pytest.raises(ConfigError, match=r"class_retrieval\.order='first'"):
        run(by_hand, order="first")
