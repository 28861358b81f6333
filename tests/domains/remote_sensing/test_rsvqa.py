"""RSVQA-LR: in its layout with made-up content, and twelve real images."""

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.errors import ConfigError, DataError
from zoo.plugins import plugins

REAL = Path(__file__).parents[3] / "../shared/data/remote_sensing/rsvqa_lr"
QUESTIONS = (
    ("rural_urban", "Is it a rural or an urban area", "rural"),
    ("presence", "Is a road present?", "yes"),
    ("count", "What is the number of roads?", "3"),
)

Tables = dict[str, list[dict[str, Any]]]


def build(**settings: Any) -> Dataset:
    return build_dataset({"name": "rsvqa", **settings}, plugins().registries)


def tables(image: int) -> Tables:
    """One split: an image with questions, and one that is not active."""
    questions, answers = [], []
    for number, (kind, question, answer) in enumerate(QUESTIONS, start=10 * image):
        linked = {"id": number, "img_id": image, "type": kind, "question": question}
        questions.append({**linked, "answers_ids": [number], "active": True})
        given = {"id": number, "question_id": number, "answer": answer}
        answers.append({**given, "active": True})
    ids = [question["id"] for question in questions]
    first = {"id": image, "sensor": "S2", "questions_ids": ids, "active": True}
    images = [first, {"id": image + 1, "active": False}]
    return {"images": images, "questions": questions, "answers": answers}


def write(root: Path, changed: Callable[[Tables], object] = lambda _: None) -> str:
    (root / "Images_LR").mkdir(exist_ok=True)
    for image, split in ((4, "train"), (6, "val"), (8, "test")):
        found = tables(image)
        changed(found)
        for kind, records in found.items():
            path = root / f"LR_split_{split}_{kind}.json"
            path.write_text(json.dumps({kind: records}))
        pixels = np.full((5, 5, 3), image, np.uint8)
        Image.fromarray(pixels).save(root / "Images_LR" / f"{image}.tif")
    return str(root)


def test_captions_are_questions_with_answers(tmp_path: Path) -> None:
    dataset = build(root=write(tmp_path))
    assert dataset.ids.tolist() == ["4.tif", "6.tif", "8.tif"]
    assert dataset.splits.tolist() == ["train", "val", "test"]
    assert (dataset.classes, dataset.labels.tolist()) == (("rural",), [0, 0, 0])
    raw = dataset[1]
    assert int(raw["image"].max()) == 6
    assert raw["text"] == tuple(f"{question} {answer}" for _, question, answer in QUESTIONS)
    assert len(dataset.evaluated()) == 9


def test_types_of_questions_are_chosen(tmp_path: Path) -> None:
    root = write(tmp_path)
    dataset = build(root=root, question_types=["count", "presence"])
    assert dataset[0]["text"] == ("Is a road present? yes", "What is the number of roads? 3")
    assert dataset.labels.tolist() == [0, 0, 0]
    with pytest.raises(ConfigError, match=r"question_types: 'counts'. Did you mean 'count'"):
        build(root=root, question_types=["counts"]).ids  # noqa: B018


def test_what_is_not_active_is_left_out(tmp_path: Path) -> None:
    def change(found: Tables) -> None:
        found["questions"][1]["active"] = False
        found["answers"][2]["active"] = False

    dataset = build(root=write(tmp_path, change))
    assert dataset[0]["text"] == ("Is it a rural or an urban area rural",)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda t: t["images"].append(t["images"][0]), r"images\[2\]: the id 4 stands more than"),
        (lambda t: t["images"][0].pop("id"), r"images\[0\]: 'id' is missing"),
        (lambda t: t["questions"][1].pop("active"), r"questions\[1\]: 'active' is missing"),
        (lambda t: t["questions"][1].pop("question"), "image 4: 'question' is missing"),
        (lambda t: t["answers"][1].pop("answer"), "image 4: 'answer' is missing"),
        (lambda t: t["images"][0].update(questions_ids="a"), "'questions_ids' is missing or of"),
        (lambda t: t["images"][0].update(questions_ids=[[]]), "'questions_ids' holds what is no"),
        (lambda t: t.update(answers=[3]), "'answers' is no list of objects"),
    ],
)
def test_a_wrong_file_is_named(
    tmp_path: Path, change: Callable[[Tables], object], says: str
) -> None:
    with pytest.raises(DataError, match=says) as caught:
        build(root=write(tmp_path, change)).ids  # noqa: B018
    assert "LR_split_train" in str(caught.value)


def test_missing_files_are_named(tmp_path: Path) -> None:
    root = write(tmp_path)
    (tmp_path / "LR_split_val_answers.json").unlink()
    with pytest.raises(DataError, match=r"has no LR_split_val_answers.json"):
        build(root=root).ids  # noqa: B018
    with pytest.raises(DataError, match="has no Images_LR"):
        build(root=str(tmp_path / "Images_LR"))


@pytest.mark.skipif(not REAL.exists(), reason=f"needs {REAL}")
def test_the_real_files_are_read() -> None:
    dataset = build(root=str(REAL))
    assert Counter(dataset.splits.tolist()) == {"train": 3, "val": 5, "test": 4}
    urban = dataset.ids[dataset.labels == dataset.classes.index("urban")]
    assert sorted(urban) == ["296.tif", "491.tif"]
    raw = dataset[0]
    assert (raw["image"].shape, raw["image"].dtype) == ((256, 256, 3), np.uint8)
    assert (raw["text"][0], len(raw["text"])) == ("Is it a rural or an urban area rural", 100)
    rows = dataset.evaluated()
    assert len(rows) == 1200
    presence = build(root=str(REAL), question_types=["presence"])
    assert sum(map(len, (presence[i]["text"] for i in range(12)))) == 356
