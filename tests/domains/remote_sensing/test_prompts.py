"""Class names and templates are those of GeoRSCLIP's evaluation."""

import hashlib
import re
from collections.abc import Mapping

import pytest

from domains.remote_sensing.evaluators import PUBLISHED, READABLE, class_names, templates
from shared.evaluation.embeddings.prompts import build_prompts

N_CLASSES = {"eurosat": 10, "aid": 30, "resisc45": 45}
DIGEST = "5d81961f1eed8ff0ee90778d056e695ba6fd396da877a4d7d8eb9d991a2916ff"
"""SHA-256 of upstream's 105 templates, joined by newlines."""


def test_templates_are_upstream_s() -> None:
    assert len(templates()) == 105
    assert hashlib.sha256("\n".join(templates()).encode()).hexdigest() == DIGEST


@pytest.mark.parametrize(("dataset", "n"), N_CLASSES.items())
def test_published_words_are_the_folder_s_name(dataset: str, n: int) -> None:
    names = class_names(dataset, PUBLISHED)
    assert len(names) == n
    for folder, words in names.items():
        assert words == re.sub("[_/]", " ", folder).lower()


def letters(names: Mapping[str, str]) -> list[str]:
    return [words.replace(" ", "") for words in names.values()]


@pytest.mark.parametrize("dataset", ["eurosat", "aid"])
def test_readable_words_are_the_same_letters_apart(dataset: str) -> None:
    readable, published = (class_names(dataset, words) for words in (READABLE, PUBLISHED))
    assert list(readable) == list(published)
    assert letters(readable) == letters(published)
    assert readable != published


@pytest.mark.parametrize("dataset", [*N_CLASSES, "rsscn7"])
def test_every_class_has_prompts_of_its_own(dataset: str) -> None:
    names = class_names(dataset, READABLE if dataset == "rsscn7" else PUBLISHED)
    prompts = build_prompts([*names], templates(), names)
    assert len({text for of_class in prompts for text in of_class}) == 105 * len(names)
