"""Which pictures there are, that they are no blank sheets, and what stands in them."""

from dataclasses import replace

import numpy as np
import pytest
from matplotlib.image import imread

from shared.evaluation.outcomes import ClassOutcome, RankOutcome, TagOutcome, ValueOutcome
from shared.evaluation.pictures import draw_differences, save_pictures
from shared.evaluation.pictures.confusion import count_confusions, draw_confusion, most_confused
from shared.evaluation.pictures.curves import Direction, chance_recall, draw_recall, shot_curve
from shared.evaluation.pictures.figures import TEXT, short, wrapped_title
from shared.evaluation.pictures.intervals import (
    MAX_DOTS,
    Dot,
    Line,
    draw_dots,
    draw_tags,
    forest_plot,
)
from shared.evaluation.pictures.kinds import KINDS, kind_of
from shared.evaluation.pictures.reliability import draw_reliability
from shared.evaluation.pictures.scatter import CROWDED, draw_values
from shared.evaluation.results.compare import Comparison, Difference

SMALLEST = 7.0
"""Points of any text in a picture of at most 6.6 inches."""


def drawn(path):
    """Share of the picture that is not white."""
    return (imread(path)[..., :3] < 0.95).any(axis=-1).mean()


def rich_set(make_set, **changes):
    """Classes, tags, numbers and subgroups."""
    n = 240
    rng = np.random.default_rng(0)
    columns = {
        "targets": {"mass / day": rng.normal(size=n)},
        "tags": {f"tag {i}": (rng.random(n) < 0.4).astype(float) for i in range(3)},
        "subgroups": {"hospital": np.array(["A", "B & C"])[np.arange(n) % 2]},
    }
    return make_set(n=n, **{**columns, **changes})


def test_a_picture_for_whatever_there_is(make_set, make_evaluation, tmp_path):
    """And its letters can be read on a phone."""
    paths = save_pictures(tmp_path / "new", make_evaluation(rich_set(make_set)))
    assert [p.name for p in paths] == [
        "confusion_linear_probe.png",
        "reliability_linear_probe.png",
        "few_shot.png",
        "values_ridge_probe_mass-day.png",
        "tags_linear_probe.png",
        "recall.png",
        "subgroups_linear_probe.png",
        "subgroups_ridge_probe_mass-day.png",
        "subgroups_linear_probe_tags.png",
        "embedding_map.png",
    ]
    assert sorted(paths) == sorted((tmp_path / "new").iterdir())
    assert all(0.005 < drawn(path) < 0.9 for path in paths)
    assert all(kind_of(path.stem) for path in paths)


@pytest.mark.filterwarnings("error")
def test_odd_names_and_unlabelled_rows_are_drawn(make_set, make_evaluation, tmp_path):
    labels = np.arange(240) % 5 - 1
    odd = ("$\\frac$", "_b", "a b" * 30, "<script>")
    made = rich_set(make_set, labels=labels, classes=odd, dataset="$5 set", model="_m" * 80)
    for path in save_pictures(tmp_path, make_evaluation(made)):
        assert 0.005 < drawn(path) < 0.9


def test_targets_whose_names_differ_in_signs_only_have_a_picture_each(
    make_set, make_evaluation, tmp_path
):
    made = make_set(n=60, widths=(4,), targets={"a/b": np.arange(60.0), "a b": np.arange(60.0)})
    runs = [r for r in make_evaluation(made).runs if r.protocol.name == "ridge_probe"]
    names = [p.stem for p in save_pictures(tmp_path, make_evaluation(made, runs=runs))]
    assert names[:2] == ["values_ridge_probe_a-b", "values_ridge_probe_a-b-2"]


@pytest.mark.filterwarnings("error")
def test_few_rows_are_drawn(make_set, make_evaluation, tmp_path):
    made = make_set(n=12, n_classes=2)
    assert len(save_pictures(tmp_path, make_evaluation(made))) == 5
    nothing = make_set(n=1, splits=np.array(["train"]))
    assert save_pictures(tmp_path, make_evaluation(nothing, runs=())) == []


def test_without_labels_there_are_retrieval_and_map(make_set, make_evaluation, tmp_path):
    made = make_set(labels=np.full(240, -1), classes=())
    names = [p.name for p in save_pictures(tmp_path, make_evaluation(made))]
    assert names == ["recall.png", "embedding_map.png"]


def test_the_run_on_most_modalities_is_drawn_and_of_equals_the_best(make_set, make_evaluation):
    from shared.evaluation.pictures.choice import _widest

    runs = [r for r in make_evaluation(make_set()).runs if r.protocol.name == "linear_probe"]
    best = max(runs, key=lambda run: run.scores["accuracy"].value)
    assert _widest(runs) == [best]
    worst = min(runs, key=lambda run: run.scores["accuracy"].value)
    wide = replace(worst, task=replace(worst.task, modalities=("m0", "m1")))
    assert _widest([*runs, wide]) == [wide]


def test_confusions_are_counted_and_the_worst_classes_kept():
    classes = tuple("abcd")
    outcome = ClassOutcome(np.array([0, 0, 1, 3]), np.array([0, 1, 1, 0]), classes)
    counts, names = count_confusions(outcome)
    assert names == ["a", "b", "d"]
    assert counts.tolist() == [[1, 1, 0], [0, 1, 0], [1, 0, 0]]
    assert most_confused(counts, 2).tolist() == [0, 1]
    assert most_confused(counts, 3).tolist() == [0, 1, 2]


@pytest.mark.parametrize("n_classes", [2, 14, 30, 60])
def test_confusion_of_few_and_many_classes(make_set, n_classes):
    truth = np.arange(200) % n_classes
    outcome = ClassOutcome(truth, np.roll(truth, 1), tuple(f"class {i}" for i in range(n_classes)))
    figure = draw_confusion(outcome, "Probe", make_set())
    names = [t.get_text() for t in figure.axes[0].get_xticklabels()]
    assert len(names) == min(n_classes, 30)
    assert ("30 of 60 classes" in figure.get_suptitle()) == (n_classes == 60)
    assert "n = 200" in figure.get_suptitle()
    assert "synthetic data" in figure.get_suptitle()
    assert figure.get_figwidth() < 11


def test_reliability_shows_both_and_all_rows(make_set):
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(3), 80)
    truth = rng.integers(0, 3, 80)
    predicted = probabilities.argmax(axis=1)
    flatter = (probabilities + 1 / 3) / 2
    both = ClassOutcome(truth, predicted, tuple("abc"), probabilities, flatter)
    for outcome, count in ((both, 2), (replace(both, calibrated=None), 1)):
        above, below = draw_reliability(outcome, "Probe", make_set()).axes
        assert sum(bar.get_height() for bar in below.patches) == 80 * count
        assert len(above.containers) == count


def test_chance_of_retrieval_is_that_of_a_random_order():
    k = np.array([1, 2, 10])
    one = RankOutcome(np.array([1, 5]), 10)
    assert np.allclose(chance_recall(one, k), [0.1, 0.2, 1.0])
    several = replace(one, n_positives=np.array([1, 9]))
    assert np.allclose(chance_recall(several, k), [(0.1 + 0.9) / 2, (0.2 + 1) / 2, 1.0])


def test_recall_rises_to_the_share_found(make_set):
    outcome = RankOutcome(np.array([1, 1, 2, 7]), 8)
    figure = draw_recall([Direction("a", "b", outcome)], make_set())
    line = next(line for line in figure.axes[0].lines if "n = 4" in line.get_label())
    assert line.get_ydata().tolist() == [0.5, 0.75, 0.75, 0.75, 0.75, 0.75, 1, 1]


def test_shots_rise_and_others_are_left_out(make_set, make_evaluation):
    runs = [r for r in make_evaluation(make_set()).runs if r.protocol.name == "few_shot"][:3]
    runs.append(replace(runs[0], task=replace(runs[0].task, variant="other")))
    curve = shot_curve("m0", runs, "accuracy")
    assert curve.shots.tolist() == [1, 2, 8]
    assert curve.values.tolist() == curve.simple.tolist()
    assert (curve.low <= curve.values).all()


@pytest.mark.parametrize("n", [0, 1, 50, CROWDED + 1])
def test_values_are_drawn_against_the_line_of_equals(make_set, n):
    rng = np.random.default_rng(0)
    outcome = ValueOutcome(np.full(n, 3.0), rng.normal(size=n))
    axes = draw_values(outcome, "brightness", "Ridge", "R²", make_set()).axes[0]
    assert axes.get_xlabel() == "true brightness"
    assert axes.get_xlim() == axes.get_ylim()


def test_tags_without_a_value_say_so(make_set):
    truth = np.array([[1.0, 0, np.nan], [0, 0, np.nan], [1, 0, np.nan], [0, 0, np.nan]])
    outcome = TagOutcome(truth, np.full((4, 3), 0.5), ("told", "never", "unknown"))
    groups = np.array(list("abcd"))
    axes = draw_tags(outcome, groups, "Probe", make_set()).axes[0]
    assert axes.get_yticklabels()[0].get_text() == "told"
    assert len([line for line in axes.lines if line.get_marker() == "o"]) == 1
    right = replace(outcome, scores=np.nan_to_num(truth) * 0.9)
    axes = draw_tags(right, groups, "Probe", make_set()).axes[0]
    dot = next(line for line in axes.lines if line.get_marker() == "o")
    assert dot.get_xdata() == [1.0]
    assert dot.get_markerfacecolor() == "white"  # without an interval nothing is excluded
    assert draw_tags(replace(outcome, truth=truth * 0), groups, "Probe", make_set()) is None


def test_dots_are_filled_where_the_interval_excludes_the_line():
    dots = [Dot("a", 1.0, 0.5, 1.5), Dot("b", 0.1, -0.5, 0.5), Dot("c", None), Dot("d", 2.0)]
    axes = draw_dots(dots, [Line(0.0)], title="t", under="u", axis="x").axes[0]
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert [face == "white" for face in faces] == [False, True, True]
    many = draw_dots(dots * MAX_DOTS, [], title="t", under="u", axis="x")
    assert f"the first {MAX_DOTS} of {4 * MAX_DOTS}" in many.get_suptitle().replace("\n", " ")


def test_forest_plot_of_a_comparison(tmp_path):
    names = {"baseline": "A", "protocol": "probe", "protocol_version": 1, "inputs": "x->y"}
    told = Difference(
        **names, model="B", metric="accuracy", difference=0.1, ci_low=0.05, ci_high=0.2, n=9,
        verdict="better",
    )  # fmt: skip
    others = (replace(told, model="C", protocol="other"), replace(told, verdict=""))
    comparison = Comparison("A", ("B", "C"), "stars", True, (told, *others), ())
    draw_differences(comparison, tmp_path / "new" / "differences.png")
    assert 0.005 < drawn(tmp_path / "new" / "differences.png") < 0.9
    draw_differences(replace(comparison, differences=()), tmp_path / "none.png")
    undecided = replace(told, inputs="y->x", verdict="undecided")
    axes = forest_plot(replace(comparison, differences=(told, undecided))).axes[0]
    faces = [line.get_markerfacecolor() for line in axes.lines if line.get_marker() == "o"]
    assert [face == "white" for face in faces] == [False, True]  # by the verdict, not the interval


def test_texts_can_be_read(make_set, make_evaluation):
    from shared.evaluation.pictures.choice import draw_pictures

    for name, figure in draw_pictures(make_evaluation(rich_set(make_set))):
        texts = [t for axes in figure.axes for t in (*axes.texts, *axes.get_xticklabels())]
        assert all(t.get_fontsize() >= SMALLEST for t in texts), name
        assert figure.get_figwidth() <= 8


def test_long_names_are_cut_in_the_middle_and_titles_wrapped():
    assert short("a" * 24) == "a" * 24
    assert short("abcdefghij", 7) == "abcd…ij"
    assert len(short("x" * 50)) == 24
    assert max(map(len, wrapped_title("word " * 60, 5.0).split("\n"))) < 80
    assert TEXT > SMALLEST


def test_every_kind_says_how_it_is_read():
    assert all(kind.title and kind.reading.endswith(".") for kind in KINDS)
    assert kind_of("retrieval_image_text").name == "retrieval"
    assert kind_of("few_shot").name == "few_shot"
    assert kind_of("something_else") is None
