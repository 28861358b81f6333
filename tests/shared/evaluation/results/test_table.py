"""Results on the screen."""

import io
from dataclasses import replace

import pytest
from rich.console import Console

from shared.evaluation.results.result import Result
from shared.evaluation.results.table import headlines, results_table, subgroup_table, summary_table

RESULT = Result(
    key="0123456789abcdef", protocol="linear_probe", protocol_version=1, metric="accuracy",
    better="higher", inputs="image", target="label", value=0.5, n=8, n_groups=4, ci_low=0.25,
    ci_high=0.75, chance=0.5, trivial=0.4, simple_features=0.3, seeds=(0,), split="test",
    split_fingerprint="cd", dataset="sky", synthetic=False, data_fingerprint="ab", model="m",
    model_revision="r", versions={}, seconds=0.1, created="2026-01-02T03:04:05+00:00",
)  # fmt: skip
NOTHING = {"value": None, "ci_low": None, "ci_high": None}


def text(table, width=200):
    console = Console(width=width, file=io.StringIO())
    console.print(table)
    return console.file.getvalue()


def test_it_says_value_interval_and_baselines():
    ranked = replace(RESULT, protocol="retrieval", metric="recall@1", value=0.125)
    shown = text(results_table([RESULT, ranked]))
    assert "m on sky" in shown
    assert "synthetic" not in shown
    assert "0.500 [0.250, 0.750]" in shown
    for number in ("0.400", "0.300", "0.125"):
        assert number in shown


def test_it_marks_synthetic_data_and_what_did_not_run():
    missing = replace(RESULT, missing="no labels", synthetic=True, **NOTHING)
    shown = text(results_table([missing, replace(missing, metric="macro_f1")]))
    assert "synthetic data" in shown
    assert shown.count("no labels") == 1
    assert "not run" in shown


def test_one_metric_alone_can_be_missing():
    auroc = replace(RESULT, metric="auroc", missing="one class in the test rows", **NOTHING)
    shown = text(results_table([RESULT, auroc]))
    assert "0.500 [0.250, 0.750]" in shown
    assert "one class in the test rows" in " ".join(shown.split())


def test_variants_take_a_line_each():
    shots = [
        replace(RESULT, protocol="few_shot", variant=f"shots={k}", metric=metric, value=k / 100)
        for k in (1, 5)
        for metric in ("accuracy", "balanced_accuracy")
    ]
    shown = text(results_table(shots))
    assert shown.count("accuracy shots=") == 2
    assert "balanced" not in shown


@pytest.mark.parametrize(
    ("metrics", "shown"),
    [
        (("accuracy", "macro_f1", "balanced_accuracy"), ["accuracy", "balanced_accuracy"]),
        (("auroc", "brier", "mean_average_precision"), ["auroc", "mean_average_precision"]),
        (("rmse", "spearman", "r2"), ["r2", "spearman"]),
        (("recall@10", "mrr", "recall@1"), ["recall@1", "recall@10"]),
        (("ari", "nmi"), ["nmi"]),
        (("new", "newer", "newest", "last"), ["new", "newer", "newest"]),
    ],
)
def test_headlines_by_kind(metrics, shown):
    assert headlines(metrics) == shown


def test_long_names_and_many_digits_fit_eighty_columns():
    results = [
        replace(RESULT, inputs="photometry->spectra", metric=m, n=123456, protocol=p, target=t)
        for p, t in (("retrieval", ""), ("linear_probe", "tags"))
        for m in ("auroc", "mean_average_precision", "balanced_accuracy", "accuracy")
    ]
    for table in (results_table(results), summary_table(results)):
        shown = text(table, width=80)
        assert "0.500 [0.250, 0.750]" in shown
        assert "123456" in shown
        assert "…" not in shown


def test_subgroups_stand_below_all_rows():
    assert subgroup_table([RESULT]) is None
    part = replace(RESULT, subgroup="hospital=A", value=0.25, n=5)
    few = replace(RESULT, subgroup="hospital=B", missing="fewer than 5 test rows", n=2, **NOTHING)
    shown = text(subgroup_table([RESULT, part, few]), width=80)
    order = [shown.index(word) for word in ("on image: accuracy", "hospital=A", "hospital=B")]
    assert order == sorted(order)
    assert "0.250 [0.250, 0.750]" in shown
    assert "missing, because fewer than 5 test rows" in " ".join(shown.split())


def test_of_many_subgroups_those_of_all_inputs_together_and_of_few_protocols_are_shown():
    results = [
        replace(RESULT, protocol=p, inputs=i, subgroup=s)
        for p in ("linear_probe", "knn")
        for i in ("image", "text", "all")
        for s in ("", *(f"site={n}" for n in range(30)))
    ]
    shown = text(subgroup_table(results), width=80)
    assert "linear_probe on all: accuracy" in shown
    assert "knn" not in shown
    assert "image" not in shown
    assert shown.count("site=") == 20
    assert "and 10 more" in shown
    others = [result for result in results if result.protocol == "knn"]
    assert "knn on all: accuracy" in text(subgroup_table(others))


def test_several_inputs_take_a_line_each():
    results = [
        replace(RESULT, protocol=p, inputs=i, metric=m, variant=v)
        for p, v in (("linear_probe", ""), *(("few_shot", f"shots={k}") for k in (1, 2, 4, 16)))
        for i in ("photometry", "spectra", "photometry+spectra")
        for m in ("accuracy", "balanced_accuracy", "auroc")
    ]
    shown = text(results_table(results), width=80)
    assert shown.count("accuracy shots=") == 6
    assert "shots=2" not in shown
    assert shown.count("balanced acc.") == 1  # beside the second line of a long name
    assert "auroc" not in shown
    for heading in ("linear_probe", "few_shot", "+spectra"):
        assert heading in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_a_curve_ends_where_it_has_a_value():
    shots = [
        replace(RESULT, protocol="few_shot", inputs=i, variant=f"shots={k}", **told)
        for i in ("image", "text")
        for k, told in ((1, {}), (2, {}), (4, {}), (8, {"missing": "too few rows", **NOTHING}))
    ]
    for table in (results_table(shots), summary_table(shots)):
        shown = text(table, width=80)
        assert "shots=4" in shown
        assert "shots=2" not in shown


@pytest.mark.parametrize("protocol", ["nearest_centroid", "similarity_search", "embedding_health"])
def test_headings_are_whole(protocol):
    shown = text(results_table([replace(RESULT, protocol=protocol)]), width=80)
    assert protocol in shown


def test_the_summary_puts_models_below_each_other():
    others = [replace(RESULT, model="other", value=0.75), replace(RESULT, dataset="sea", value=0.9)]
    shown = text(summary_table([RESULT, *others]), width=80)
    assert shown.count("linear_probe on image: accuracy") == 1
    for word in ("other", "sea", "0.750", "0.900"):
        assert word in shown


def test_names_are_not_read_as_markup():
    assert "[red]x on sky" in text(results_table([replace(RESULT, model="[red]x")]))
    assert text(results_table([]))
