"""RSICD, RSITMD and UCM-Captions in their published layout, with made-up images and captions."""

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.errors import ConfigError, DataError
from shared.evaluation.embeddings.extract import extract
from shared.evaluation.hygiene.duplicates import find_duplicates
from shared.schema import Schema
from zoo.plugins import plugins

LAYOUTS = {
    "rsicd": ("dataset_rsicd.json", "RSICD_images", ".jpg"),
    "rsitmd": ("dataset_RSITMD.json", "images", ".tif"),
    "ucm_captions": ("dataset.json", "imgs", ".tif"),
}
STEMS = ("airport_1", "airport_2", "bareland_10", "beach_3", "00012", "beach_4")
SPLITS = ("train", "train", "train", "val", "test", "test")


def build(name: str, **settings: Any) -> Dataset:
    return build_dataset({"name": name, **settings}, plugins().registries)


def records(suffix: str, captions: int = 5, splits: tuple[str, ...] = SPLITS) -> list[dict]:
    entries, number = [], 0
    for image, (stem, split) in enumerate(zip(STEMS, splits, strict=True)):
        sentences = []
        for k in range(captions):
            raw = f"caption {k} of {stem} ."
            tokens = raw.split()[:-1]
            sentences.append({"tokens": tokens, "raw": raw, "imgid": image, "sentid": number})
            number += 1
        ids = [sentence["sentid"] for sentence in sentences]
        about = {"filename": f"{stem}{suffix}", "imgid": image, "split": split}
        entries.append({**about, "sentences": sentences, "sentids": ids})
    return entries


def write(root: Path, name: str, entries: list[dict] | None = None) -> Path:
    file, folder, suffix = LAYOUTS[name]
    (root / folder).mkdir(parents=True)
    for number, stem in enumerate(STEMS):
        pixels = np.full((8, 10, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(root / folder / f"{stem}{suffix}")
    entries = records(suffix) if entries is None else entries
    (root / file).write_text(json.dumps({"dataset": name, "images": entries}))
    return root


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_published_layout_is_read(tmp_path: Path, name: str) -> None:
    dataset = build(name, root=str(write(tmp_path, name)))
    suffix = LAYOUTS[name][2]
    assert dataset.ids.tolist() == [f"{stem}{suffix}" for stem in STEMS]
    assert dataset.splits.tolist() == list(SPLITS)
    assert dataset.classes == ("airport", "bareland", "beach")
    assert dataset.labels.tolist() == [0, 0, 1, 2, -1, 2]
    raw = dataset[3]
    assert (raw["image"].shape, raw["image"].dtype) == ((8, 10, 3), np.uint8)
    assert raw["text"] == tuple(f"caption {k} of beach_3 ." for k in range(5))
    rows = dataset.evaluated()
    assert len(rows) == 30
    assert (rows.ids[16], rows[16]["text"]) == (f"beach_3{suffix}#1", raw["text"][1])


def test_names_of_files_can_be_chosen(tmp_path: Path) -> None:
    root = write(tmp_path / "a", "rsicd")
    (root / "dataset_rsicd.json").rename(root / "mine.json")
    (root / "RSICD_images").rename(root / "pictures")
    with pytest.raises(DataError, match=r"has no dataset_rsicd.json or .* data.annotations=NAME"):
        build("rsicd", root=str(root))
    with pytest.raises(DataError, match=r"has no RSICD_images or images. .* data.images=NAME"):
        build("rsicd", root=str(root), annotations="mine.json")
    chosen = {"annotations": "mine.json", "images": "pictures", "scene_labels": False}
    dataset = build("rsicd", root=str(root), **chosen)
    assert (dataset.classes, set(dataset.labels)) == ((), {-1})
    assert len(dataset[0]["text"]) == 5
    with pytest.raises(DataError, match="there is no such folder"):
        build("rsicd", root=str(tmp_path / "absent"))


def test_restval_is_train_and_a_validation_split_is_made_where_there_is_none(
    tmp_path: Path,
) -> None:
    splits = ("restval", "restval", "train", "val", "test", "test")
    dataset = build("rsicd", root=str(write(tmp_path / "a", "rsicd", records(".jpg", 5, splits))))
    assert dataset.splits.tolist() == ["train", "train", "train", "val", "test", "test"]
    splits = ("train",) * 5 + ("test",)
    root = str(write(tmp_path / "b", "rsitmd", records(".tif", 5, splits)))
    made = build("rsitmd", root=root).splits
    assert made[5] == "test"
    assert set(made[:5]) == {"train", "val"}
    assert made.tolist() == build("rsitmd", root=root).splits.tolist()


def test_captions_of_other_languages_are_chosen(tmp_path: Path) -> None:
    root = write(tmp_path, "rsicd")
    entries = records(".jpg", captions=2)
    for entry in entries:
        for sentence in entry["sentences"]:
            sentence["raw"] = "legenda: " + sentence["raw"]
    beside = root / "dataset_rsicd_pt.json"
    beside.write_text(json.dumps({"images": entries}))
    english = build("rsicd", root=str(root))
    portuguese = build("rsicd", root=str(root), languages=["pt"])
    both = build("rsicd", root=str(root), languages=["en", "pt"])
    assert portuguese[0]["text"] == tuple(f"legenda: caption {k} of airport_1 ." for k in (0, 1))
    assert both[0]["text"] == english[0]["text"] + portuguese[0]["text"]
    assert len({d.fingerprint for d in (english, portuguese, both)}) == 3
    for wrong in ([], ["en", "en"]):
        with pytest.raises(ConfigError, match=r"data.languages"):
            build("rsicd", root=str(root), languages=wrong)
    with pytest.raises(DataError, match=r"there is no .*dataset_rsicd_de.json with"):
        build("rsicd", root=str(root), languages=["de"]).ids  # noqa: B018
    with pytest.raises(DataError, match="there is no"):
        build("rsicd", root=str(root), languages=["../de"]).ids  # noqa: B018
    beside.write_text(json.dumps({"images": [{**entries[0], "filename": "else.jpg"}]}))
    with pytest.raises(DataError, match=r"names 'else.jpg', which .*dataset_rsicd.json does not"):
        build("rsicd", root=str(root), languages=["pt"]).ids  # noqa: B018


def test_blank_captions_are_left_out_and_counted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    entries = records(".jpg")
    entries[0]["sentences"][1]["raw"] = " "
    for sentence in entries[1]["sentences"]:
        sentence["raw"] = ""
    root = write(tmp_path, "rsicd", entries)
    dataset = build("rsicd", root=str(root))
    assert len(dataset[0]["text"]) == 4
    assert "left out 6 blank captions of 30" in caplog.text
    with pytest.raises(DataError, match=r"sample 'airport_2.jpg' .* text is not"):
        dataset[1]
    rows = build("rsicd", root=str(root), on_error="skip").evaluated()
    assert len(rows) == 4 + 1 + 4 * 5
    assert set(rows[4]) == {"image"}


def test_a_broken_image_is_an_error_of_its_sample(tmp_path: Path) -> None:
    root = write(tmp_path, "rsicd")
    (root / "RSICD_images/airport_1.jpg").unlink()
    content = (root / "RSICD_images/beach_3.jpg").read_bytes()
    (root / "RSICD_images/beach_3.jpg").write_bytes(content[: len(content) // 2])
    dataset = build("rsicd", root=str(root))
    with pytest.raises(DataError, match=r"airport_1.jpg: no such file"):
        dataset[0]
    with pytest.raises(DataError, match=r"beach_3.jpg: is not a whole"):
        dataset[3]
    skipping = build("rsicd", root=str(root), on_error="skip")
    assert [set(skipping[i]) for i in (0, 1, 3)] == [{"text"}, {"image", "text"}, {"text"}]


def change(path: tuple[Any, ...], value: Any) -> Callable[[list[dict]], object]:
    def apply(entries: list[dict]) -> None:
        place: Any = entries
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return apply


@pytest.mark.parametrize(
    ("damage", "says"),
    [
        (lambda e: e.append(e[0]), "'airport_1.jpg' stands more than once"),
        (lambda e: e[2].pop("filename"), r"images\[2\]: 'filename' is missing"),
        (lambda e: e.append("text"), "'images' is no list of objects"),
        (lambda e: e[1].pop("split"), "'airport_2.jpg' has no split"),
        (change((1, "split"), "dev"), r"images\[1\]: split 'dev' is none of train"),
        (change((1, "split"), ["val"]), r"images\[1\]: 'split' is missing or of the wrong kind"),
        (change((1, "sentences"), "a"), r"images\[1\]: 'sentences' is missing or of the wrong"),
        (change((1, "sentences", 4), {}), r"images\[1\]: sentences\[4\]: 'raw' is missing"),
        (change((1, "sentences", 0, "raw"), 3), r"'raw' is missing or of the wrong kind \(3\)"),
        (change((1, "filename"), "a\ud800.jpg"), "'filename' is no valid text"),
        (change((1, "filename"), ""), r"the image 1 \(from 0\) has an empty name"),
    ],
)
def test_a_wrong_file_is_named_with_the_place(
    tmp_path: Path, damage: Callable[[list[dict]], object], says: str
) -> None:
    entries = records(".jpg")
    damage(entries)
    root = write(tmp_path, "rsicd", entries)
    with pytest.raises(DataError, match=says) as caught:
        build("rsicd", root=str(root))[1]
    assert "rsicd" in str(caught.value)


def test_files_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    entries = records(".jpg")
    entries[0]["filename"] = "../../secret.jpg"
    entries[1]["filename"] = "nul\0.jpg"
    root = write(tmp_path / "data", "rsicd", entries)
    Image.new("RGB", (4, 4)).save(tmp_path / "secret.jpg")
    shutil.copy(tmp_path / "secret.jpg", tmp_path / "other.jpg")
    (root / "RSICD_images/bareland_10.jpg").unlink()
    (root / "RSICD_images/bareland_10.jpg").symlink_to(tmp_path / "other.jpg")
    dataset = build("rsicd", root=str(root))
    assert dataset.fingerprint
    for row, says in ((0, "leads out of"), (1, "cannot be read"), (2, "leads out of")):
        with pytest.raises(DataError, match=says):
            dataset[row]


def test_no_json_is_an_error_with_the_file(tmp_path: Path) -> None:
    root = write(tmp_path, "rsicd")
    for content in ("", "[1, 2]", '{"images": 3}', "{" * 10):
        (root / "dataset_rsicd.json").write_text(content)
        with pytest.raises(DataError, match=r"dataset_rsicd\.json"):
            build("rsicd", root=str(root)).ids  # noqa: B018


class Means:
    """Mean and standard deviation of an image; length and first letter of a text."""

    name = revision = "means"

    def __init__(self) -> None:
        self.seen = 0

    def modalities(self, schemas: Mapping[str, Schema]) -> tuple[str, ...]:
        return tuple(schemas)

    def embed(self, modality: str, raws: Sequence[Any], schema: Schema) -> np.ndarray:
        if modality == "text":
            return np.array([[len(raw), ord(raw[0])] for raw in raws], np.float32)
        self.seen += len(raws)
        return np.array([[raw.mean(), raw.std()] for raw in raws], np.float32)


def test_an_image_in_two_splits_is_reported_whatever_its_captions_are(tmp_path: Path) -> None:
    root = write(tmp_path, "rsicd")
    rng = np.random.default_rng(0)
    for stem in STEMS:
        pixels = rng.integers(0, 255, (8, 10, 3), np.uint8)
        Image.fromarray(pixels).save(root / "RSICD_images" / f"{stem}.jpg")
    folder = root / "RSICD_images"
    shutil.copy(folder / "airport_1.jpg", folder / "beach_4.jpg")  # train → test
    embedder = Means()
    embeddings = extract(embedder, build("rsicd", root=str(root)).evaluated())
    found = find_duplicates(embeddings)
    pairs = {(d.kind, *(str(embeddings.groups[row]) for row in (d.first, d.second))) for d in found}
    assert pairs == {("content", "beach_4.jpg", "airport_1.jpg")}
    assert embedder.seen == len(STEMS)
