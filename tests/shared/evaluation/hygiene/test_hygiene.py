"""Groups, duplicates, contradictions and sizes that make scores other than they should be."""

import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.data.splits import assign_splits
from shared.evaluation.hygiene.checks import COLLAPSED, check_hygiene
from shared.evaluation.hygiene.duplicates import (
    NEAR_EMBEDDING,
    SAME_CONTENT,
    SAME_EMBEDDING,
    find_duplicates,
    find_near,
    group_duplicates,
    near_pairs,
    save_duplicates,
)
from shared.evaluation.protocols.embedding_health import effective_rank

SPLITS = np.repeat(["train", "val", "test"], [160, 40, 40])
CONTENT = np.array([f"h{i}" for i in range(240)])


@pytest.fixture
def clean(make_set):
    return make_set(absent=0.0, widths=(16, 16), splits=SPLITS, content=CONTENT)


def levels(embeddings):
    return {f.check: f.level for f in check_hygiene(embeddings).findings}


def test_clean_data_give_no_warning(clean):
    hygiene = check_hygiene(clean)
    assert hygiene.warnings == hygiene.notes == []
    assert hygiene.duplicates == ()
    assert {f.level for f in hygiene.findings} == {"fine"}


def test_groups_in_two_splits(clean):
    groups = clean.ids.copy()
    groups[[170, 210]] = groups[[3, 5]]
    warnings = check_hygiene(replace(clean, groups=groups)).warnings
    assert [w.partition(":")[0] for w in warnings] == [
        "1 groups stand in both the train and the test split, such as 'star5'",
        "1 groups stand in both the train and the val split, such as 'star3'",
    ]


def test_equal_content_in_two_splits(clean, tmp_path):
    content = CONTENT.copy()
    content[[170, 210, 215]] = content[[3, 5, 5]]
    content[[216, 7]] = ""  # unknown is equal to nothing
    given = replace(clean, content=content, labels=np.zeros(240, np.int64))
    found = check_hygiene(given)
    assert {(d.first, d.second) for d in found.duplicates} == {(210, 5), (215, 5), (170, 3)}
    assert {d.kind for d in found.duplicates} == {SAME_CONTENT}
    assert any("2 of 40 samples of the test split have the content" in w for w in found.warnings)
    save_duplicates(tmp_path / "d.csv", found.duplicates, given)
    with (tmp_path / "d.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found.duplicates)
    assert rows[0] == {
        "id": "star210",
        "split": "test",
        "other_id": "star5",
        "other_split": "train",
        "kind": "content",
        "cosine": "1.000000",
    }


def test_equal_content_of_two_classes(clean):
    content = CONTENT.copy()
    content[[9, 100, 101]] = "same"
    (warning,) = check_hygiene(replace(clean, content=content)).warnings
    assert warning.startswith("3 samples hold the same as one of another class, such as 'star9'")
    labels = clean.labels.copy()
    labels[[9, 100]], labels[101] = 1, -1
    assert check_hygiene(replace(clean, content=content, labels=labels)).warnings == []


def copied(embeddings, pairs, noise, seed=0):
    """Test rows that repeat training rows, up to noise relative to the spread."""
    rng = np.random.default_rng(seed)
    vectors = {m: v.copy() for m, v in embeddings.vectors.items()}
    for values in vectors.values():
        for row, source in pairs:
            spread = noise * values.std(axis=0) * rng.standard_normal(values.shape[1])
            values[row] = values[source] + spread
    return replace(embeddings, vectors=vectors)


PAIRS = [(200, 3), (211, 40), (239, 159)]


def test_classes_of_the_splits_are_not_counted_where_folds_judge_all(clean):
    few = replace(clean, labels=np.where(np.arange(len(clean)) < 238, 0, 1))
    checks = {f.check for f in check_hygiene(few).findings}
    folded = {f.check for f in check_hygiene(few, np.arange(len(few))).findings}
    assert checks - folded == {"small classes", "classes without training rows"}


def test_nearly_equal_embeddings(clean):
    found = find_duplicates(copied(clean, PAIRS, 0.01))
    assert {(d.first, d.second) for d in found} == set(PAIRS)
    assert {d.kind for d in found} == {NEAR_EMBEDDING}
    assert all(0.99 < d.cosine < 1 for d in found)
    (warning,) = check_hygiene(copied(clean, PAIRS, 0.01)).warnings
    assert "3 of 40 samples of the test split have nearly the embedding of one of the" in warning


def test_equal_embeddings_are_told_once(clean):
    given = copied(clean, PAIRS, 0.0)
    assert {(d.first, d.second, d.kind) for d in find_duplicates(given)} == {
        (*pair, SAME_EMBEDDING) for pair in PAIRS
    }
    content = CONTENT.copy()
    content[200] = content[3]
    kinds = {d.first: d.kind for d in find_duplicates(replace(given, content=content))}
    assert kinds == {200: SAME_CONTENT, 211: SAME_EMBEDDING, 239: SAME_EMBEDDING}


@pytest.mark.parametrize(("degrees", "near"), [(15, False), (3, True)])
def test_near_pairs_point_in_one_direction(degrees, near):
    """Nearer than all others by far, and yet 15° apart."""
    unit = np.linalg.qr(np.random.default_rng(0).standard_normal((64, 64)))[0].astype(np.float32)
    queries, candidates = unit[:30], unit[30:].copy()
    angle = np.deg2rad(degrees)
    candidates[7] = np.cos(angle) * queries[3] + np.sin(angle) * unit[37]
    pairs, cosines = near_pairs(queries, candidates)
    assert pairs.tolist() == ([[3, 7]] if near else [])
    assert cosines == pytest.approx([np.cos(angle)] if near else [])


def test_one_modality_that_differs_is_another_sample(clean):
    given = copied(clean, PAIRS, 0.01)
    other = replace(given, vectors={**given.vectors, "m1": clean.vectors["m1"]})
    assert find_duplicates(other) == []


def test_rows_without_the_modality_are_compared_by_the_others(make_set):
    given = make_set(absent=0.3, widths=(16, 16), splits=SPLITS)
    source = np.flatnonzero(~given.present["m1"][:160])[0]
    row = 200 + np.flatnonzero(~given.present["m1"][200:])[0]
    pairs = [(int(row), int(source))]
    assert [(d.first, d.second) for d in find_duplicates(copied(given, pairs, 0.01))] == pairs


def test_a_group_is_no_duplicate_of_itself(clean):
    groups = clean.ids.copy()
    for row, source in PAIRS:
        groups[row] = groups[source]
    given = replace(copied(clean, PAIRS, 0.01), groups=groups)
    assert find_near(given, given.rows("test"), given.rows("train")) == []


def clouds(kind, rng, n=240, d=16):
    if kind == "classes":
        centres, widths = 3 * rng.standard_normal((6, d)), rng.uniform(0.05, 1, 6)
        of = rng.integers(0, 6, n)
        return centres[of] + widths[of, None] * rng.standard_normal((n, d))
    if kind == "surface":
        return np.tanh(rng.standard_normal((n, 3)) @ rng.standard_normal((3, d)))
    if kind == "collapsed":
        return 5 + 1e-3 * rng.standard_normal((n, d))
    if kind == "two":
        return rng.standard_normal((n, 2))
    return rng.standard_normal((n, d))


@pytest.mark.parametrize("kind", ["classes", "surface", "collapsed", "two", "ball"])
def test_samples_without_copies_are_not_called_near(make_set, kind):
    wrong = 0
    for seed in range(20):
        vectors = clouds(kind, np.random.default_rng(seed)).astype(np.float32)
        given = make_set(vectors={"m": vectors}, present={"m": np.ones(240, bool)}, splits=SPLITS)
        wrong += len(find_duplicates(given)) > 0
    assert wrong == 0


@settings(max_examples=20, deadline=None)
@given(scale=st.floats(1e-3, 1e3), shift=st.floats(-100, 100), seed=st.integers(0, 100))
def test_near_pairs_follow_neither_scale_nor_shift(make_set, scale, shift, seed):
    given = copied(make_set(absent=0.0, widths=(16, 16), splits=SPLITS), PAIRS, 0.005, seed)
    moved = {m: (scale * (v + shift)).astype(np.float32) for m, v in given.vectors.items()}
    found = {(d.first, d.second) for d in find_duplicates(replace(given, vectors=moved))}
    assert found == set(PAIRS)


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_constant_embeddings_are_near_nobody(value):
    same = np.full((20, 4), value, np.float32)
    pairs, cosines = near_pairs(same, same)
    assert pairs.shape == (0, 2)
    assert len(cosines) == 0


def test_too_few_or_too_many_to_search(make_set, monkeypatch):
    small = make_set(n=12, absent=0.0)
    assert find_duplicates(small) == []
    monkeypatch.setattr("shared.evaluation.hygiene.duplicates.LARGEST_SEARCH", 100)
    assert "too large to compare" in str(check_hygiene(small).notes)


def test_duplicates_are_grouped_and_split_together(clean):
    content = CONTENT.copy()
    content[[10, 20, 220]] = "same"
    groups = clean.ids.copy()
    groups[30] = groups[20]
    given = replace(copied(clean, PAIRS, 0.01), content=content, groups=groups)
    joined = group_duplicates(given)
    assert len(set(joined[[10, 20, 30, 220]])) == 1
    assert len(set(joined)) == 240 - 3 - len(PAIRS)
    for row, source in PAIRS:
        assert joined[row] == joined[source]
    assert set(joined) <= set(groups)
    splits = assign_splits(joined, given.labels)
    again = replace(given, groups=joined, splits=splits)
    assert not any("split" in warning for warning in check_hygiene(again).warnings)
    assert np.array_equal(group_duplicates(again), joined)


def test_sizes_and_classes_that_mislead(make_set):
    labels = np.zeros(240, np.int64)
    labels[:8], labels[200:203], labels[203], labels[204:210] = 1, 2, 1, -1
    given = make_set(absent=0.0, labels=labels, splits=SPLITS)
    hygiene = check_hygiene(given)
    (warning,) = hygiene.warnings
    assert "1 classes of the test split, such as 'class2', have no labelled row" in warning
    notes = "\n".join(hygiene.notes)
    assert "2 of 3 classes have fewer than 5 test rows, such as 'class1' with 1" in notes
    assert "'class0', has 152 rows, the smallest, 'class1', 8" in notes
    assert "6 of 240 samples have no label" in notes
    assert "not looked for: the content" in notes


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_an_empty_split_and_few_groups(make_set, split):
    others = [s for s in ("train", "val", "test") if s != split]
    given = make_set(n=40, splits=np.repeat(others, 20), labels=np.full(40, -1))
    notes = check_hygiene(given).notes
    assert f"the {split} split is empty" in notes
    assert any("has 20 groups: below 30" in n for n in notes) == (split != "test")
    assert check_hygiene(given).warnings == []


def test_rows_of_zeros_are_told(clean):
    vectors = {m: v.copy() for m, v in clean.vectors.items()}
    vectors["m0"][[3, 5]] = 0
    (line,) = check_hygiene(replace(clean, vectors=vectors)).warnings
    assert line.startswith("2 embeddings of m0, such as that of 'star3', are all zeros")
    present = {**clean.present, "m0": vectors["m0"].any(axis=1)}
    assert check_hygiene(replace(clean, vectors=vectors, present=present)).warnings == []


def test_numbers_that_are_taken_for_classes_are_told(clean):
    classes = tuple(str(i) for i in range(120))
    many = replace(clean, classes=classes, labels=np.arange(240) % 120, prompts=None)
    assert levels(many)["labels that may be numbers"] == "warning"
    few = replace(many, labels=np.arange(240) % 80)
    assert "labels that may be numbers" not in levels(few)


def test_a_collapse_is_told(make_set):
    line = np.outer(np.ones(240), np.arange(1, 9)).astype(np.float32)
    given = make_set(widths=(8,), vectors={"m0": line}, present={"m0": np.ones(240, bool)})
    assert levels(given)["collapse"] == "warning"
    assert "m0 have collapsed" in check_hygiene(given).warnings[-1]


@pytest.mark.parametrize("width", [1, 3])
def test_narrow_embeddings_have_not_collapsed(make_set, width):
    """Mean colours of images, or a single number."""
    values = 1 + 0.1 * np.random.default_rng(0).standard_normal((240, width))
    assert effective_rank(values) < COLLAPSED
    vectors, present = {"m0": values.astype(np.float32)}, {"m0": np.ones(240, bool)}
    assert "collapse" not in levels(make_set(widths=(width,), vectors=vectors, present=present))
