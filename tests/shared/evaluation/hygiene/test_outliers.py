import csv
from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics.pairwise import cosine_distances

from shared.evaluation.hygiene.outliers import FAR_SHARE, NEIGHBOURS, find_outliers, save_outliers


def test_distances_are_to_the_centre_of_the_own_class(made_up):
    outliers = find_outliers(made_up)
    assert sorted(outliers.rows) == made_up.rows("test", target="label").tolist()
    for modality in made_up.modalities:
        there = made_up.present[modality][outliers.rows]
        assert np.array_equal(np.isfinite(outliers.distance[modality]), there)
        assert np.array_equal(outliers.predicted[modality] >= 0, there)
        train = made_up.rows("train", modality, target="label")
        unit = made_up.vectors[modality] / np.linalg.norm(
            made_up.vectors[modality], axis=1, keepdims=True
        )
        means = [unit[train[made_up.labels[train] == c]].mean(axis=0) for c in range(4)]
        expected = cosine_distances(unit[outliers.rows[there]], means)
        own = made_up.labels[outliers.rows[there]]
        found = outliers.distance[modality][there]
        np.testing.assert_allclose(found, expected[np.arange(len(own)), own], atol=1e-6)
        assert np.array_equal(outliers.predicted[modality][there], expected.argmin(axis=1))
        farthest = outliers.distance[modality][outliers.farthest(modality, 5)]
        assert np.array_equal(farthest, np.sort(found)[::-1][:5])


def test_wrong_labels_are_candidates_and_right_ones_are_not(make_set):
    clean = make_set(n=2000, noise=0.3)
    test = clean.rows("test", "m0", "m1")
    wrong = test[:: int(2 / FAR_SHARE)]
    labels = clean.labels.copy()
    labels[wrong] = (labels[wrong] + 1) % 4
    outliers = find_outliers(replace(clean, labels=labels))
    found = outliers.rows[outliers.candidate]
    assert set(wrong.tolist()) <= set(found.tolist())
    assert len(found) <= 2 * len(wrong)
    assert set(outliers.rows[: len(wrong)].tolist()) & set(wrong.tolist())


def test_one_of_several_modalities_is_not_enough(make_set):
    clean = make_set(n=400, noise=0.3)
    labels = clean.labels.copy()
    wrong = clean.rows("test")[::7]
    labels[wrong] = (labels[wrong] + 1) % 4
    everywhere = replace(clean, labels=labels)
    both = clean.present["m1"][wrong]
    candidates = find_outliers(everywhere)
    found = candidates.rows[candidates.candidate]
    assert not set(found.tolist()) & set(wrong[~both].tolist())
    alone = find_outliers(everywhere.select(["m0"]))
    assert alone.candidate.any()


def test_classes_without_train_rows_have_no_distance(make_set):
    made = make_set()
    splits = np.where((made.labels == 3) & (made.splits == "train"), "val", made.splits)
    outliers = find_outliers(replace(made, splits=splits))
    of_class = made.labels[outliers.rows] == 3
    assert of_class.any()
    assert np.isnan(outliers.distance["m0"][of_class]).all()
    assert not outliers.candidate[of_class].any()
    assert not np.isin(outliers.farthest("m0", 1000), np.flatnonzero(of_class)).any()


def test_nothing_to_compare_is_none(make_set):
    assert find_outliers(make_set(absent=1.1, n=1)) is None
    assert find_outliers(make_set(splits=np.full(240, "test"))) is None


def test_isolation_is_the_mean_distance_to_the_nearest_train_rows(made_up):
    outliers = find_outliers(made_up)
    for modality, isolation in outliers.isolation.items():
        there = made_up.present[modality][outliers.rows]
        assert np.array_equal(np.isfinite(isolation), there)
        vectors, train = made_up.vectors[modality], made_up.rows("train", modality)
        expected = cosine_distances(vectors[outliers.rows[there]], vectors[train])
        nearest = np.sort(expected, axis=1)[:, :NEIGHBOURS].mean(axis=1)
        np.testing.assert_allclose(isolation[there], nearest, atol=1e-6)


def test_without_labels_the_isolated_come_first(make_set, tmp_path):
    made = make_set(labels=np.full(240, -1), widths=(8,), noise=0.3)
    vectors = made.vectors["m0"].copy()
    odd = made.rows("test")[5]
    vectors[odd] = -vectors[made.splits == "train"].mean(axis=0)
    outliers = find_outliers(replace(made, vectors={"m0": vectors}))
    assert outliers.rows[0] == odd
    assert sorted(outliers.rows) == made.rows("test").tolist()
    assert not outliers.distance
    assert not outliers.candidate.any()
    assert (np.diff(outliers.isolation["m0"]) <= 1e-12).all()
    save_outliers(tmp_path / "outliers.csv", outliers, made)
    with (tmp_path / "outliers.csv").open(newline="") as file:
        first = next(csv.DictReader(file))
    assert first == {
        "id": str(made.ids[odd]),
        "label": "",
        "candidate": "0",
        "isolation_m0": f"{outliers.isolation['m0'][0]:.4f}",
    }


def test_fewer_train_rows_than_neighbours(make_set):
    made = make_set(widths=(8,))
    splits = np.where(made.splits == "train", "val", made.splits)
    splits[np.flatnonzero(made.splits == "train")[:3]] = "train"
    outliers = find_outliers(replace(made, splits=splits))
    assert np.isfinite(outliers.isolation["m0"]).all()


def test_equal_embeddings_are_no_outliers(make_set):
    made = make_set(widths=(3,))
    constant = replace(made, vectors={"m0": np.ones((240, 3), np.float32)})
    assert not find_outliers(constant).candidate.any()


def test_the_table(make_set, tmp_path):
    made = make_set(classes=("a,b", '"c"', "d", "e"))
    outliers = find_outliers(made)
    save_outliers(tmp_path / "outliers.csv", outliers, made)
    with (tmp_path / "outliers.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["id"] for line in lines] == made.ids[outliers.rows].tolist()
    for line, row, distance in zip(lines, outliers.rows, outliers.distance["m1"], strict=True):
        assert line["label"] == made.classes[made.labels[row]]
        there = made.present["m1"][row]
        assert (line["distance_m1"] != "") == (line["predicted_m1"] != "") == there
        if there:
            assert float(line["distance_m1"]) == pytest.approx(distance, abs=1e-4)
