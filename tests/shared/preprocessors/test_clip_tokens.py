"""Texts as the ids of CLIP's vocabulary."""

import numpy as np
import pytest

from shared.data.captions import CAPTIONS
from shared.data.generic import TEXT
from shared.errors import ConfigError
from shared.preprocessors.clip_tokens import CLIPTokens

START, END = 49406, 49407


def ids_of(tokens: CLIPTokens, text: str) -> list[int]:
    return tokens.crop(tokens(text), None)["input_ids"].tolist()


def test_ids() -> None:
    tokens = CLIPTokens(TEXT, context_length=6)
    assert ids_of(tokens, "hello world") == [START, 3306, 1002, END, 0, 0]
    assert ids_of(tokens, "") == [START, END, 0, 0, 0, 0]
    # entities, spaces and case are nothing
    assert ids_of(tokens, " Hello&nbsp;\n WORLD ") == ids_of(tokens, "hello world")
    long = ids_of(tokens, "hello " * 20)
    assert long == [START, 3306, 3306, 3306, 3306, END]
    assert tokens.sizes == {"context_length": 6}
    assert CLIPTokens(TEXT)("a")["input_ids"].shape == (1, 77)
    with pytest.raises(ConfigError, match="context_length=1"):
        CLIPTokens(TEXT, context_length=1)


def test_one_of_several_texts_is_drawn() -> None:
    tokens = CLIPTokens(CAPTIONS, context_length=8)
    assert tokens.takes == TEXT
    texts = ("a field", "a river", "a road")
    prepared = tokens(texts)
    assert prepared["input_ids"].shape == (3, 8)
    each = [ids_of(tokens, text) for text in texts]
    assert tokens.crop(prepared, None)["input_ids"].tolist() == each[0]
    drawn = [
        tokens.crop(prepared, np.random.default_rng(n))["input_ids"].tolist() for n in range(60)
    ]
    assert min(drawn.count(ids) for ids in each) > 8
    assert all(ids in each for ids in drawn)
    again = tokens.crop(prepared, np.random.default_rng(5))["input_ids"].tolist()
    assert again == drawn[5]
    assert tokens.crop(tokens("a field"), np.random.default_rng(0))["input_ids"].shape == (8,)
