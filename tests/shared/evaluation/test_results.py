import io
import json
from dataclasses import replace

import pytest
from rich.console import Console

from shared.errors import EvaluationError
from shared.evaluation.results import Result, load_results, results_table, save_results

RESULT = Result(
    protocol="linear_probe", protocol_version=1, metric="accuracy", inputs="image", value=0.5, n=8,
    n_per_class={"a": 4, "b": 4}, ci_low=0.25, ci_high=0.75, ci_method="bootstrap", chance=0.5,
    trivial=0.4, trivial_name="majority", simple_features=0.3, seeds=(0,), split="test",
    dataset="sky", synthetic=False, data_fingerprint="ab", model="m", versions={"numpy": "2"},
    seconds=0.1, settings={"l2": 0.1, "classes_not_in_train": ["z"]},
)  # fmt: skip
MISSING = replace(RESULT, value=None, missing="no labels", ci_low=None, ci_high=None)


def text(results, **options):
    console = Console(width=200, file=io.StringIO())
    console.print(results_table(results, **options))
    return console.file.getvalue()


def test_round_trip(tmp_path):
    path = tmp_path / "results.json"
    save_results(path, [RESULT, MISSING])
    assert load_results(path) == [RESULT, MISSING]
    assert json.loads(path.read_text())["schema_version"] == 1
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": float("nan")}, "value is nan"),
        ({"value": "high"}, "value is 'high', expected a finite number"),
        ({"value": True}, "value is True"),
        ({"value": None}, "either a value or"),
        ({"missing": "no labels"}, "either a value or"),
        ({"ci_low": 0.9}, "no interval"),
        ({"ci_high": None}, "no interval"),
        ({"n": 1.5}, "n is 1.5, expected a whole number"),
        ({"synthetic": 0}, "synthetic is 0, expected true or false"),
        ({"metric": None}, "metric is None, expected text"),
        ({"versions": []}, "expected a mapping"),
        ({"chance": float("inf")}, "chance is inf"),
    ],
)
def test_a_wrong_field_is_an_error(change, message):
    with pytest.raises(EvaluationError, match=message):
        replace(RESULT, **change)


def test_nan_is_never_written(tmp_path):
    path = tmp_path / "results.json"
    save_results(path, [RESULT])
    with pytest.raises(EvaluationError, match="no word for"):
        save_results(path, [replace(RESULT, settings={"l2": float("nan")})])
    assert load_results(path) == [RESULT]


def test_wrong_files_name_file_and_place(tmp_path):
    path = tmp_path / "results.json"
    with pytest.raises(EvaluationError, match="no such file"):
        load_results(path)
    save_results(path, [RESULT, RESULT])
    good = json.loads(path.read_text())

    def check(content, message):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        with pytest.raises(EvaluationError, match=message) as caught:
            load_results(path)
        assert str(path) in str(caught.value)

    check(json.dumps(good)[:200], "not a readable JSON")
    check([], "no list 'results'")
    check({**good, "schema_version": 2}, "schema version 2; this zoo reads version 1")
    first, second = good["results"]
    lacking = {k: v for k, v in second.items() if k != "chance"}
    check({**good, "results": [first, lacking]}, r"result 1: missing fields \['chance'\]")
    check({**good, "results": [{**first, "luck": 1}]}, r"result 0: .*unknown fields \['luck'\]")
    check({**good, "results": [{**first, "n": "8"}]}, "result 0: Result: n is '8'")
    check({**good, "results": [{**first, "seeds": 3}]}, "seeds is 3")
    check({**good, "results": [3]}, "result 0 is not a JSON object")


def test_the_table_says_value_interval_and_baselines():
    ranked = replace(RESULT, protocol="retrieval", metric="median_rank", value=12)
    shown = text([RESULT, ranked], metrics=(RESULT.metric, "median_rank"))
    assert "m on sky" in shown
    assert "synthetic" not in shown
    assert "0.500 [0.250, 0.750]" in shown
    for number in ("0.400", "0.300", "12.0"):
        assert number in shown


def test_the_table_marks_synthetic_data_and_what_did_not_run():
    shown = text([replace(MISSING, synthetic=True), replace(MISSING, metric="macro_f1")])
    assert "synthetic data" in shown
    assert shown.count("no labels") == 1
    assert "not run" in shown


def test_names_are_not_read_as_markup():
    assert "[red]x on sky" in text([replace(RESULT, model="[red]x")])
    assert text([])
