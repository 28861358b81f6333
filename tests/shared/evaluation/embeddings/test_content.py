import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps

from shared.evaluation.embeddings.content import content_hash

X = np.arange(6.0).reshape(2, 3)


def test_equal_samples_have_one_hash_whatever_the_order_and_layout():
    first = content_hash({"a": X, "b": "text"})
    assert len(first) == 32
    assert content_hash({"b": "text", "a": np.asfortranarray(X.copy())}) == first
    assert content_hash({"b": "text", "a": np.stack([X, X])[::2][0]}) == first


@pytest.mark.parametrize(
    "other",
    [
        {"a": X.astype(np.float32), "b": "text"},
        {"a": X.reshape(3, 2), "b": "text"},
        {"a": X, "b": "texts"},
        {"a": X},
        {"a": X, "c": "text"},
        {"a": {"x": X}, "b": "text"},
        {"a": X + 1e-15 * (X == 5), "b": b"text"},
    ],
)
def test_other_samples_have_another(other):
    assert content_hash(other) != content_hash({"a": X, "b": "text"})


@pytest.mark.parametrize(
    "raw", [{}, {"a": object()}, {"a": np.array([None])}, {"a": [X, object()]}]
)
def test_what_cannot_be_told_is_empty(raw):
    assert content_hash(raw) == ""


@given(nps.arrays(st.sampled_from([np.uint8, np.float64]), nps.array_shapes(max_dims=3)))
def test_a_copy_is_the_same_and_a_change_is_not(array):
    changed = array.copy()
    changed.flat[0] = 1 if changed.flat[0] != 1 else 2
    assert content_hash({"a": array.copy()}) == content_hash({"a": array})
    assert content_hash({"a": changed}) != content_hash({"a": array})


def test_texts_do_not_run_into_each_other():
    assert content_hash({"a": ["x", "yz"]}) != content_hash({"a": ["xy", "z"]})
