"""Finished tasks are read back, others computed; nothing of another configuration is touched."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.errors import EvaluationError
from shared.evaluation.outcomes import ClassOutcome, ScalarOutcome, SeededOutcome
from shared.evaluation.results.result import LINES, load_results
from shared.evaluation.results.store import (
    EvaluationStore,
    check_predictions,
    predictions_path,
    read_predictions,
)

sys.path.append(str(Path(__file__).parent))
from judged import embeddings, evaluate, protocol

GIVEN = embeddings()
TEST = np.flatnonzero(GIVEN.splits == "test")
TRUTH = GIVEN.labels[TEST]


def classes(n_right: int) -> ClassOutcome:
    predicted = np.where(np.arange(len(TRUTH)) < n_right, TRUTH, 1 - TRUTH)
    return ClassOutcome(TRUTH, predicted, GIVEN.classes)


OUTCOMES = {
    "one": classes(30),
    "two": classes(20),
    "none": "no prompts",
    "seeds": SeededOutcome((classes(10), classes(30)), (3, 4)),
    "numbers": ScalarOutcome({"uniformity": -1.5}, len(TEST)),
}


def plain(results):
    """Results without what times and machines change."""
    return [replace(r, seconds=0.0, created="2026-01-01T00:00:00+00:00") for r in results]


def test_a_second_run_reads_everything_back(tmp_path):
    calls: list[str] = []
    told = protocol(OUTCOMES, calls=calls)
    first = evaluate(tmp_path, GIVEN, told)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.parquet")}
    assert len(before) == 5
    again = evaluate(tmp_path, GIVEN, told)
    # what is missing is found out again: that costs nothing
    assert calls == [*OUTCOMES, "none"]
    assert plain(again.results) == plain(first.results)
    assert [r for r in again.results if r.missing is None] == [
        r for r in first.results if r.missing is None
    ]
    assert {p: p.read_bytes() for p in before if p.parent != tmp_path} == {
        p: c for p, c in before.items() if p.parent != tmp_path
    }
    for one, other in zip(first.runs, again.runs, strict=True):
        assert (one.key, one.settings, one.scores) == (other.key, other.settings, other.scores)
        np.testing.assert_array_equal(one.output.rows, other.output.rows)
    seeds = next(r for r in again.results if (r.variant, r.metric) == ("seeds", "accuracy"))
    assert seeds.seed_values == {"3": 0.25, "4": 0.75}


def test_predictions_lie_beside_the_results(tmp_path):
    evaluate(tmp_path, GIVEN, protocol(OUTCOMES))
    results = load_results(tmp_path)
    first = results[0]
    path = predictions_path(tmp_path, first)
    assert path.name == f"told-image-label-one-{first.key[:8]}.parquet"
    found = read_predictions(tmp_path, first)
    assert found.ids.tolist() == GIVEN.ids[TEST].tolist()
    assert found.groups.tolist() == GIVEN.groups[TEST].tolist()
    assert found.meta["settings"] == {"strength": 1}
    assert found.outcome.values().tolist() == classes(30).values().tolist()
    with pytest.raises(EvaluationError, match="another evaluation"):
        read_predictions(tmp_path, replace(first, key=first.key[:8] + "0" * 8))
    wild = replace(first, inputs="a/b->../c", target="x\\y", variant="é" * 200)
    assert predictions_path(tmp_path, wild).parent == tmp_path / "predictions"
    assert len(predictions_path(tmp_path, wild).name) < 120


@pytest.mark.parametrize("damage", ["torn", "cut", "predictions", "deleted", "line"])
def test_a_task_of_which_anything_lacks_is_computed_again(tmp_path, damage):
    whole = evaluate(tmp_path / "whole", GIVEN, protocol(OUTCOMES)).results
    calls: list[str] = []
    told = protocol(OUTCOMES, calls=calls)
    folder = tmp_path / "damaged"
    evaluate(folder, GIVEN, told)
    calls.clear()
    lines = (folder / LINES).read_bytes()
    path = predictions_path(folder, whole[0])
    expected = ["one", "none"]
    if damage == "torn":
        (folder / LINES).write_bytes(lines[:-20])
        expected = ["none", "numbers"]
    elif damage == "cut":
        (folder / LINES).write_bytes(lines[: len(lines) // 2])
        expected = ["two", "none", "seeds", "numbers"]
    elif damage == "predictions":
        path.write_bytes(path.read_bytes()[:200])
    elif damage == "deleted":
        path.unlink()
    else:
        (folder / LINES).write_bytes(lines[lines.index(b"\n") + 1 :])
    assert plain(evaluate(folder, GIVEN, told).results) == plain(whole)
    assert calls[0] in ("one", "two", "none")
    assert set(expected) - {"two"} <= set(calls)
    assert set(calls) <= {*expected, "two"}
    assert plain(load_results(folder)) == plain(whole)


@pytest.mark.parametrize(
    "change",
    [{"value": 0.99}, {"metric": "nothing"}, {"settings": {}}, {"seed_values": {"x": 1.0}}],
)
def test_an_edited_result_is_computed_again(tmp_path, change):
    """A number that somebody has improved by hand would else stand in the table as measured."""
    whole = evaluate(tmp_path, GIVEN, protocol(OUTCOMES)).results
    lines = (tmp_path / LINES).read_text().splitlines()
    lines[0] = json.dumps({**json.loads(lines[0]), **change})
    (tmp_path / LINES).write_text("\n".join(lines) + "\n")
    of_task = [r for r in load_results(tmp_path) if r.key == whole[0].key]
    with pytest.raises(EvaluationError, match="were changed after they were written"):
        check_predictions(tmp_path, of_task)
    calls: list[str] = []
    assert plain(evaluate(tmp_path, GIVEN, protocol(OUTCOMES, calls=calls)).results) == plain(whole)
    assert "one" in calls
    found = {r.metric: r for r in load_results(tmp_path) if r.key == whole[0].key}
    assert plain([found[whole[0].metric]]) == plain(whole[:1])


def test_another_configuration_is_refused_and_told(tmp_path):
    told = protocol(OUTCOMES)
    evaluate(tmp_path, GIVEN, told)
    before = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    moved = GIVEN.splits.copy()
    moved[0] = "val"
    for given, other, settings, words in (
        (GIVEN, told, {"strength": 2}, "settings changed"),
        (GIVEN, protocol(OUTCOMES, version=2), {}, "version of the protocol 1, now 2"),
        (replace(GIVEN, fingerprint="e" * 16), told, {}, "data ffff"),
        (replace(GIVEN, splits=moved), told, {}, "split "),
        (replace(embeddings(seed=1), revision="new"), told, {}, "model revision , now new"),
    ):
        with pytest.raises(EvaluationError, match=words) as caught:
            evaluate(tmp_path, given, other, settings)
        assert "No result is overwritten" in str(caught.value)
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == before


def test_rows_in_another_order_are_found_by_id(tmp_path):
    first = evaluate(tmp_path, GIVEN, protocol(OUTCOMES))
    run = first.runs[0]
    store = EvaluationStore(tmp_path)
    turned = replace(
        GIVEN,
        ids=GIVEN.ids[::-1],
        vectors={"image": GIVEN.vectors["image"][::-1]},
        labels=GIVEN.labels[::-1],
        splits=GIVEN.splits[::-1],
        groups=GIVEN.groups[::-1],
    )
    found = store.load(run.key, run.protocol, run.task, turned)
    assert turned.ids[found.output.rows].tolist() == GIVEN.ids[TEST].tolist()
    assert store.resumed == 1
    fewer = replace(turned, ids=np.array([f"other{i}" for i in range(len(turned))]))
    assert store.load(run.key, run.protocol, run.task, fewer) is None


def test_the_environment_is_recorded_and_each_start_added(tmp_path):
    (tmp_path / "environment.json").write_text('{"seed": 7}')
    evaluate(tmp_path, GIVEN, protocol(OUTCOMES))
    evaluate(tmp_path, GIVEN, protocol(OUTCOMES))
    content = json.loads((tmp_path / "environment.json").read_text())
    assert content["seed"] == 7
    told = content["evaluation"]
    assert told["data_fingerprint"] == GIVEN.fingerprint
    assert told["split_fingerprint"] == GIVEN.split_fingerprint
    assert "numpy" in told["versions"]
    assert len(told["resumed"]) == 1
