"""Texts: TF-IDF of their words."""

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.real.sets import make_set
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

_FEWEST = 5


def tf_idf(texts: list[str], n_words: int | None = None) -> NDArray[np.float32]:
    """(n, words) rows of unit norm, of the most frequent words; the weights of words come from all
    the texts, without labels."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    vectorizer = TfidfVectorizer(max_features=n_words, sublinear_tf=True, dtype=np.float32)
    return np.asarray(vectorizer.fit_transform(texts).toarray())


def rsicd_captions(root: Path) -> EmbeddingSet:
    """Scene class from the five captions of an image; the class is the file name without its
    number, files named by a number alone and classes of fewer than 5 are left out."""
    path = root / "remote_sensing/rsicd_captions/textaug_valid_rsicd.jsonl"
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    found = [(row, re.fullmatch(r"(.+)_\d+", Path(row["filename"]).stem)) for row in rows]
    named = [(row, match[1]) for row, match in found if match]
    counts = Counter(label for _, label in named)
    kept = [(row, label) for row, label in named if counts[label] >= _FEWEST]
    return make_set(
        "rsicd_captions",
        [path],
        [Path(row["filename"]).stem for row, _ in kept],
        {"text": tf_idf([" ".join(row["captions"]) for row, _ in kept])},
        labels=[label for _, label in kept],
        content=["\n".join(row["captions"]) for row, _ in kept],
    )


def rsvqa_presence(root: Path) -> EmbeddingSet:
    """Yes or no to questions of the type `presence`, by their words alone and without the image:
    what a model has to beat. A group is an image; splits as published."""
    folder = root / "remote_sensing/rsvqa_lr"
    files, rows = [], []
    for split in ("train", "val", "test"):
        answers, images, questions = (
            folder / f"LR_split_{split}_{kind}.json" for kind in ("answers", "images", "questions")
        )
        files += [answers, images, questions]
        given = {a["id"]: a["answer"] for a in _active(answers, "answers")}
        there = {image["id"] for image in _active(images, "images")}
        rows += [
            (split, question, given[question["answers_ids"][0]])
            for question in _active(questions, "questions")
            if question["type"] == "presence" and question["img_id"] in there
        ]
    return make_set(
        "rsvqa_presence",
        files,
        [str(question["id"]) for _, question, _ in rows],
        {"question": tf_idf([question["question"] for _, question, _ in rows])},
        labels=[answer for *_, answer in rows],
        groups=[str(question["img_id"]) for _, question, _ in rows],
        splits=np.array([split for split, *_ in rows]),
    )


def _active(path: Path, key: str) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))[key]
    return [entry for entry in entries if entry["active"]]
