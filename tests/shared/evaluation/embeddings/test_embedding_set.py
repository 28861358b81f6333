from dataclasses import replace

import numpy as np
import pytest

from shared.errors import EvaluationError, UnknownNameError
from shared.evaluation.protocols.classifier import ClassifierOutput

NAN = np.nan
TAGS = {"x": np.array([1.0, 0, NAN, 1] * 3), "y": np.array([NAN, 0, NAN, 1] * 3)}
TARGETS = {"mass": np.array([1.5, NAN, -2, 0] * 3)}
SUBGROUPS = {"site": np.array(["a", "", "b", "a"] * 3)}


@pytest.fixture
def full(make_set):
    return make_set(
        n=12,
        tags=TAGS,
        targets=TARGETS,
        subgroups=SUBGROUPS,
        content=np.array([f"h{i // 2}" for i in range(12)]),
        prompts=np.ones((4, 2, 8), np.float32),
        revision="abc",
    )


def test_truth_and_known(full):
    assert full.truth("label") is full.labels
    assert full.truth("tags").shape == (12, 2)
    assert full.known("tags").tolist() == [True, True, False, True] * 3
    assert full.known("mass").tolist() == [True, False, True, True] * 3
    assert full.known("label").all()
    with pytest.raises(UnknownNameError, match=r"no target 'mas'.*'mass'"):
        full.truth("mas")


def test_rows_are_those_with_all_that_is_asked_for(full):
    everything = np.concatenate([full.rows(s, target="mass") for s in ("train", "val", "test")])
    assert sorted(everything) == [0, 2, 3, 4, 6, 7, 8, 10, 11]
    both = full.rows("train", "m0", "m1")
    assert set(both) == set(np.flatnonzero((full.splits == "train") & full.present["m1"]))


def test_without_tags_none_is_known(make_set):
    bare = make_set(n=8)
    assert bare.truth("tags").shape == (8, 0)
    assert not bare.known("tags").any()


def test_select_keeps_all_that_is_of_samples(full):
    one = full.select(["m1"])
    assert one.modalities == ("m1",)
    for name in ("tags", "targets", "subgroups", "content", "prompts", "revision", "labels"):
        assert getattr(one, name) is getattr(full, name)
    with pytest.raises(UnknownNameError, match="no embeddings of 'm2'"):
        full.select(["m2"])


def test_the_split_fingerprint_follows_ids_groups_and_splits(full):
    order = np.random.default_rng(0).permutation(12)
    columns = ("ids", "groups", "splits", "labels")
    shuffled = replace(
        full,
        **{name: getattr(full, name)[order] for name in columns},
        vectors={m: v[order] for m, v in full.vectors.items()},
        present={m: p[order] for m, p in full.present.items()},
    )
    assert shuffled.split_fingerprint == full.split_fingerprint
    for name in ("splits", "groups"):
        changed = getattr(full, name).astype("<U9").copy()
        changed[0] = "val" if changed[0] != "val" else "test"
        assert replace(full, **{name: changed}).split_fingerprint != full.split_fingerprint
    assert replace(full, labels=full.labels[::-1]).split_fingerprint == full.split_fingerprint


def test_the_array_hash_follows_what_a_protocol_reads(full):
    before = full.array_hash(("m0",), "mass")
    assert full.array_hash(("m0",), "mass") == before
    assert full.array_hash(("m0", "m1"), "mass") != before
    assert full.array_hash(("m0",), "tags") != before
    for changes in (
        {"targets": {"mass": TARGETS["mass"] + 1}},
        {"subgroups": {"site": np.array(["c", "", "b", "a"] * 3)}},
        {"annotations": {"outline": np.array(["[1]", "", "", ""] * 3)}},
        {"vectors": {m: v * 2 for m, v in full.vectors.items()}},
    ):
        assert replace(full, **changes).array_hash(("m0",), "mass") != before


WRONG = {
    "tag": ({"tags": {"x": np.full(12, 2.0)}}, "tag 'x' of 'star0' is 2.0; it takes 0, 1 or NaN"),
    "target": ({"targets": {"m": np.full(12, np.inf)}}, "target 'm' of 'star0' is inf"),
    "name": ({"targets": {"label": np.zeros(12)}}, "cannot be named 'label'"),
    "ids": ({"ids": np.arange(12)}, "ids: type int64; expected an array of text"),
    "labels": ({"labels": np.zeros(12)}, "labels: type float64; expected an array of whole"),
    "column": ({"labels": np.zeros((12, 1), int)}, r"labels: shape \(12, 1\)"),
    "list": ({"groups": ["g"] * 12}, "groups: type list; expected an array of text"),
    "objects": ({"subgroups": {"s": np.array(["a", None] * 6)}}, "subgroups 's': type object"),
    "presence": (
        {"present": {m: np.ones(12, int) for m in ("m0", "m1")}},
        "presence of 'm0': type int64; expected an array of booleans",
    ),
    "complex": (
        {"vectors": {m: np.ones((12, 8), np.complex64) for m in ("m0", "m1")}},
        "vectors of 'm0': type complex64; expected an array of real numbers",
    ),
    "same class": ({"classes": ("a", "b", "b", "c")}, "the class 'b' stands more than once"),
    "no class": ({"classes": ("a", "", "b", "c")}, "none empty"),
    "surrogate": ({"classes": ("a", "b", "c", "\ud800")}, "'class' holds a text that is not valid"),
    "file name": ({"model": "\udcff.npz"}, "'model' holds a text that is not valid Unicode"),
    "length": ({"tags": {"x": np.zeros(5)}}, "tag 'x': 5 rows, but there are 12 ids"),
    "subgroup": ({"subgroups": {"s": np.array(["a"])}}, "subgroups 's': 1 rows"),
    "annotation": ({"annotations": {"o": np.array(["a"])}}, "annotations 'o': 1 rows"),
    "content": ({"content": np.array(["a"])}, "content: 1 rows"),
    "classifier": (
        {"classified": ClassifierOutput(("a",), {("m0", "m1"): np.ones((5, 1), np.float32)})},
        r"classifier on m0\+m1: 5 rows",
    ),
    "prompts": ({"prompts": np.ones((3, 2, 8), np.float32)}, r"shape \(3, 2, 8\).*4 classes"),
    "flat": ({"prompts": np.ones((4, 8), np.float32)}, r"shape \(4, 8\)"),
    "many": ({"prompts": np.ones((5, 2, 8), np.float32)}, r"shape \(5, 2, 8\)"),
    "zero": ({"prompts": np.eye(4, 8, k=-1, dtype=np.float32)[:, None]}, "is all zeros"),
    "nan": ({"prompts": np.full((4, 1, 8), NAN, np.float32)}, "not finite"),
}


@pytest.mark.parametrize("case", WRONG)
def test_parts_that_do_not_fit_are_told(make_set, case):
    changes, message = WRONG[case]
    with pytest.raises(EvaluationError, match=message):
        make_set(n=12, **changes)


def test_classes_that_only_a_classifier_knows_need_no_prompts(full):
    assert len(replace(full, classes=(*full.classes, "other")).classes) == 5
