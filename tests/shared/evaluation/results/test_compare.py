"""Paired comparison of folders against direct computation, and what cannot be compared."""

import io
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from shared.errors import EvaluationError
from shared.evaluation.outcomes import (
    ClassOutcome,
    RankOutcome,
    ScalarOutcome,
    SeededOutcome,
    ValueOutcome,
)
from shared.evaluation.results.compare import LINES, compare, save_comparison
from shared.evaluation.results.table import comparison_tables, headlines
from shared.evaluation.statistics import holm, paired_difference

sys.path.append(str(Path(__file__).parent))
from judged import embeddings, evaluate, protocol

N = 300
GIVEN = embeddings(N, per_group=2)
TEST = np.flatnonzero(GIVEN.splits == "test")
TRUTH = GIVEN.labels[TEST]


def classes(share: float, seed: int, truth=TRUTH) -> ClassOutcome:
    right = np.random.default_rng(seed).random(len(truth)) < share
    return ClassOutcome(truth, np.where(right, truth, 1 - truth), GIVEN.classes)


def save(folder: Path, model: str, outcomes, given=GIVEN, **options) -> Path:
    evaluate(folder, replace(given, model=model), protocol(outcomes, **options))
    return folder


@pytest.fixture
def folders(tmp_path):
    """A baseline, a better model and a worse one."""
    shares = {"base": 0.7, "good": 0.9, "bad": 0.4}
    return [
        save(tmp_path / name, name, {"one": classes(share, 0), "two": classes(share, 1)})
        for name, share in shares.items()
    ]


def of(comparison, model, variant, metric):
    (found,) = (
        d
        for d in comparison.differences
        if (d.model, d.variant, d.metric) == (model, variant, metric)
    )
    return found


def test_numbers_are_those_of_the_statistics(folders):
    found = compare(folders, n_resamples=300, seed=3)
    assert (found.baseline, found.models, found.notes) == ("base", ("good", "bad"), ())
    options = {"n_resamples": 300, "seed": 3}
    direct = {
        (model, variant): paired_difference(
            classes(0.7, seed), classes(share, seed), GIVEN.groups[TEST], **options
        )
        for model, share in (("good", 0.9), ("bad", 0.4))
        for variant, seed in (("one", 0), ("two", 1))
    }
    family, told = [], []
    for (model, variant), paired in direct.items():
        for i, metric in enumerate(paired.metrics):
            d = of(found, model, variant, metric)
            assert (d.difference, d.ci_low, d.ci_high, d.p_value) == (
                paired.difference[i],
                paired.low[i],
                paired.high[i],
                paired.p_value[i],
            )
            assert d.difference == pytest.approx(d.value - d.baseline_value, abs=1e-12)
            assert (d.n, d.n_groups) == (len(TEST), len(set(GIVEN.groups[TEST])))
            if metric in headlines(paired.metrics, variant):
                family.append(paired.p_value[i])
                told.append(d)
            else:
                assert (d.p_adjusted, d.verdict) == (None, "")
    np.testing.assert_array_equal([d.p_adjusted for d in told], holm(family))
    assert {d.verdict for d in told if d.model == "good"} == {"better"}
    assert {d.verdict for d in told if d.model == "bad"} == {"worse"}


def test_identical_models_differ_by_nothing(tmp_path):
    values = ValueOutcome(TRUTH.astype(float), np.arange(len(TRUTH), dtype=float))
    outcomes = {"one": classes(0.7, 0), "values": values}
    a, b = (save(tmp_path / name, "same", outcomes) for name in "ab")
    found = compare([a, b])
    assert found.baseline == str(a)
    assert {d.difference for d in found.differences} == {0.0}
    assert {d.p_value for d in found.differences} == {1.0}
    assert {d.verdict for d in found.differences} == {"undecided", ""}


def test_the_other_way_round_is_the_same_with_the_sign_changed(folders):
    there, back = compare(folders[:2]), compare(folders[1::-1])
    for x, y in zip(there.differences, back.differences, strict=True):
        assert x.difference == pytest.approx(-y.difference, abs=1e-12)
        assert x.p_value == pytest.approx(y.p_value)
        assert {x.verdict, y.verdict} in ({"better", "worse"}, {"undecided"}, {""})


def test_lower_is_better_where_it_is(tmp_path):
    truth = np.linspace(0, 1, len(TRUTH))
    noise = np.random.default_rng(0).normal(size=len(TRUTH))
    a, b = (
        save(tmp_path / name, name, {"v": ValueOutcome(truth, truth + scale * noise)})
        for name, scale in (("noisy", 1.0), ("good", 0.1))
    )
    found = compare([a, b])
    assert of(found, "good", "v", "r2").verdict == "better"
    rmse = of(found, "good", "v", "rmse")
    assert rmse.better == "lower"
    assert rmse.difference < 0


def test_rows_are_paired_by_id(tmp_path):
    """Other rows, in another order, under another fingerprint: the shared ones are compared."""
    order = np.random.default_rng(0).permutation(N)[: N - 60]
    part = replace(
        GIVEN,
        ids=GIVEN.ids[order],
        vectors={"image": GIVEN.vectors["image"][order]},
        present={"image": GIVEN.present["image"][order]},
        labels=GIVEN.labels[order],
        splits=GIVEN.splits[order],
        groups=GIVEN.groups[order],
        fingerprint="e" * 16,
    )
    base, good = classes(0.6, 0), classes(0.9, 1)
    test = order[part.splits == "test"]
    at = np.searchsorted(TEST, test)
    a = save(tmp_path / "a", "base", {"one": base})
    b = save(tmp_path / "b", "good", {"one": good.take(at)}, part)
    found = compare([a, b])
    d = of(found, "good", "one", "accuracy")
    shared = np.sort(at)
    assert d.n == len(at) < len(TEST)
    paired = paired_difference(base.take(shared), good.take(shared), GIVEN.groups[TEST][shared])
    assert (d.difference, d.p_value) == (paired.difference[0], paired.p_value[0])
    assert [note.partition("different ")[2].split(":")[0] for note in found.notes] == [
        "data fingerprints",
        "splits",
    ]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ("version", "versions 1 and 2 of the protocol"),
        ("settings", "settings: strength is 1 in one and 2 in the other"),
        ("truth", "truth of 'id-0001' is b in one and a in the other"),
        ("ids", "no test row has the same id"),
        ("kind", "outcomes of two kinds, classes and values"),
        ("missing", "other: too few rows"),
        ("candidates", "ranks among 300 and 299 candidates"),
        ("one group", "fewer than 2 groups"),
        ("deleted", "there is no such file"),
    ],
)
def test_what_cannot_be_compared_says_why(tmp_path, change, reason):
    one, given, other, told = classes(0.7, 0), GIVEN, classes(0.7, 1), {}
    settings, first = {}, GIVEN
    if change == "version":
        told = {"version": 2}
    elif change == "settings":
        settings = {"strength": 2}
    elif change == "truth":
        other = classes(0.7, 0, 1 - TRUTH)
        given = replace(GIVEN, labels=1 - GIVEN.labels)
    elif change == "ids":
        given = replace(GIVEN, ids=np.array([f"new{i}" for i in range(N)]))
    elif change == "kind":
        other = ValueOutcome(TRUTH.astype(float), TRUTH.astype(float))
    elif change == "missing":
        other = "too few rows"
    elif change == "candidates":
        ranks = np.ones(len(TRUTH), np.int64)
        one, other = RankOutcome(ranks, 300), RankOutcome(ranks, 299)
    elif change == "one group":
        first = given = replace(GIVEN, groups=np.array(["g"] * N))
    a = save(tmp_path / "a", "base", {"x": one, "y": classes(0.7, 0)}, first)
    b = tmp_path / "b"
    evaluate(b, replace(given, model="other"), protocol({"x": other}, **told), settings)
    if change == "deleted":
        for path in (b / "predictions").iterdir():
            path.unlink()
    found = compare([a, b])
    assert found.differences
    for d in found.differences:
        assert reason in d.missing
        assert (d.difference, d.p_value, d.verdict) == (None, None, "")
    assert "only base was judged by: told image label y." in found.notes
    shown = text(found)
    assert "missing" in shown


def test_numbers_of_a_whole_set_have_a_difference_and_no_p(tmp_path):
    a, b = (
        save(tmp_path / name, name, {"h": ScalarOutcome({"uniformity": value}, len(TEST))})
        for name, value in (("a", -1.0), ("b", -3.0))
    )
    (d,) = compare([a, b]).differences
    assert (d.difference, d.p_value, d.verdict) == (-2.0, None, "undecided")
    assert "cannot be drawn again" in d.ci_missing


def test_runs_with_several_seeds_are_one_model(tmp_path):
    sides = {"base": 0.7, "good": 0.85}
    runs = {name: [classes(share, s) for s in range(3)] for name, share in sides.items()}
    for name, outcomes in runs.items():
        for seed, outcome in enumerate(outcomes):
            save(tmp_path / name / f"seed-{seed}", f"{name}-{seed}", {"one": outcome})
    found = compare([tmp_path / "base", tmp_path / "good"])
    d = of(found, "good", "one", "accuracy")
    assert (found.baseline, d.n_runs) == ("base", (3, 3))
    one, other = (SeededOutcome(tuple(runs[name]), (0, 1, 2)) for name in sides)
    paired = paired_difference(one, other, GIVEN.groups[TEST])
    assert (d.difference, d.ci_low, d.p_value) == (
        paired.difference[0],
        paired.low[0],
        paired.p_value[0],
    )
    one_alone = compare([tmp_path / "base" / "seed-0", tmp_path / "good"])
    assert one_alone.differences[0].n_runs == (1, 3)
    # a run folder stays one, whatever lies in it
    run = save(tmp_path / "run", "run", {"one": runs["base"][0]})
    save(run / "inner", "inner", {"one": runs["good"][0]})
    (run / "config.yaml").write_text("model: run")
    assert compare([tmp_path / "good", run]).models == ("run",)
    # one folder: its runs are the models
    among = compare([tmp_path / "base"])
    assert (among.baseline, among.models) == ("base-0", ("base-1", "base-2"))


def test_mistakes_are_told(tmp_path, folders):
    for given, words in (
        ([tmp_path / "nowhere", folders[0]], "no such folder"),
        ([folders[0]], "takes two run folders"),
        ([tmp_path / "base" / "predictions", folders[0]], "holds no results.jsonl"),
        ([folders[0], save(tmp_path / "x", "x", {"z": classes(0.5, 0)})], "share no task"),
    ):
        with pytest.raises(EvaluationError, match=words):
            compare(given)
    for options, words in (
        ({"protocols": ["tolld"]}, "by a protocol 'tolld'. Did you mean 'told'"),
        ({"metrics": ["acuracy"]}, "by a metric 'acuracy'. Did you mean 'accuracy'"),
    ):
        with pytest.raises(EvaluationError, match=words):
            compare(folders, **options)
    (folders[1] / "results.jsonl").write_text("")
    with pytest.raises(EvaluationError, match="is empty"):
        compare(folders[:2])


def text(comparison, width=80):
    console = Console(width=width, file=io.StringIO())
    for table in comparison_tables(comparison):
        console.print(table)
    return console.file.getvalue()


def test_the_table_fits_and_says_what_it_means(folders):
    shown = text(compare(folders))
    assert "good minus base" in shown
    assert "bad minus base" in shown
    for word in ("better", "worse", "<.001", "Holm", "200 rows of 150 groups"):
        assert word in shown
    assert "undecided does not mean equal" in " ".join(shown.split())
    assert "…" not in shown


def test_the_corrected_family_is_the_one_asked_for(tmp_path):
    paths = []
    for name, share in (("base", 0.7), ("other", 0.8)):
        given, path = replace(GIVEN, model=name), tmp_path / name
        for i, told in enumerate(("knn", "probe")):
            part = tmp_path / f"{name}-{told}"
            evaluate(part, given, protocol({"": classes(share, i)}, name=told))
            path.mkdir(exist_ok=True)
            with (path / "results.jsonl").open("a") as lines:
                lines.write((part / "results.jsonl").read_text())
            (path / "predictions").mkdir(exist_ok=True)
            for file in (part / "predictions").iterdir():
                file.rename(path / "predictions" / file.name)
        paths.append(path)
    found = compare(paths, protocols=["probe"], metrics=["macro_f1"])
    assert {d.protocol for d in found.differences} == {"probe"}
    (told,) = (d for d in found.differences if d.verdict)
    assert told.metric == "macro_f1"
    assert told.p_adjusted == told.p_value
    shown = text(found)
    assert "macro_f1" in shown
    assert "balanced" not in shown
    assert "knn" not in shown


def test_what_is_missing_for_one_reason_is_one_line(tmp_path):
    outcomes = {"one": classes(0.7, 0), "two": "no such labels", "three": "no such labels"}
    a, b = (save(tmp_path / name, name, outcomes) for name in "ab")
    shown = " ".join(text(compare([a, b])).split())
    assert "told on image two, image three: missing, because in both no such labels" in shown
    assert shown.count("no such labels") == 1


def test_lines_hold_every_difference(folders, tmp_path):
    found = compare(folders)
    save_comparison(tmp_path / LINES, found)
    rows = [json.loads(line) for line in (tmp_path / LINES).read_text().splitlines()]
    assert len(rows) == len(found.differences)
    assert rows[0]["schema_version"] == 1
    assert [row["p_value"] for row in rows] == [d.p_value for d in found.differences]
