from dataclasses import replace

import numpy as np
import pytest

from shared.errors import EvaluationError, UnknownNameError
from shared.evaluation.results import load_results, save_results
from shared.evaluation.run import PROTOCOLS, evaluate_arrays


@pytest.fixture(scope="module")
def evaluation(made_up):
    return evaluate_arrays(made_up, n_resamples=100)


def by_key(evaluation, field="value"):
    return {(r.protocol, r.inputs, r.metric): getattr(r, field) for r in evaluation.results}


def test_every_protocol_on_every_input(evaluation, made_up, tmp_path):
    tasks = [(run.task.protocol, run.task.inputs) for run in evaluation.runs]
    assert tasks == [
        *((protocol, inputs) for protocol in PROTOCOLS[:3] for inputs in ("m0", "m1", "all")),
        ("retrieval", "m0->m1"),
        ("retrieval", "m1->m0"),
    ]
    assert len(evaluation.results) == 9 * 3 + 2 * 5
    for result in evaluation.results:
        assert result.missing is None
        assert result.ci_low <= result.value <= result.ci_high
        assert result.synthetic
        assert result.dataset == "made_up"
        assert "numpy" in result.versions
    save_results(tmp_path / "r.json", evaluation.results)
    assert load_results(tmp_path / "r.json") == evaluation.results


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
        assert len(run.ids) == run.output.n
        if run.output.truth is not None:
            assert [labels[i] for i in run.ids.tolist()] == run.output.truth.tolist()
        else:
            assert len(run.output.ranks) == run.output.n


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
        assert by_key(again, field) == pytest.approx(by_key(evaluation, field))


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


def test_simple_features_of_other_samples_are_an_error(made_up, make_set):
    with pytest.raises(EvaluationError, match="not of the same samples"):
        evaluate_arrays(made_up, simple_features=make_set(n=60))


def test_unlabelled_data_can_still_be_retrieved(make_set):
    unlabelled = make_set(labels=np.full(240, -1), classes=())
    evaluation = evaluate_arrays(unlabelled, n_resamples=0)
    missing = by_key(evaluation, "missing")
    assert missing["linear_probe", "m0", "accuracy"] == "no labels"
    assert missing["nearest_centroid", "all", "macro_f1"] == "no labels"
    assert evaluation.outliers is None
    assert missing["retrieval", "m0->m1", "mrr"] is None


@pytest.mark.parametrize(
    ("changes", "key", "reason"),
    [
        ({"n_classes": 1}, ("linear_probe", "m0", "accuracy"), "fewer than 2 classes"),
        ({"n": 1}, ("linear_probe", "m0", "accuracy"), "fewer than 2 classes in the train"),
        ({"n": 1}, ("retrieval", "m0->m1", "mrr"), "0 test rows"),
        ({"widths": (8, 5)}, ("nearest_centroid", "all", "accuracy"), "width (m0 8, m1 5)"),
        ({"widths": (8, 5)}, ("retrieval", "m0->m1", "mrr"), "differ in width"),
        ({"widths": (8,)}, ("retrieval", "m0", "mrr"), "needs two modalities"),
        ({"absent": 1.1}, ("linear_probe", "m1", "accuracy"), "no labelled rows in the train"),
    ],
)
def test_what_cannot_run_is_a_result_with_a_reason(make_set, changes, key, reason):
    evaluation = evaluate_arrays(make_set(**changes), n_resamples=20)
    assert reason in by_key(evaluation, "missing")[key]
    assert by_key(evaluation)[key] is None


def test_unknown_protocol_and_progress(made_up):
    with pytest.raises(UnknownNameError, match="Did you mean 'linear_probe'"):
        evaluate_arrays(made_up, protocols=["linear_prob"])
    calls = []
    evaluate_arrays(
        made_up,
        protocols=PROTOCOLS[1:2],
        n_resamples=0,
        progress=lambda *args: calls.append(args),
    )
    assert calls[0] == ("nearest_centroid on m0", 0, 3)
    assert calls[-1] == ("done", 3, 3)
