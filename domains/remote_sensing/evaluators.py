"""How embeddings of scenes and captions are judged: prompts, protocols and their settings."""

import json
from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files

import numpy as np
from numpy.typing import NDArray

from domains.remote_sensing.thumbnails import draw_image, draw_text
from shared.data.image_files import IMAGE
from shared.evaluation.embeddings.simple_features import image_statistics, word_counts
from shared.evaluation.evaluator import STANDARD, Evaluator
from shared.schema import Array

_PROMPTS = files("domains.remote_sensing") / "prompts"
PUBLISHED, READABLE = "published", "readable"


def templates() -> tuple[str, ...]:
    """The 105 templates of GeoRSCLIP's zero-shot classification, the same for every set."""
    return tuple((_PROMPTS / "templates.txt").read_text(encoding="utf-8").splitlines())


def class_names(dataset: str, words: str) -> Mapping[str, str]:
    """Class → what stands for it in a prompt.

    Args:
        dataset: A file of `prompts/`.
        words: `published`: as in GeoRSCLIP's evaluation (its repository, zero-shot script): the
            name of the folder, `_` and `/` as spaces, in lower case, so that EuroSAT's are
            "annualcrop" and "sealake". `readable`: in words.
    """
    names: dict[str, str] = json.loads((_PROMPTS / f"{dataset}.json").read_text("utf-8"))[words]
    return names


def colour_histograms(images: list[Array]) -> NDArray[np.float64]:
    """(n, 80) colours and edges of RGB images (`image_statistics`), for
    `zoo eval model=python:domains.remote_sensing.evaluators:colour_histograms`: what simple
    features reach, as a run of its own that others can be compared with."""
    return np.stack([image_statistics(IMAGE, image) for image in images])


def _protocols() -> tuple[str, ...]:
    after = {"zero_shot": ("class_retrieval",), "retrieval": ("mean_recall",)}
    return tuple(name for first in STANDARD for name in (first, *after.get(first, ())))


REMOTE_SENSING = Evaluator(
    protocols=_protocols(),
    simple_features={"image": image_statistics},
    thumbnails={"image": draw_image, "text": draw_text},
    templates=templates(),
    # GeoRSCLIP's: raw text features are averaged
    settings={
        "zero_shot": {"order": "average_first"},
        "class_retrieval": {"order": "average_first"},
    },
)
CAPTIONS = replace(REMOTE_SENSING, simple_features={"text": word_counts})
EUROSAT = replace(REMOTE_SENSING, class_names=class_names("eurosat", PUBLISHED))
EUROSAT_READABLE = replace(REMOTE_SENSING, class_names=class_names("eurosat", READABLE))
RESISC45 = replace(REMOTE_SENSING, class_names=class_names("resisc45", PUBLISHED))
AID = replace(REMOTE_SENSING, class_names=class_names("aid", PUBLISHED))
AID_READABLE = replace(REMOTE_SENSING, class_names=class_names("aid", READABLE))
RSSCN7 = replace(REMOTE_SENSING, class_names=class_names("rsscn7", READABLE))
