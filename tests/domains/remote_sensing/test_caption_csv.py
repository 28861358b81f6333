"""CSV files of images and texts, and RSICD's captions as lines of JSON."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.errors import ConfigError, DataError
from zoo.plugins import plugins

REAL = Path(__file__).parents[3] / "../shared/data/remote_sensing/rsicd_captions"
ROWS = [
    ("b.png", "a lake", "test", "water", "x"),
    ("a.png", "a field, brown", "train", "", "y"),
    ("b.png", "the lake", "test", "water", "x"),
    ("c.png", "houses", "val", "town", "z"),
    ("a.png", "«champ» 田", "train", "", "y"),
]


def build(name: str, **settings: Any) -> Dataset:
    return build_dataset({"name": name, **settings}, plugins().registries)


def write(folder: Path, encoding: str = "utf-8", rows: list[tuple[str, ...]] = ROWS) -> dict:
    (folder / "images").mkdir(exist_ok=True)
    for number, name in enumerate("abc"):
        pixels = np.full((6, 7, 3), number, np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{name}.png")
    lines = ["filename,title,split,class,scene"]
    lines += [",".join((row[0], f'"{row[1]}"', *row[2:])) for row in rows]
    (folder / "t.csv").write_text("\n".join(lines) + "\n", encoding=encoding)
    return {"root": str(folder / "t.csv"), "images": str(folder / "images")}


@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_rows_of_an_image_are_one_sample(tmp_path: Path, encoding: str) -> None:
    """As in GeoRSCLIP's evaluation: sorted unique names, captions in the order of the file."""
    where = write(tmp_path, encoding, [(*r[:1], r[1].strip("«»"), *r[2:]) for r in ROWS])
    dataset = build("caption_csv", **where, encoding=encoding)
    assert dataset.ids.tolist() == ["a.png", "b.png", "c.png"]
    assert [dataset[i]["text"] for i in range(3)] == [
        ("a field, brown", "champ» 田"),
        ("a lake", "the lake"),
        ("houses",),
    ]
    assert [int(dataset[i]["image"][0, 0, 0]) for i in range(3)] == [0, 1, 2]
    rows = dataset.evaluated()
    assert rows.ids.tolist() == ["a.png#0", "a.png#1", "b.png#0", "b.png#1", "c.png#0"]


def test_another_encoding_than_stated_is_an_error(tmp_path: Path) -> None:
    where = write(tmp_path, "gb18030")
    with pytest.raises(DataError, match=r"t.csv: is not a UTF-8 text file"):
        build("caption_csv", **where).ids  # noqa: B018
    with pytest.raises(ConfigError, match="encoding"):
        build("caption_csv", **where, encoding="latin1")


def test_columns_say_split_label_and_group(tmp_path: Path) -> None:
    where = write(tmp_path)
    about = {"split": "split", "label": "class", "group": "scene"}
    dataset = build("caption_csv", **where, **about)
    assert dataset.splits.tolist() == ["train", "test", "val"]
    assert (dataset.classes, dataset.labels.tolist()) == (("town", "water"), [-1, 1, 0])
    assert dataset.groups.tolist() == ["y", "x", "z"]
    everything = build("caption_csv", **where, split="test")
    assert everything.splits.tolist() == ["test"] * 3
    other = build("caption_csv", **where, image_column="filename", text_column="scene")
    assert other[0]["text"] == ("y", "y")
    assert len({d.fingerprint for d in (dataset, everything, other)}) == 3


def test_rows_of_an_image_have_to_agree(tmp_path: Path) -> None:
    rows = [*ROWS, ("b.png", "lake", "train", "water", "x")]
    where = write(tmp_path, rows=rows)
    assert len(build("caption_csv", **where)[1]["text"]) == 3
    with pytest.raises(DataError, match="rows 1 and 6 are of one image, but their split is 'test'"):
        build("caption_csv", **where, split="split").ids  # noqa: B018


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    where = write(tmp_path, rows=[*ROWS, ("d.png", "x", "dev", "", "w")])
    with pytest.raises(DataError, match=r"column 'caption' stands not at all .*data.text_column"):
        build("caption_csv", **where, text_column="caption").ids  # noqa: B018
    with pytest.raises(DataError, match="row 6: the split is 'dev'"):
        build("caption_csv", **where, split="split").ids  # noqa: B018
    with pytest.raises(DataError, match=r"d.png: no such file"):
        build("caption_csv", **where)[3]
    with pytest.raises(ConfigError, match=r"data.images=.*: there is no such folder"):
        build("caption_csv", root=where["root"], images=str(tmp_path / "absent"))
    with pytest.raises(DataError, match="there is no such file"):
        build("caption_csv", **{**where, "root": str(tmp_path / "no.csv")}).ids  # noqa: B018


def lines(path: Path, *records: object) -> str:
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return str(path)


def test_lines_of_json_are_texts_with_classes(tmp_path: Path) -> None:
    file = tmp_path / "textaug_valid_rsicd.jsonl"
    said = {"filename": "rsicd_images/airport_61.jpg", "captions": ["a", "b"]}
    unknown = {"filename": "rsicd_images/00123.jpg", "captions": ["c"]}
    lines(file, said, unknown)
    for root in (str(tmp_path), str(file)):
        dataset = build("rsicd_captions", root=root)
        assert dataset.ids.tolist() == ["airport_61.jpg", "00123.jpg"]
        assert (dataset.classes, dataset.labels.tolist()) == (("airport",), [0, -1])
        assert dataset[0] == {"text": ("a", "b")}
        assert [dataset.evaluated()[i]["text"] for i in range(3)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"filename": "a_1.jpg"}, "line 2: 'captions' is missing"),
        ({"filename": 3, "captions": []}, "line 2: 'filename' is missing or of the wrong kind"),
        ({"filename": "a_1.jpg", "captions": ["x", 3]}, "line 2, caption 1: 'caption' is missing"),
        ({"filename": "b_1.jpg", "captions": ["x"]}, "'b_1.jpg' stands more than once"),
        ([], "line 2: 'captions' is missing"),
    ],
)
def test_a_wrong_line_is_named(tmp_path: Path, record: object, says: str) -> None:
    path = lines(tmp_path / "t.jsonl", {"filename": "b_1.jpg", "captions": ["x"]}, record)
    with pytest.raises(DataError, match=says):
        build("rsicd_captions", root=path).ids  # noqa: B018
    (tmp_path / "t.jsonl").write_text('{"filename": "b_1.jpg"')
    with pytest.raises(DataError, match="line 1: is no JSON"):
        build("rsicd_captions", root=path).ids  # noqa: B018


@pytest.mark.skipif(not REAL.exists(), reason=f"needs {REAL}")
def test_the_real_captions_are_read() -> None:
    dataset = build("rsicd_captions", root=str(REAL))
    assert (len(dataset), len(dataset.classes)) == (1094, 30)
    assert int((dataset.labels < 0).sum()) == 67
    assert len(dataset.evaluated()) == 5 * 1094
    counts = Counter(dataset.splits.tolist())
    assert min(counts.values()) > 100
