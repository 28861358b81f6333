import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import accuracy_score, balanced_accuracy_score, f1_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler

from shared.evaluation import statistics
from shared.evaluation.classification import METRICS, classification_output
from shared.evaluation.linear_probe import linear_probe
from shared.evaluation.nearest_centroid import (
    class_centres,
    nearest_centroid,
    normalise,
    unit_mean,
)
from shared.evaluation.nearest_neighbour import nearest_neighbour
from shared.evaluation.output import Rows

CLASSES = ("a", "b", "c", "d")


def rows(labels, vectors=None, seed=0, width=5):
    labels = np.asarray(labels, dtype=np.int64)
    if vectors is None:
        rng = np.random.default_rng(seed)
        vectors = np.eye(4, width)[labels] * 2 + rng.normal(size=(len(labels), width))
    return Rows(np.asarray(vectors), labels, np.arange(len(labels)).astype(str))


def splits(n=60, n_classes=4, **kwargs):
    return [rows(np.arange(n) % n_classes, seed=seed, **kwargs) for seed in (1, 2, 3)]


def score(truth, predicted, train=(0, 1, 2, 3), n_resamples=0):
    return classification_output(
        "p", 1, train=rows(train), test=rows(truth), predicted=np.asarray(predicted),
        classes=CLASSES, settings={}, seed=0, n_resamples=n_resamples,
    )  # fmt: skip


def values(output, field="value"):
    return {s.metric: getattr(s, field) for s in output.scores}


PAIRS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=40)


@pytest.mark.filterwarnings("ignore:y_pred contains classes")
@pytest.mark.filterwarnings("ignore:A single label")
@given(PAIRS)
def test_metrics_are_those_of_scikit_learn(pairs):
    truth, predicted = map(list, zip(*pairs, strict=True))
    assert values(score(truth, predicted)) == pytest.approx(
        {
            "accuracy": accuracy_score(truth, predicted),
            "balanced_accuracy": balanced_accuracy_score(truth, predicted),
            "macro_f1": f1_score(truth, predicted, average="macro", zero_division=0),
        }
    )


@settings(max_examples=30)
@given(PAIRS, st.permutations(range(4)))
def test_the_order_of_the_classes_does_not_matter(pairs, permutation):
    truth, predicted = (np.array(column) for column in zip(*pairs, strict=True))
    p = np.array(permutation)
    assert values(score(p[truth], p[predicted])) == pytest.approx(values(score(truth, predicted)))


def test_intervals_are_those_of_a_loop_over_scikit_learn():
    rng = np.random.default_rng(0)
    truth = rng.integers(4, size=50)
    predicted = np.where(rng.random(50) < 0.6, truth, rng.integers(4, size=50))
    output = score(truth, predicted, n_resamples=200)
    # Groups are the row numbers as text: draw g stands for the g-th name in sorted order.
    order = np.argsort(np.arange(50).astype(str))
    draws = statistics._draw(np.random.default_rng(0), 200, 50).astype(int)
    samples = [np.repeat(order, counts) for counts in draws]
    for i, metric in enumerate(
        (
            accuracy_score,
            balanced_accuracy_score,
            lambda t, p: f1_score(t, p, average="macro", zero_division=0),
        )
    ):
        loop = [metric(truth[s], predicted[s]) for s in samples]
        assert output.scores[i].low == pytest.approx(np.quantile(loop, 0.025))
        assert output.scores[i].high == pytest.approx(np.quantile(loop, 0.975))


def test_chance_is_what_uniform_guesses_reach():
    truth = np.repeat([0, 1, 2, 3], [1000, 600, 300, 100])
    rng = np.random.default_rng(0)
    guesses = [values(score(truth, rng.integers(4, size=2000))) for _ in range(30)]
    for metric, chance in values(score(truth, truth), "chance").items():
        assert np.mean([g[metric] for g in guesses]) == pytest.approx(chance, abs=0.005)
        if metric != "macro_f1":
            assert chance == pytest.approx(0.25)


def test_trivial_is_the_majority_of_train_not_of_test():
    truth = [0, 0, 0, 1, 2, 3]
    output = score(truth, truth, train=[1, 1, 0, 2])
    f1 = f1_score(truth, [1] * 6, average="macro", zero_division=0)
    expected = {"accuracy": 1 / 6, "balanced_accuracy": 1 / 4, "macro_f1": f1}
    assert values(output, "trivial") == pytest.approx(expected)


def test_classes_absent_from_train_or_test_are_named():
    output = score([0, 1, 3], [0, 1, 0], train=[0, 1, 2])
    assert output.settings["classes_not_in_train"] == ["d"]
    assert output.settings["classes_not_in_test"] == ["c"]
    assert output.n_per_class == {"a": 1, "b": 1, "c": 0, "d": 1}
    assert values(output, "chance")["accuracy"] == pytest.approx(2 / 9)


def test_linear_probe_is_scikit_learns_pipeline():
    train, val, test = splits()
    output = linear_probe(train, val, test, classes=CLASSES, l2_grid=[0.01])
    scaler = StandardScaler().fit(train.vectors)
    x = scaler.transform(np.concatenate([train.vectors, val.vectors]))
    model = LogisticRegression(C=1 / (0.01 * 120), max_iter=500)
    model.fit(x, np.concatenate([train.labels, val.labels]))
    assert output.predicted.tolist() == model.predict(scaler.transform(test.vectors)).tolist()
    assert output.settings["converged"] is True


def test_linear_probe_chooses_on_val_and_the_strongest_on_a_tie():
    # With uneven classes, all but the intercept is gone at a great strength: one class remains.
    uneven = [rows(np.repeat([0, 1, 2, 3], [60, 10, 10, 10]), seed=seed) for seed in (1, 2, 3)]
    output = linear_probe(*uneven, classes=CLASSES, l2_grid=[1e-2, 1e6, 1e5])
    assert output.settings["l2"] == 1e-2
    assert output.settings["val_balanced_accuracy"] > 0.5
    constant = [rows(np.arange(8) % 4, np.ones((8, 3))) for _ in range(3)]
    assert linear_probe(*constant, classes=CLASSES).settings["l2"] == 10.0


@pytest.mark.parametrize("protocol", [linear_probe, nearest_centroid, nearest_neighbour])
def test_separable_classes_are_all_right_and_noise_is_at_chance(protocol):
    def run(train, val, test):
        parts = (train, val, test) if protocol is linear_probe else (train, test)
        return protocol(*parts, classes=CLASSES)

    labels = np.arange(200) % 4
    easy = [rows(labels, np.eye(4)[labels]) for _ in range(3)]
    assert set(values(run(*easy)).values()) == {1.0}
    rng = np.random.default_rng(0)
    noise = [rows(labels, rng.normal(size=(200, 5))) for _ in range(3)]
    for s in run(*noise).scores:
        assert s.low <= 0.25 <= s.high


@pytest.mark.parametrize("protocol", [linear_probe, nearest_centroid, nearest_neighbour])
@settings(max_examples=8, deadline=None)
@given(permutation=st.permutations(range(4)), seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_invariances(protocol, permutation, seed, scale):
    """Names of the classes, order of the rows and a common scale change no prediction."""
    parts = splits() if protocol is linear_probe else splits()[1:]
    p, rng = np.array(permutation), np.random.default_rng(seed)
    before = protocol(*parts, classes=CLASSES, n_resamples=0)
    orders = [rng.permutation(len(part)) for part in parts]
    after = protocol(
        *(
            Rows(part.vectors[o] * scale, p[part.labels[o]], part.groups[o])
            for part, o in zip(parts, orders, strict=True)
        ),
        classes=CLASSES,
        n_resamples=0,
    )
    assert after.predicted.tolist() == p[before.predicted[orders[-1]]].tolist()


@settings(max_examples=20)
@given(st.integers(0, 10**6))
def test_the_length_of_single_embeddings_means_nothing_to_their_mean(seed):
    rng = np.random.default_rng(seed)
    parts = [rng.normal(size=(20, 3)).astype(np.float32) for _ in range(2)]
    scaled = [part * rng.uniform(0.1, 10, size=(20, 1)).astype(np.float32) for part in parts]
    np.testing.assert_allclose(unit_mean(parts), unit_mean(scaled), atol=1e-6)


def test_the_mean_of_modalities_is_not_normalised_again():
    same, opposite = [[3.0, 4.0]], [[-6.0, -8.0]]
    parts = [np.array(p, np.float32) for p in (same, same, opposite)]
    np.testing.assert_allclose(unit_mean(parts), [[0.2, 0.8 / 3]])


def test_centroids_by_hand():
    # the centre of a is at 45°; that of b lies where its longer row points, as lengths count
    train = rows([0, 0, 1, 1], [[1, 0], [0, 1], [-0.9, 0], [0, -0.3]])
    known, centres = class_centres(train)
    assert known.tolist() == [0, 1]
    expected = [np.array([1, 1]) / np.sqrt(2), np.array([-3, -1]) / np.sqrt(10)]
    np.testing.assert_allclose(centres, expected)
    test = rows([0, 0, 1], [[0, 5], [1, 0], [-1, 0.9]])
    assert nearest_centroid(train, test, classes=("a", "b")).predicted.tolist() == [0, 0, 1]


def test_nearest_neighbours_by_hand():
    # dot products, not cosines: the longer row wins against one of the same direction
    train = rows([0, 1, 2], [[0.5, 0], [1, 0], [0, 1]])
    test = rows([0, 1, 2], [[1, 0.1], [0.1, 0.2], [-1, -2]])
    classes = ("a", "b", "c")
    assert nearest_neighbour(train, test, classes=classes).predicted.tolist() == [1, 2, 0]


def test_nearest_neighbours_do_not_depend_on_the_block(monkeypatch):
    train, _, test = splits()
    whole = nearest_neighbour(train, test, classes=CLASSES, n_resamples=0)
    monkeypatch.setattr("shared.evaluation.nearest_neighbour._BLOCK_ELEMENTS", 7 * len(train))
    blocks = nearest_neighbour(train, test, classes=CLASSES, n_resamples=0)
    assert blocks.predicted.tolist() == whole.predicted.tolist()
    found = KNeighborsClassifier(1, metric="cosine").fit(normalise(train.vectors), train.labels)
    unit = [Rows(normalise(part.vectors), part.labels, part.groups) for part in (train, test)]
    ours = nearest_neighbour(*unit, classes=CLASSES, n_resamples=0).predicted
    assert ours.tolist() == found.predict(test.vectors).tolist()


def test_zero_rows_stay_zero():
    assert normalise(np.array([[0, 0], [3, 4]], np.float32)).tolist() == [[0, 0], [0.6, 0.8]]


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        (([], [0, 1], [0, 1]), "no labelled rows in the train"),
        (([0, 1], [], [0, 1]), "no labelled rows in the val"),
        (([0, 1], [0, 1], []), "no labelled rows in the test"),
        (([0, 0], [0, 1], [0, 1]), "fewer than 2 classes in the train"),
        (([0, 1], [0, 1], [1]), "fewer than 2 classes in the test"),
    ],
)
def test_what_cannot_be_judged_is_missing_with_a_reason(labels, reason):
    train, val, test = (rows(x) for x in labels)
    output = linear_probe(train, val, test, classes=CLASSES)
    assert reason in output.missing
    assert [s.metric for s in output.scores] == list(METRICS)
    assert all(s.value is None for s in output.scores)
    if "val" not in reason:
        assert reason in nearest_centroid(train, test, classes=CLASSES).missing
        assert reason in nearest_neighbour(train, test, classes=CLASSES).missing


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_embeddings_predict_one_class(value):
    constant = [rows(np.arange(12) % 3, np.full((12, 4), value)) for _ in range(3)]
    for output in (
        linear_probe(*constant, classes=CLASSES[:3]),
        nearest_centroid(constant[0], constant[2], classes=CLASSES[:3]),
        nearest_neighbour(constant[0], constant[2], classes=CLASSES[:3]),
    ):
        assert len(set(output.predicted.tolist())) == 1
        assert values(output)["balanced_accuracy"] == pytest.approx(1 / 3)
