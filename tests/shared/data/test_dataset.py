import numpy as np
import pytest

from shared.data.adapted import AdaptedDataset
from shared.data.dataset import Dataset, SampleTable
from shared.data.skipping import SkippingDataset, refused_of
from shared.errors import DataError
from shared.schema import Channel, Schema

NAN = np.nan


class Made(Dataset):
    name = "made"
    schemas = {"x": Schema("x", ("time", "channel"), (Channel("v"),))}  # noqa: RUF012

    def __init__(self, **columns):
        self._more = columns

    def make_table(self):
        return SampleTable(["a", "b", "c"], [0, 1, -1], ("k", "l"), **self._more)

    def read(self, index):
        if index == 1:
            raise DataError("b is unreadable.")
        return {"x": np.ones((2, 1))}

    def content_fingerprint(self):
        return "1"


FULL = {
    "tags": {"t": [1, 0, NAN]},
    "targets": {"y": np.array([1.5, NAN, -1])},
    "subgroups": {"site": ["p", "", "q"]},
    "annotations": {"outline": ["[1]", "", ""]},
}


@pytest.mark.parametrize(
    "wrap", [lambda d: d, SkippingDataset, lambda d: SkippingDataset(AdaptedDataset(d, {}))]
)
def test_wrappers_pass_on_what_is_known(wrap):
    data = wrap(Made(**FULL))
    np.testing.assert_array_equal(data.tags["t"], [1, 0, NAN])
    np.testing.assert_array_equal(data.targets["y"], [1.5, NAN, -1])
    assert data.subgroups["site"].tolist() == ["p", "", "q"]
    assert data.annotations["outline"].tolist() == ["[1]", "", ""]
    assert data.tags["t"].dtype == np.float64


def test_the_fingerprint_without_is_that_of_before():
    """Written down before there were tags, targets and subgroups."""
    assert Made().fingerprint == "55f1974c28aaf5ce"


@pytest.mark.parametrize(
    "change",
    [
        {"tags": {"t": [1, 0, 0]}},
        {"tags": {"u": FULL["tags"]["t"]}},
        {"targets": {"y": [1.5, NAN, -2]}},
        {"targets": {}},
        {"subgroups": {"site": ["p", "", "r"]}},
        {"annotations": {"outline": ["[1]", "[2]", ""]}},
    ],
)
def test_the_fingerprint_follows_them(change):
    assert Made(**{**FULL, **change}).fingerprint != Made(**FULL).fingerprint
    assert Made(**FULL).fingerprint == Made(**FULL).fingerprint


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"tags": {"t": [1, 0]}}, "tag 't' has 2 entries, but there are 3 samples"),
        ({"tags": {"t": [1, 0, 0.5]}}, "tag 't' of 'c' is 0.5; it takes 0, 1 or NaN"),
        ({"targets": {"y": [1, np.inf, 0]}}, "target 'y' of 'b' is inf; it takes a finite"),
        ({"subgroups": {"s": ["x"]}}, "subgroup 's' has 1 entries"),
        ({"annotations": {"o": ["x"]}}, "annotation 'o' has 1 entries"),
    ],
)
def test_what_cannot_be_right_is_told(columns, message):
    with pytest.raises(DataError, match=message):
        Made(**columns).table  # noqa: B018


def test_refused_rows_of_a_range():
    data = SkippingDataset(Made())
    for row in range(3):
        data[row]
    assert refused_of(data, range(0, 3)) == [(1, "", "b is unreadable.")]
    assert refused_of(data, range(2, 3)) == []
    assert refused_of(Made(), range(0, 3)) == []
