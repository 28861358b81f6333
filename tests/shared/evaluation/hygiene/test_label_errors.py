import csv
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.evaluation.hygiene.label_errors import (
    confident_learning,
    find_label_errors,
    save_label_errors,
)


def flipped(made, share=0.05, seed=0):
    """The same set with wrong labels, and the rows that have them."""
    rng = np.random.default_rng(seed)
    wrong = np.sort(rng.choice(len(made), int(share * len(made)), replace=False))
    labels = made.labels.copy()
    labels[wrong] = (labels[wrong] + rng.integers(1, len(made.classes), len(wrong))) % 4
    return replace(made, labels=labels), wrong


def naive(probabilities, given):
    """Northcutt et al. 2021, eq. 1 and 2, one row after the other."""
    classes = range(probabilities.shape[1])
    t = [np.mean([p[j] for p, g in zip(probabilities, given, strict=True) if g == j])
         for j in classes]  # fmt: skip
    found = []
    for row, (p, g) in enumerate(zip(probabilities, given, strict=True)):
        reached = [j for j in classes if p[j] >= t[j] - 1e-12]
        if reached and max(reached, key=lambda j: p[j]) != g:
            found.append(row)
    return found


@given(seed=st.integers(0, 300))
def test_candidates_are_the_off_diagonal_of_the_confident_joint(seed):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.ones(3), size=25)
    given = np.concatenate([np.arange(3), rng.integers(0, 3, 22)])
    candidates, suggested = confident_learning(probabilities, given)
    assert candidates.tolist() == naive(probabilities, given)
    assert (suggested[candidates] != given[candidates]).all()


def test_a_known_case():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.2, 0.8], [0.1, 0.9], [0.3, 0.7]])
    candidates, suggested = confident_learning(probabilities, np.array([0, 0, 0, 1, 1]))
    # t = mean of 0.9, 0.8, 0.2 and of 0.9, 0.7: row 2 reaches 0.8 of the second class
    assert candidates.tolist() == [2]
    assert suggested.tolist() == [0, 0, 1, 1, 1]


def test_equal_probabilities_accuse_nobody():
    candidates, _ = confident_learning(np.full((6, 2), 0.5), np.array([0, 0, 0, 1, 1, 0]))
    assert candidates.size == 0


def test_planted_flips_are_found(make_set):
    """Five in a hundred: four in five of them are among the candidates (measured: 0.86), and nearly
    all candidates are flips (measured: all)."""
    made, wrong = flipped(make_set(n=1000, noise=0.5))
    errors = find_label_errors(made)
    hits = np.isin(errors.rows, wrong)
    assert hits.sum() >= 0.8 * len(wrong)
    assert hits.mean() >= 0.95
    assert (np.diff(errors.margin) >= 0).all()
    assert errors.n_judged == 1000
    truth = make_set(n=1000, noise=0.5).labels[errors.rows[hits]]
    assert (errors.suggested[hits] == truth).mean() > 0.95


def test_clean_labels_have_few_candidates(make_set):
    assert len(find_label_errors(make_set(n=1000, noise=0.1)).rows) <= 10


def test_a_group_is_never_judged_by_its_own_rows(make_set):
    """Copies in one group with a wrong label: seen in training, they would vouch for each other."""
    made = make_set(n=600, noise=0.3, widths=(8,))
    copies = np.flatnonzero(made.labels == 0)[:8]
    vectors = made.vectors["m0"].copy()
    vectors[copies] = vectors[copies[0]]
    labels, groups = made.labels.copy(), made.groups.copy()
    labels[copies], groups[copies] = 1, groups[copies[0]]
    errors = find_label_errors(replace(made, vectors={"m0": vectors}, labels=labels, groups=groups))
    assert set(copies.tolist()) <= set(errors.rows.tolist())


def test_the_order_of_rows_does_not_matter(make_set):
    made, _ = flipped(make_set(n=300))
    turned = np.random.default_rng(1).permutation(300)
    other = replace(
        made, ids=made.ids[turned], labels=made.labels[turned], splits=made.splits[turned],
        groups=made.groups[turned],
        vectors={m: v[turned] for m, v in made.vectors.items()},
        present={m: p[turned] for m, p in made.present.items()},
    )  # fmt: skip
    first, second = find_label_errors(made), find_label_errors(other)
    assert made.ids[first.rows].tolist() == other.ids[second.rows].tolist()


def test_rare_classes_and_unlabelled_rows_are_left_out(make_set):
    made = make_set()
    labels = made.labels.copy()
    labels[np.flatnonzero(labels == 3)[4:]] = -1
    assert find_label_errors(replace(made, labels=labels)).n_judged == 180


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.full(240, -1)}, "fewer than 2 classes have 5 labelled groups"),
        ({"labels": np.zeros(240, np.int64)}, "fewer than 2 classes"),
        ({"groups": np.full(240, "one")}, "fewer than 2 classes"),
        ({"n": 40}, "40 labelled rows; 50 are needed"),
    ],
)
def test_too_small_says_why(make_set, changes, words):
    assert words in find_label_errors(make_set(**changes))


def test_the_table(make_set, tmp_path):
    made, _ = flipped(make_set(classes=("a,b", '"c"', "d", "e")))
    errors = find_label_errors(made)
    save_label_errors(tmp_path / "label_errors.csv", errors, made)
    with (tmp_path / "label_errors.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == made.ids[errors.rows].tolist()
    for i, line in enumerate(lines):
        row = errors.rows[i]
        assert line["given"] == made.classes[made.labels[row]] != line["suggested"]
        assert line["split"] == made.splits[row]
        assert float(line["margin"]) == pytest.approx(errors.margin[i], abs=1e-4)
        assert float(line["self_confidence"]) == pytest.approx(errors.self_confidence[i], abs=1e-4)
