"""XLM-RoBERTa's ids, by a vocabulary that is learned here."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from open_clip.tokenizer import HFTokenizer

from shared.data.captions import CAPTIONS
from shared.data.generic import TEXT
from shared.errors import ConfigError
from shared.preprocessors.sentencepiece_tokens import SentencePieceTokens

CAPTIONS_OF_MANY = (
    "A river beside green fields.",
    "Um rio ao lado da floresta.",
    "Un aeropuerto con dos aviones.",
    "Une forêt près de la mer.",
    "Ein Flughafen neben Feldern.",
    "Een vliegveld naast de rivier.",
    "Un aeroporto vicino al fiume.",
    "机场旁边有一条河流。",
    "강 옆에 공항이 있다.",
    "Аэропорт рядом с рекой.",
)
ODD = ("", "  two   spaces\n", "&amp;amp; &lt;b&gt;", "ﬁeld Ｗide", "cafÃ©", "🛰 ∮ 🛰🛰", "x" * 400)


@pytest.fixture(scope="module")
def learned() -> SentencePieceTokens:
    tokens = SentencePieceTokens(CAPTIONS, vocab_size=200)
    tokens.fit([CAPTIONS_OF_MANY, *CAPTIONS_OF_MANY])
    return tokens


@pytest.fixture(scope="module")
def file(learned: SentencePieceTokens, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("xlmr") / "sentencepiece.bpe.model"
    path.write_bytes(learned.processor.serialized_model_proto())
    return path


def test_ids_are_those_of_open_clip(file: Path) -> None:
    """Its tokenizer, from a folder as published ones are."""
    settings = {"tokenizer_class": "XLMRobertaTokenizer"}
    (file.parent / "tokenizer_config.json").write_text(json.dumps(settings))
    (file.parent / "config.json").write_text(json.dumps({"model_type": "xlm-roberta"}))
    theirs = HFTokenizer(str(file.parent))
    ours = SentencePieceTokens(TEXT, str(file), vocab_size=len(theirs.tokenizer))
    for text in (*CAPTIONS_OF_MANY, " ".join(CAPTIONS_OF_MANY * 3), *ODD):
        assert ours(text)["input_ids"].tolist() == theirs(text).tolist(), text


def test_frame(learned: SentencePieceTokens) -> None:
    ids = learned("a river")["input_ids"][0]
    end = int((ids == 2).argmax())
    assert ids[0] == 0
    assert (ids[1:end] > 2).all()
    assert (ids[end + 1 :] == 1).all()
    full = learned("river " * 200)["input_ids"][0]
    assert (full[0], full[-1], len(full)) == (0, 2, 77)
    # what stands for the end of a text is text in the middle of one
    assert 2 not in learned("</s> a")["input_ids"][0, 1:3]


def test_several_captions(learned: SentencePieceTokens) -> None:
    prepared = learned(CAPTIONS_OF_MANY[:3])
    assert prepared["input_ids"].shape == (3, 77)
    assert np.array_equal(learned.crop(prepared, None)["input_ids"], prepared["input_ids"][0])
    drawn = {
        tuple(learned.crop(prepared, np.random.default_rng(seed))["input_ids"])
        for seed in range(20)
    }
    assert drawn == set(map(tuple, prepared["input_ids"]))
    assert learned.takes == TEXT


def test_the_vocabulary_goes_with_the_model(learned: SentencePieceTokens) -> None:
    again = SentencePieceTokens(learned.takes, **learned.settings)
    again.load_state(json.loads(json.dumps(learned.state())))
    for tokens in (again, pickle.loads(pickle.dumps(again))):
        for text in CAPTIONS_OF_MANY:
            assert np.array_equal(tokens(text)["input_ids"], learned(text)["input_ids"])
    assert again.state() == learned.state()
    # and is learned the same way every time
    other = SentencePieceTokens(TEXT, vocab_size=200)
    other.fit([*CAPTIONS_OF_MANY, *CAPTIONS_OF_MANY])
    assert other.state() == learned.state()


def test_what_was_saved_does_not_need_the_file(learned: SentencePieceTokens, file: Path) -> None:
    fitting = learned.ids
    for wrong in (fitting - 1, fitting + 1):
        with pytest.raises(ConfigError, match=rf"set preprocess\.vocab_size={fitting}"):
            SentencePieceTokens(TEXT, str(file), vocab_size=wrong)("a")
    read = SentencePieceTokens(TEXT, str(file), vocab_size=fitting)
    read.fit([])
    moved = SentencePieceTokens(TEXT, "/nowhere/sentencepiece.bpe.model", vocab_size=fitting)
    moved.load_state(read.state())
    assert moved("a river")["input_ids"].tolist() == read("a river")["input_ids"].tolist()


def test_broken_vocabularies(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="have no vocabulary"):
        SentencePieceTokens(TEXT)("a")
    assert SentencePieceTokens(TEXT).state() == {}
    with pytest.raises(ConfigError, match=r"preprocess\.vocabulary: .*nowhere"):
        SentencePieceTokens(TEXT, str(tmp_path / "nowhere")).fit([])
    for content in (b"", b"no vocabulary", b"\xff" * 1000):
        path = tmp_path / "sentencepiece.bpe.model"
        path.write_bytes(content)
        with pytest.raises(ConfigError, match="damaged, or not of SentencePiece"):
            SentencePieceTokens(TEXT, str(path)).fit([])
    with pytest.raises(ConfigError, match="context_length=2"):
        SentencePieceTokens(TEXT, context_length=2)
