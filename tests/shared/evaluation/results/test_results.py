"""The schema of results, its files, and what a kill or a damage leaves of them."""

import json
import math
import re
from dataclasses import asdict, fields, replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import EvaluationError, WriteError
from shared.evaluation.results.result import (
    _KINDS,
    LINES,
    PARQUET,
    Result,
    append_results,
    by_task,
    load_results,
    merge,
    read_results,
    save_results,
)

RESULT = Result(
    key="0123456789abcdef", protocol="linear_probe", protocol_version=1, metric="accuracy",
    better="higher", inputs="image", target="label", value=0.5, n=8, n_groups=4,
    n_per_class={"a": 4, "b": 4}, ci_low=0.25, ci_high=0.75, ci_method="bootstrap", chance=0.5,
    trivial=0.4, trivial_name="majority", simple_features=0.3, seeds=(0, 1),
    seed_values={"0": 0.4, "1": 0.6}, split="test", split_fingerprint="cd", dataset="sky",
    synthetic=False, data_fingerprint="ab", model="m", model_revision="r", versions={"numpy": "2"},
    seconds=0.1, created="2026-01-02T03:04:05+00:00",
    settings={"l2": 0.1, "classes_not_in_train": ["ζ"]},
)  # fmt: skip
MISSING = replace(
    RESULT, metric="auroc", value=None, missing="no labels", ci_low=None, ci_high=None, seeds=()
)
OTHER = replace(RESULT, key="f" * 16, subgroup="hospital=A", n=3)


def test_round_trip(tmp_path):
    save_results(tmp_path, [RESULT, MISSING, OTHER])
    assert {path.name for path in tmp_path.iterdir()} == {LINES, PARQUET}
    for path in (tmp_path, tmp_path / LINES, tmp_path / PARQUET):
        assert load_results(path) == [RESULT, MISSING, OTHER]
    lines = (tmp_path / LINES).read_text(encoding="utf-8").splitlines()
    assert {json.loads(line)["schema_version"] for line in lines} == {2}
    assert "ζ" in lines[0]


def test_parquet_is_flat(tmp_path):
    save_results(tmp_path, [RESULT, MISSING])
    table = pq.read_table(tmp_path / PARQUET)
    assert table.schema.metadata[b"schema_version"] == b"2"
    assert table["value"].to_pylist() == [0.5, None]
    assert json.loads(table["settings"][0].as_py()) == RESULT.settings
    assert table["seeds"].to_pylist() == [[0, 1], []]
    save_results(tmp_path, [])
    assert load_results(tmp_path / PARQUET) == load_results(tmp_path) == []


@settings(max_examples=25)
@given(value=st.floats(allow_nan=False, allow_infinity=False), text=st.text())
def test_numbers_and_names_come_back_as_they_were(tmp_path_factory, value, text):
    folder = tmp_path_factory.mktemp("results")
    result = replace(RESULT, value=value, inputs=text, variant=text)
    save_results(folder, [result])
    assert load_results(folder) == load_results(folder / PARQUET) == [result]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"value": math.nan}, "value is nan"),
        ({"value": 10**400}, "value is 1000"),
        ({"value": "high"}, "value is 'high', expected a finite number"),
        ({"value": True}, "value is True"),
        ({"value": None}, "either a value or"),
        ({"missing": "no labels"}, "either a value or"),
        ({"ci_low": 0.9}, "no interval"),
        ({"ci_high": None}, "no interval"),
        ({"ci_high": None, "ci_low": None}, "either an interval or"),
        ({"ci_missing": "one group"}, "either an interval or"),
        ({"n": 1.5}, "n is 1.5, expected a whole number"),
        ({"synthetic": 0}, "synthetic is 0, expected true or false"),
        ({"metric": None}, "metric is None, expected text"),
        ({"versions": []}, "expected a mapping"),
        ({"chance": math.inf}, "chance is inf"),
        ({"key": "short"}, "key 'short' is not of 16"),
        ({"better": "more"}, "better is 'more'"),
        ({"created": "yesterday"}, "created is 'yesterday'"),
    ],
)
def test_a_wrong_field_is_an_error(change, message):
    with pytest.raises(EvaluationError, match=message):
        replace(RESULT, **change)


def test_nan_is_never_written(tmp_path):
    save_results(tmp_path, [RESULT])
    wrong = replace(RESULT, settings={"l2": math.nan})
    with pytest.raises(EvaluationError, match="no word for"):
        save_results(tmp_path, [wrong])
    with pytest.raises(EvaluationError, match="no word for"):
        append_results(tmp_path / LINES, [wrong])
    assert load_results(tmp_path) == [RESULT]


def test_lines_are_added_and_the_last_of_a_kind_counts(tmp_path):
    path = tmp_path / "new" / LINES
    append_results(path, [RESULT, MISSING])
    again = replace(RESULT, seconds=9.0)
    append_results(path, [OTHER, again])
    assert load_results(path) == [again, MISSING, OTHER]
    assert [*by_task(load_results(path))] == [RESULT.key, OTHER.key]
    assert len(merge([RESULT, replace(RESULT, model="twin")])) == 2
    with pytest.raises(WriteError, match="cannot be written"):
        append_results(tmp_path, [RESULT])


@pytest.mark.parametrize("tail", [b'{"schema_version": 2, "key": "01', b"\0" * 100, b'{"a": 1}'])
def test_a_torn_last_line_is_left_out_with_a_note(tmp_path, tail):
    path = tmp_path / LINES
    append_results(path, [RESULT])
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    results, notes = read_results(path)
    assert results == [RESULT]
    assert [f"{path}: line 2" in note for note in notes] == ([] if tail[0] == 0 else [True])
    append_results(path, [MISSING])
    assert path.read_bytes().startswith(whole)
    assert read_results(path) == ([RESULT, MISSING], [])


def test_every_cut_of_a_file_gives_its_whole_lines(tmp_path):
    path = tmp_path / LINES
    append_results(path, [RESULT, OTHER])
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for end in range(0, len(content), 37):
        path.write_bytes(content[:end])
        assert read_results(path)[0] == ([RESULT] if end >= first else [])


def test_wrong_files_name_file_and_place(tmp_path):
    path = tmp_path / LINES
    with pytest.raises(EvaluationError, match="no such file"):
        load_results(tmp_path)
    with pytest.raises(EvaluationError, match="no such file"):
        load_results(tmp_path / PARQUET)
    good = json.loads(json.dumps({"schema_version": 2, **asdict(RESULT)}))

    def check(*rows, message):
        lines = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(EvaluationError, match=message) as caught:
            load_results(path)
        assert str(path) in str(caught.value)

    lacking = {k: v for k, v in good.items() if k != "chance"}
    check(good, "{", good, message="line 2 is damaged")
    check([], message="line 1 is not a JSON object")
    check({**good, "schema_version": 3}, message="version 3; this zoo reads version 2")
    check({}, message="line 1: result schema version None")
    check(good, lacking, message=r"line 2: missing fields \['chance'\]")
    check({**good, "luck": 1}, message=r"line 1: .*unknown fields \['luck'\]")
    check({**good, "n": "8"}, message="line 1: Result: n is '8'")
    check({**good, "seeds": 3}, message="seeds is 3")

    (tmp_path / PARQUET).write_bytes(b"PAR1")
    with pytest.raises(EvaluationError, match="not a readable Parquet"):
        load_results(tmp_path / PARQUET)
    save_results(tmp_path, [RESULT])
    table = pq.read_table(tmp_path / PARQUET)
    pq.write_table(table.drop(["n"]), tmp_path / PARQUET)
    with pytest.raises(EvaluationError, match=r"row 1: missing fields \['n'\]"):
        load_results(tmp_path / PARQUET)
    pq.write_table(table.replace_schema_metadata({}), tmp_path / PARQUET)
    with pytest.raises(EvaluationError, match="version none; this zoo reads version 2"):
        load_results(tmp_path / PARQUET)


def test_files_of_the_first_version_are_told(tmp_path):
    (tmp_path / "results.json").write_text('{"schema_version": 1, "results": []}')
    with pytest.raises(EvaluationError, match="version 1; this zoo reads version 2"):
        load_results(tmp_path)


def test_the_page_lists_every_field_with_its_type():
    page = Path(__file__).parents[4] / "docs" / "results.md"
    text = page.read_text(encoding="utf-8").partition("## Fields")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| `(\w+)` \| ([\w ]+) \| .+ \|$", text, re.MULTILINE)
    assert [name for name, _ in rows] == [f.name for f in fields(Result)]
    words = {
        "a finite number or null": "number or null",
        "a finite number": "number",
        "a list of whole numbers": "list of whole numbers",
    }
    for name, told in rows:
        kind = _KINDS[name][1]
        assert told == words.get(kind, kind.removeprefix("a ")), name
