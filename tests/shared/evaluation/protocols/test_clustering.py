import numpy as np
import pytest
from sklearn.metrics import adjusted_rand_score, normalized_mutual_info_score

from shared.evaluation.protocols.clustering import PROTOCOL, clustering


def run(embeddings, **settings):
    chosen = {**PROTOCOL.settings, **settings}
    tasks = PROTOCOL.tasks(embeddings, chosen)
    return {t.inputs: PROTOCOL.run(t, embeddings, chosen) for t in tasks}


def values(outcome):
    found = outcome.statistic(np.ones((1, len(outcome))))[0].tolist()
    return dict(zip(outcome.metrics, found, strict=True))


def test_separable_classes_are_the_clusters_whatever_their_length():
    rng = np.random.default_rng(0)
    labels = np.arange(60) % 3
    vectors = np.eye(3)[labels] * rng.uniform(0.1, 10, size=(60, 1))
    assert adjusted_rand_score(labels, clustering(vectors, 3)) == 1.0


def test_seeds_are_told_and_repeat():
    vectors = np.random.default_rng(0).normal(size=(80, 5))
    assert (clustering(vectors, 4, seed=1) == clustering(vectors, 4, seed=1)).all()


def test_protocol_on_a_set(make_set):
    made = make_set(n=400)
    outputs = run(made, seeds=[3, 4])
    assert [*outputs] == ["m0", "m1", "all"]
    output = outputs["m0"]
    assert output.seeds == output.outcome.seeds == (3, 4)
    assert output.settings == {"n_clusters": 4}
    truth = made.labels[output.rows]
    for metric, definition in [("nmi", normalized_mutual_info_score), ("ari", adjusted_rand_score)]:
        of_seeds = [definition(truth, outcome.clusters) for outcome in output.outcome.outcomes]
        assert values(output.outcome)[metric] == pytest.approx(np.mean(of_seeds))
        assert values(output.trivial)[metric] == pytest.approx(0)
    assert values(output.outcome)["nmi"] > 0.7


def test_the_order_of_the_rows_does_not_matter(make_set):
    noise = np.random.default_rng(0).normal(size=(240, 6)).astype(np.float32)
    made = make_set(vectors={"m0": noise}, present={"m0": np.ones(240, bool)})
    turned = make_set(
        vectors={"m0": noise[::-1]},
        present=made.present,
        **{name: getattr(made, name)[::-1] for name in ("ids", "groups", "splits", "labels")},
    )
    one, other = (values(run(each, seeds=[0])["m0"].outcome) for each in (made, turned))
    assert one == pytest.approx(other)


def test_noise_has_no_clusters_of_classes(make_set):
    noise = np.random.default_rng(0).normal(size=(400, 6)).astype(np.float32)
    made = make_set(
        n=400,
        vectors={"m0": noise},
        present={"m0": np.ones(400, np.bool_)},
        splits=np.full(400, "test"),
    )
    assert abs(values(run(made, seeds=[0])["m0"].outcome)["ari"]) < 0.03


def test_constant_embeddings_are_one_cluster(make_set):
    made = make_set(vectors={m: np.ones((240, 3), np.float32) for m in ("m0", "m1")})
    found = values(run(made, seeds=[0])["m0"].outcome)
    assert found == pytest.approx({"nmi": 0, "ari": 0})


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"splits": np.full(240, "train")}, "0 labelled test rows of 0 classes"),
        ({"labels": np.zeros(240, np.int64)}, "of 1 classes; clusters need two"),
        ({"widths": (3, 4)}, "differ in width (m0 3, m1 4)"),
    ],
)
def test_what_cannot_be_judged_is_missing_with_a_reason(make_set, changes, reason):
    assert reason in run(make_set(**changes))["all"].missing
