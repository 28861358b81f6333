"""Images: colour histograms with gradient energies, and small grey pictures."""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from benchmarks.real.sets import make_set
from shared.data.image_files import IMAGE
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.embeddings.simple_features import image_statistics

GREY_SIZE = 16


def rsscn7(root: Path) -> EmbeddingSet:
    """Aerial scenes in seven classes (Zou et al. 2015); subgroup: the four scales, a hundred file
    numbers each."""
    folder = root / "remote_sensing/rsscn7"
    paths = sorted(folder.glob("*/*.jpg"))
    numbers = [int(path.stem[1:]) for path in paths]
    return make_set(
        "rsscn7",
        paths,
        [path.stem for path in paths],
        {"image": np.stack([_statistics(path) for path in paths])},
        standardised=("image",),
        labels=[path.parent.name[1:] for path in paths],  # the first letter is no part of it
        subgroups={"scale": [f"scale {(number - 1) // 100 + 1}" for number in numbers]},
    )


def covid_chestxray(root: Path) -> EmbeddingSet:
    """COVID-19 against all other findings (Cohen et al. 2020): 16 x 16 grey pixels. A group is a
    patient; subgroup: the view."""
    folder = root / "medical/covid_chestxray"
    with (folder / "metadata.csv").open(newline="", encoding="utf-8") as file:
        rows = [*csv.DictReader(file)]
    paths = [folder / "images" / row["filename"] for row in rows]
    return make_set(
        "covid_chestxray",
        [folder / "metadata.csv", *paths],
        [row["filename"] for row in rows],
        {"image": np.stack([_small_grey(path) for path in paths])},
        labels=["COVID-19" if "COVID-19" in row["finding"] else "other" for row in rows],
        groups=[row["patientid"] for row in rows],
        subgroups={"view": [row["view"] for row in rows]},
    )


def _statistics(path: Path) -> NDArray[np.float64]:
    with Image.open(path) as image:
        return image_statistics(IMAGE, np.asarray(image.convert("RGB")))


def _small_grey(path: Path) -> NDArray[np.float64]:
    """(256,) of grey, colour and transparent files alike; transparency is dropped."""
    with Image.open(path) as image:
        grey = (
            image.convert("RGB").convert("L").resize((GREY_SIZE, GREY_SIZE), Image.Resampling.BOX)
        )
    return np.asarray(grey, np.float64).ravel() / 255
