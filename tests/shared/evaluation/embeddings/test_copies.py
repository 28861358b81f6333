"""Rows that repeat an image count once where only the image is read."""

from dataclasses import replace

import numpy as np
import pytest

from shared.evaluation.embeddings.copies import copies_of, with_copies
from shared.evaluation.protocols.linear_probe import PROTOCOL as LINEAR_PROBE
from shared.evaluation.run import evaluate_arrays

IMAGES, CAPTIONS = 40, 3


@pytest.fixture
def captioned(make_set):
    """40 images of two classes in three rows each, one a caption."""
    rng = np.random.default_rng(0)
    n = IMAGES * CAPTIONS
    labels = np.arange(IMAGES) % 2
    images = (labels[:, None] + rng.normal(size=(IMAGES, 5))).astype(np.float32)
    splits = np.where(np.arange(IMAGES) < 24, "train", "test")
    return make_set(
        n=n,
        n_classes=2,
        labels=np.repeat(labels, CAPTIONS),
        vectors={
            "image": np.repeat(images, CAPTIONS, axis=0),
            "text": rng.normal(size=(n, 5)).astype(np.float32),
        },
        present={m: np.ones(n, np.bool_) for m in ("image", "text")},
        splits=np.repeat(splits, CAPTIONS),
        groups=np.repeat([f"image{i}" for i in range(IMAGES)], CAPTIONS),
    )


def test_an_image_is_a_copy_of_its_first_row(captioned):
    first = np.repeat(np.arange(IMAGES) * CAPTIONS, CAPTIONS)
    assert copies_of(captioned, "image").tolist() == first.tolist()
    assert list(with_copies(captioned).copies) == ["image"]


def test_rounding_makes_no_other_image_and_a_small_difference_does(captioned):
    vectors = captioned.vectors["image"]
    vectors[1] *= np.float32(1 + 1e-7)
    vectors[2] += np.float32(1e-3)
    assert copies_of(captioned, "image")[:4].tolist() == [0, 0, 2, 3]


def test_the_same_vector_in_another_group_or_split_is_no_copy(captioned):
    same = {**captioned.vectors, "image": np.ones_like(captioned.vectors["image"])}
    splits = captioned.splits.copy()
    splits[2] = "val"
    found = copies_of(replace(captioned, vectors=same, splits=splits), "image")
    assert found[:6].tolist() == [0, 0, 2, 3, 3, 3]


def test_a_row_that_lacks_the_modality_is_its_own(captioned):
    captioned.present["image"][[0, 4]] = False
    captioned.vectors["image"][[0, 4]] = np.nan
    assert copies_of(captioned, "image")[:6].tolist() == [0, 1, 1, 3, 4, 3]


def test_one_modality_counts_images_and_two_count_captions(captioned):
    made = with_copies(captioned)
    assert made.rows("test", "image").tolist() == list(range(72, 120, 3))
    assert len(made.rows("test", "text")) == len(made.rows("test", "image", "text")) == 48
    assert len(made.rows("test")) == 48
    assert len(made.select(["image"]).rows("test")) == 16


def test_a_copy_with_another_target_counts(captioned):
    captioned.labels[73] = 1 - captioned.labels[72]
    made = with_copies(captioned)
    assert made.rows("test", "image", target="label")[:3].tolist() == [72, 73, 75]
    unknown = np.full(len(made), np.nan)
    unknown[72] = 1.0
    tagged = replace(made, tags={"cloud": unknown, "water": np.ones(len(made))})
    assert tagged.rows("test", "image", target="tags")[:3].tolist() == [72, 73, 75]
    assert len(tagged.rows("val", "image", target="tags")) == 0


@pytest.mark.parametrize("folds", [None, 4])
def test_a_probe_of_images_is_that_without_their_copies(captioned, folds):
    from shared.evaluation.cross_validation import cross_validated

    alone = np.arange(0, len(captioned), CAPTIONS)
    once = replace(
        captioned.select(["image"]),
        vectors={"image": captioned.vectors["image"][alone]},
        present={"image": captioned.present["image"][alone]},
        **{name: getattr(captioned, name)[alone] for name in ("ids", "labels", "splits", "groups")},
    )
    protocol = LINEAR_PROBE if folds is None else cross_validated(LINEAR_PROBE, folds)
    found, expected = (
        evaluate_arrays(s.select(["image"]), [protocol], n_resamples=0) for s in (captioned, once)
    )
    assert [(r.metric, r.value, r.n) for r in found.results] == [
        (r.metric, r.value, r.n) for r in expected.results
    ]


def test_simple_features_are_judged_on_the_same_rows(captioned):
    """Two captions that simple features cannot tell apart stay two rows."""
    simple = replace(captioned, vectors={m: 0 * v for m, v in captioned.vectors.items()})
    evaluation = evaluate_arrays(captioned, [LINEAR_PROBE], simple_features=simple, n_resamples=0)
    for run in evaluation.runs:
        assert run.simple.rows.tolist() == run.output.rows.tolist()
