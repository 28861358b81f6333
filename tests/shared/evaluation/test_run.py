from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from shared.errors import ConfigError, EvaluationError
from shared.evaluation import run as running
from shared.evaluation.cross_validation import cross_validated
from shared.evaluation.embeddings.embedding_set import TAGS
from shared.evaluation.protocol import Task
from shared.evaluation.protocols import (
    clustering,
    embedding_health,
    knn,
    linear_probe,
    nearest_centroid,
    retrieval,
    ridge_probe,
)
from shared.evaluation.protocols.classifier import ClassifierOutput
from shared.evaluation.results.store import EvaluationStore
from shared.evaluation.run import key_of, merge_settings

PROTOCOLS = (
    linear_probe.PROTOCOL,
    nearest_centroid.PROTOCOL,
    knn.NEAREST_NEIGHBOUR,
    retrieval.PROTOCOL,
)
CLASSIFIED = ("linear_probe", "nearest_centroid", "nearest_neighbour")


def evaluate_arrays(embeddings, protocols=PROTOCOLS, **options):
    return running.evaluate_arrays(embeddings, protocols, **options)


@pytest.fixture(scope="module")
def evaluation(made_up):
    return evaluate_arrays(made_up, n_resamples=100)


def by_key(evaluation, field="value"):
    return {(r.protocol, r.inputs, r.metric): getattr(r, field) for r in evaluation.results}


def test_every_protocol_on_every_input(evaluation, made_up):
    tasks = [(run.protocol.name, run.task.inputs) for run in evaluation.runs]
    assert tasks == [
        *((protocol, inputs) for protocol in CLASSIFIED for inputs in ("m0", "m1", "all")),
        ("retrieval", "m0->m1"),
        ("retrieval", "m1->m0"),
    ]
    for result in evaluation.results:
        assert result.missing is None
        assert result.ci_missing or result.ci_low <= result.value <= result.ci_high
        assert result.synthetic
        assert result.dataset == "made_up"
        assert result.split_fingerprint == made_up.split_fingerprint
        assert "numpy" in result.versions


def test_signal_is_found_and_rows_are_those_with_the_modality(evaluation, made_up):
    values, counts = by_key(evaluation), by_key(evaluation, "n")
    assert values["linear_probe", "all", "balanced_accuracy"] > 0.9
    assert values["nearest_centroid", "m0", "accuracy"] > 0.9
    chance = by_key(evaluation, "chance")["retrieval", "m0->m1", "recall@5"]
    assert values["retrieval", "m0->m1", "recall@5"] > 3 * chance
    both = len(made_up.rows("test", "m0", "m1"))
    assert counts["linear_probe", "m0", "accuracy"] == len(made_up.rows("test", "m0"))
    assert counts["linear_probe", "all", "accuracy"] == both
    assert counts["retrieval", "m1->m0", "mrr"] == both


def test_predictions_stand_beside_their_ids(evaluation, made_up):
    labels = dict(zip(made_up.ids.tolist(), made_up.labels.tolist(), strict=True))
    for run in evaluation.runs:
        ids = run.ids(made_up).tolist()
        assert len(ids) == len(run.output.outcome) == run.scores.n
        if run.protocol.name in CLASSIFIED:
            assert [labels[i] for i in ids] == run.output.outcome.truth.tolist()


def test_the_same_seed_gives_the_same_results(evaluation, made_up):
    again = evaluate_arrays(made_up, n_resamples=100)
    for field in ("value", "ci_low", "ci_high"):
        assert by_key(again, field) == by_key(evaluation, field)


def test_the_order_of_the_rows_does_not_matter(evaluation, made_up):
    order = np.random.default_rng(0).permutation(len(made_up))
    shuffled = replace(
        made_up,
        **{name: getattr(made_up, name)[order] for name in ("ids", "labels", "splits", "groups")},
        vectors={m: v[order] for m, v in made_up.vectors.items()},
        present={m: v[order] for m, v in made_up.present.items()},
    )
    again = evaluate_arrays(shuffled, n_resamples=100)
    for field in ("value", "ci_low", "ci_high"):
        one, two = by_key(again, field), by_key(evaluation, field)
        there = {key: value for key, value in two.items() if value is not None}
        assert {key: one[key] for key in there} == pytest.approx(there, rel=1e-2, abs=1e-4)
        assert all(one[key] is None for key in two.keys() - there.keys())


def test_simple_features_stand_beside_the_scores(made_up, make_set):
    noise = make_set(noise=50.0, present=made_up.present)
    evaluation = evaluate_arrays(made_up, simple_features=noise, n_resamples=0)
    values, simple = by_key(evaluation), by_key(evaluation, "simple_features")
    for key in (("linear_probe", "m0", "accuracy"), ("retrieval", "m0->m1", "mrr")):
        assert simple[key] < values[key] - 0.1
    same = by_key(
        evaluate_arrays(made_up, simple_features=made_up, n_resamples=0), "simple_features"
    )
    # The probe standardises by itself: on the embeddings themselves it gives the same score.
    assert same["linear_probe", "all", "macro_f1"] == values["linear_probe", "all", "macro_f1"]


def test_no_simple_score_where_a_judged_row_lacks_them(made_up, make_set):
    fewer = make_set(absent=0.9)
    simple = by_key(
        evaluate_arrays(made_up, simple_features=fewer, n_resamples=0), "simple_features"
    )
    assert simple["linear_probe", "m0", "accuracy"] is not None
    assert simple["linear_probe", "m1", "accuracy"] is None
    assert simple["linear_probe", "all", "accuracy"] is None


def test_simple_features_with_other_labels_are_an_error(made_up):
    """As of two files without ids, of which one was shuffled."""
    shuffled = replace(made_up, labels=np.roll(made_up.labels, 1))
    with pytest.raises(EvaluationError, match="other labels for the same ids"):
        evaluate_arrays(made_up, simple_features=shuffled, n_resamples=0)


def test_simple_features_of_other_samples_are_an_error(made_up, make_set):
    with pytest.raises(EvaluationError, match="not of the same samples"):
        evaluate_arrays(made_up, simple_features=make_set(n=60))


def test_unlabelled_data_can_still_be_retrieved(make_set):
    unlabelled = make_set(labels=np.full(240, -1), classes=())
    evaluation = evaluate_arrays(unlabelled, n_resamples=0)
    missing = by_key(evaluation, "missing")
    assert missing["linear_probe", "m0", "accuracy"] == "no labelled rows in the train split"
    assert missing["nearest_centroid", "all", "macro_f1"].startswith("no label")
    assert not evaluation.outliers.distance
    assert missing["retrieval", "m0->m1", "mrr"] is None


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({"n_classes": 1}, ("linear_probe", "m0", "accuracy"), "fewer than 2 classes"),
        ({"n": 1}, ("linear_probe", "m0", "accuracy"), "fewer than 2 classes in the train"),
        ({"n": 1}, ("retrieval", "m0->m1", "mrr"), "0 test rows"),
        ({"widths": (8, 5)}, ("nearest_centroid", "all", "accuracy"), "width (m0 8, m1 5)"),
        ({"widths": (8, 5)}, ("retrieval", "m0->m1", "mrr"), "differ in width"),
        ({"widths": (8,)}, ("retrieval", "m0", "mrr"), "one modality"),
        ({"absent": 1.1}, ("linear_probe", "m1", "accuracy"), "no labelled rows in the train"),
    ],
)
def test_what_cannot_run_is_a_result_with_a_reason(make_set, changes, key, reason):
    evaluation = evaluate_arrays(make_set(**changes), n_resamples=20)
    assert reason in by_key(evaluation, "missing")[key]
    assert by_key(evaluation)[key] is None


def test_progress(made_up):
    calls = []
    evaluate_arrays(
        made_up, PROTOCOLS[1:2], n_resamples=0, progress=lambda *args: calls.append(args)
    )
    assert calls[0] == ("nearest_centroid on m0", 0, 3)
    assert calls[-1] == ("done", 3, 3)


def test_settings_of_a_protocol(made_up):
    with pytest.raises(ConfigError, match="Did you mean 'temperature'"):
        evaluate_arrays(made_up, [knn.PROTOCOL], settings={"knn": {"temprature": 1}})
    results = evaluate_arrays(made_up, [knn.PROTOCOL], settings={"knn": {"k": 3}}).results
    assert {r.settings["k"] for r in results} == {3}


def test_a_key_is_of_all_that_determines_the_numbers(made_up):
    protocol = knn.PROTOCOL
    task = protocol.tasks(made_up, protocol.settings)[0]

    def key(embeddings=made_up, given=None, simple=None, seed=0, n_resamples=1000, task=task):
        settings = merge_settings(protocol, given or {})
        return key_of(protocol, task, settings, embeddings, simple, seed, n_resamples)

    vectors = {m: v.copy() for m, v in made_up.vectors.items()}
    vectors["m0"][0, 0] += 1
    labels = made_up.labels.copy()
    labels[0] = (labels[0] + 1) % 4
    other = [
        key(replace(made_up, vectors=vectors)),
        key(replace(made_up, labels=labels)),
        key(replace(made_up, splits=np.roll(made_up.splits, 1))),
        key(replace(made_up, subgroups={"telescope": np.full(len(made_up), "A")})),
        key(given={"k": 3}),
        key(simple=made_up),
        key(seed=1),
        key(n_resamples=10),
        key(task=replace(task, modalities=("m1",))),
    ]
    assert len({key(), *other}) == len(other) + 1
    assert key(replace(made_up, model="another name")) == key()


def test_a_key_follows_names_and_which_row_is_whose(make_set):
    """Few-shot draws go by id, the bootstrap by group, folds by label, classifiers by name."""
    column, reverse = np.array(["A", "B"] * 120), slice(None, None, -1)
    said = ClassifierOutput(("a", "b"), {("m0",): np.full((240, 2), 0.5, np.float32)})
    made = make_set(subgroups={"site": column}, tags={"t": np.zeros(240)}, classified=said)
    task = Task(("m0",), TAGS, inputs="m0")

    def key(**changes):
        return key_of(knn.PROTOCOL, task, {}, replace(made, **changes), None, 0, 100)

    others = [
        key(subgroups={"ward": column}),
        key(tags={"u": made.tags["t"]}),
        key(classified=replace(said, classes=("b", "a"))),
        key(labels=made.labels[reverse]),
        key(
            ids=made.ids[reverse],
            groups=made.groups[reverse],
            splits=made.splits[reverse],
        ),
    ]
    assert len({key(), *others}) == 6


def test_simple_features_may_lack_a_modality(make_set):
    made = make_set()
    only = replace(made, vectors={"m0": made.vectors["m0"]}, present={"m0": made.present["m0"]})
    found = evaluate_arrays(made, [knn.PROTOCOL], simple_features=only, n_resamples=0).results
    simple = {r.inputs: r.simple_features for r in found if r.metric == "accuracy"}
    assert simple["m0"] > 0.5
    assert simple["m1"] is simple["all"] is None


def test_subgroups_and_what_is_too_small(make_set):
    telescope = np.where(np.arange(240) % 3 == 0, "A", "B").astype("<U8")
    telescope[:3] = "rare"
    made = make_set(
        subgroups={"telescope": telescope}, splits=np.resize(["train", "test", "val"], 240)
    )
    made = replace(made, splits=np.where(telescope == "rare", "test", made.splits))
    results = evaluate_arrays(made, PROTOCOLS[1:2], n_resamples=50).results
    found = {(r.inputs, r.subgroup): r for r in results if r.metric == "accuracy"}
    assert found["m0", "telescope=rare"].missing == "fewer than 5 test rows"
    assert found["m0", "telescope=rare"].n == 3
    parts = [found["m0", f"telescope={name}"] for name in ("B",)]
    assert all(0 < part.ci_low <= part.value <= part.ci_high for part in parts)
    assert sum(r.n for (m, s), r in found.items() if m == "m0" and s) == found["m0", ""].n


def test_numbers_of_the_whole_set_have_no_subgroups(make_set):
    made = make_set(subgroups={"telescope": np.resize(["A", "B"], 240)})
    results = evaluate_arrays(made, [embedding_health.PROTOCOL], n_resamples=50).results
    assert results
    assert {result.subgroup for result in results} == {""}


def test_each_tag_is_scored_where_it_is_known(make_set):
    made = make_set(noise=6.0)
    tags = {f"tag{i}": (made.labels == i).astype(float) for i in range(3)}
    tags["tag0"][::3] = np.nan
    tags["rare"] = np.where(np.arange(240) < 200, 1.0 * (made.labels == 1), np.nan)
    tags["rare"][(made.splits == "test") & (np.cumsum(made.splits == "test") > 2)] = np.nan
    made = replace(made, tags=tags)
    (run,) = [
        r
        for r in evaluate_arrays(made, [knn.PROTOCOL], simple_features=made, n_resamples=50).runs
        if (r.task.target, r.task.inputs) == ("tags", "m0")
    ]
    parts = {scores.subgroup: scores for scores in run.subgroups}
    assert [*parts] == ["tag=tag0", "tag=tag1", "tag=tag2", "tag=rare"]
    test = made.splits == "test"
    known = test & ~np.isnan(tags["tag0"])
    assert parts["tag=tag0"].n == known.sum()
    assert parts["tag=tag0"].n_per_class == {"tag0": tags["tag0"][known].sum()}
    shares = run.output.outcome.scores[np.isin(run.output.rows, np.flatnonzero(known)), 0]
    score = parts["tag=tag0"]["auroc"]
    assert score.value == pytest.approx(roc_auc_score(tags["tag0"][known], shares))
    brier = parts["tag=tag0"]["brier"]
    assert brier.low < brier.value < brier.high
    precision = parts["tag=tag0"]["mean_average_precision"]
    assert precision.chance == pytest.approx(tags["tag0"][known].mean())
    assert precision.simple is not None
    assert parts["tag=rare"]["auroc"].missing == "fewer than 5 test rows"


def test_numbers_are_predicted_beside_the_mean(make_set):
    made = make_set()
    signal = made.vectors["m0"][:, 0].astype(float)
    made = replace(made, targets={"period": np.where(np.arange(240) % 7 == 0, np.nan, signal)})
    evaluation = evaluate_arrays(made, [ridge_probe.PROTOCOL], n_resamples=50)
    found = {(r.inputs, r.metric): r for r in evaluation.results}
    assert found["m0", "r2"].value > 0.99
    assert found["m0", "r2"].trivial <= 0
    assert found["m0", "r2"].target == "period"
    assert found["m0", "rmse"].better == "lower"


def test_folds_judge_every_sample_once(make_set):
    made = make_set(absent=0.0)
    protocols = [cross_validated(p, 4) for p in (nearest_centroid.PROTOCOL, clustering.PROTOCOL)]
    results = evaluate_arrays(made, protocols, n_resamples=20).results
    found = {(r.protocol, r.inputs, r.metric): r for r in results}
    accuracy = found["nearest_centroid", "m0", "accuracy"]
    assert (accuracy.n, accuracy.split) == (240, "4 folds")
    assert "clusters of one fold" in found["clustering", "m0", "nmi"].missing


def test_finished_tasks_are_read_back_and_the_results_are_the_same(made_up, tmp_path, monkeypatch):
    options = {"n_resamples": 50, "simple_features": made_up}
    whole = evaluate_arrays(made_up, **options)
    evaluate_arrays(made_up, PROTOCOLS[:2], store=EvaluationStore(tmp_path), **options)
    store = EvaluationStore(tmp_path)
    resumed = evaluate_arrays(made_up, store=store, **options)
    assert store.resumed == 6

    def plain(result):
        return replace(result, seconds=0.0, created=whole.results[0].created)

    assert list(map(plain, resumed.results)) == list(map(plain, whole.results))


def test_a_folder_of_another_evaluation_is_refused(made_up, make_set, tmp_path):
    evaluate_arrays(made_up, PROTOCOLS[1:2], n_resamples=0, store=EvaluationStore(tmp_path))
    with pytest.raises(EvaluationError, match="No result is overwritten"):
        evaluate_arrays(
            make_set(seed=1), PROTOCOLS[1:2], n_resamples=0, store=EvaluationStore(tmp_path)
        )
