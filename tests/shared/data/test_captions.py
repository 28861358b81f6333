"""Images with several captions, as evaluation reads them: a row a caption."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from shared.data.adapted import AdaptedDataset
from shared.data.captions import CAPTIONS
from shared.data.dataset import SAMPLE, Dataset, SampleTable
from shared.data.generic import TEXT
from shared.data.skipping import SkippingDataset, skipped_of
from shared.errors import DataError
from shared.evaluation.embeddings.content import content_hash
from shared.schema import Adapter, Channel, Schema

VALUES = Schema("image", ("channel",), (Channel("x"),))
SAID = {"a": ("one",), "b": ("two", "three", "four"), "c": ("five", "six")}


class Said(Dataset):
    """Three images; how often each was read is counted."""

    name = "said"
    evaluator = "some"
    source = "said.json"

    def __init__(self, said: Mapping[str, Any] = SAID, unreadable: str = "") -> None:
        self.schemas = {"image": VALUES, "text": CAPTIONS}
        self.said, self.unreadable, self.reads = said, unreadable, 0

    @property
    def caption_counts(self) -> list[int]:
        return [len(captions) for captions in self.said.values()]

    def make_table(self) -> SampleTable:
        return SampleTable(
            ids=list(self.said),
            labels=[0, 1, -1],
            classes=("u", "v"),
            groups=["scene", "scene", "other"],
            tags={"wet": [1, 0, np.nan]},
            targets={"size": [1.5, 2.5, 3.5]},
            subgroups={"camera": ["k", "l", ""]},
            annotations={"outline": ["1", "2", ""]},
        )

    def read(self, index: int) -> dict[str, Any]:
        self.reads += 1
        name = list(self.said)[index]
        image: Any = np.array([float(index)])
        if name == self.unreadable:
            image = DataError(f"{name}.png: no such file.")
        return {"image": image, "text": self.said[name]}

    def file(self, index: int, modality: str) -> str:
        return f"{list(self.said)[index]}.png"

    def content_fingerprint(self) -> str:
        return repr(self.said)


def test_a_row_is_a_caption_with_all_that_is_known_of_its_image() -> None:
    images = Said()
    rows = images.evaluated()
    assert rows.ids.tolist() == ["a#0", "b#0", "b#1", "b#2", "c#0", "c#1"]
    assert [rows[i]["text"] for i in range(6)] == ["one", "two", "three", "four", "five", "six"]
    assert [rows[i]["image"][0] for i in range(6)] == [0, 1, 1, 1, 2, 2]
    assert rows.annotations[SAMPLE].tolist() == ["a", "b", "b", "b", "c", "c"]
    # the user's own: folds and intervals must not divide a scene of several images
    assert rows.groups.tolist() == images.groups[[0, 1, 1, 1, 2, 2]].tolist()
    assert len(set(rows.groups)) < len(images)
    assert rows.labels.tolist() == [0, 1, 1, 1, -1, -1]
    assert rows.targets["size"].tolist() == [1.5, 2.5, 2.5, 2.5, 3.5, 3.5]
    assert rows.tags["wet"][:4].tolist() == [1, 0, 0, 0]
    assert np.isnan(rows.tags["wet"][4:]).all()
    assert rows.subgroups["camera"].tolist() == ["k", "l", "l", "l", "", ""]
    assert rows.annotations["outline"].tolist() == ["1", "2", "2", "2", "", ""]
    assert (rows.schemas["text"], rows.schemas["image"]) == (TEXT, VALUES)
    assert (rows.name, rows.evaluator, rows.source) == ("said", "some", "said.json")
    assert rows.where(3, "image") == "said, sample 'b#2' (b.png)"
    assert rows.fingerprint != images.fingerprint


def test_the_splits_are_those_of_the_images() -> None:
    """Rows have other groups, by which another split would be made."""
    images = Said()
    images.split_seed = 3
    for seen in (images, SkippingDataset(images), AdaptedDataset(images, {})):
        assert seen.evaluated().splits.tolist() == np.repeat(images.splits, [1, 3, 2]).tolist()


def test_an_image_is_read_once() -> None:
    images = Said()
    rows = images.evaluated()
    given = [rows[i]["image"] for i in range(6)]
    assert images.reads == 3
    assert given[1] is given[2] is given[3]
    assert given[3] is not given[4]


def test_other_datasets_are_evaluated_as_they_are() -> None:
    class One(Said):
        caption_counts = None

    one = One()
    skipping, adapted = SkippingDataset(one), AdaptedDataset(one, {})
    assert [d.evaluated() is d for d in (one, skipping, adapted)] == [True] * 3


def test_adapters_see_an_image_once_too() -> None:
    double = Adapter("double", lambda schema: schema, lambda _, array: array * 2)
    rows = AdaptedDataset(Said(), {"image": double}).evaluated()
    assert [rows[i]["image"][0] for i in range(6)] == [0, 2, 2, 2, 4, 4]
    assert rows[1]["image"] is rows[2]["image"]


def test_an_image_that_cannot_be_read_is_left_out_of_each_of_its_rows() -> None:
    rows = SkippingDataset(Said(unreadable="b")).evaluated()
    assert [sorted(rows[i]) for i in range(6)] == [
        ["image", "text"],
        *[["text"]] * 3,
        *[["image", "text"]] * 2,
    ]
    assert [(s.id, s.modality, s.file) for s in skipped_of(rows)] == [
        (f"b#{k}", "image", "b.png") for k in range(3)
    ]
    rows.check_skipped({"image": 3, "text": 6}, 6)
    with pytest.raises(DataError, match=r"b.png: no such file. To leave out.*on_error=skip"):
        Said(unreadable="b").evaluated()[2]


def test_captions_are_held_against_the_schema() -> None:
    for wrong in ((), ("one", ""), ("one", 2), "  ", ["one"]):
        images = Said({**SAID, "c": wrong})
        with pytest.raises(DataError, match="text is not a non-empty text, nor a tuple of such"):
            images[2]
    CAPTIONS.check("one text", "here")
    CAPTIONS.check(("one", "two"), "here")
    with pytest.raises(DataError, match="is not a non-empty text"):
        TEXT.check(("one", "two"), "here")


def test_a_single_text_is_one_caption() -> None:
    class Mixed(Said):
        caption_counts = (1, 3, 1)  # type: ignore[assignment]

    rows = Mixed({**SAID, "c": "five"}).evaluated()
    assert [rows[i]["text"] for i in (3, 4)] == ["four", "five"]


def test_fewer_captions_than_were_counted_are_an_error() -> None:
    class Changed(Said):
        caption_counts = (2, 3, 2)  # type: ignore[assignment]

    with pytest.raises(DataError, match=r"sample 'a#1'.* has 1 captions, where its dataset counts"):
        Changed().evaluated()[1]


def test_copies_of_an_image_are_found_under_other_captions() -> None:
    rows = Said().evaluated()
    hashes = [content_hash(rows.content(rows[i])) for i in range(6)]
    assert [len(set(hashes[:1])), len(set(hashes[1:4])), len(set(hashes))] == [1, 1, 3]
    texts = Said()
    texts.schemas = {"text": replace(CAPTIONS)}
    raw = {"text": "one"}
    assert texts.evaluated().content(raw) == raw
    assert SkippingDataset(Said()).evaluated().content(rows[0]).keys() == {"image"}
