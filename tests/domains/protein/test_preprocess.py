"""Sequences and texts as ids: unknown residues, crops, packing, tokenizers."""

from pathlib import Path

import numpy as np
import pytest
import torch
import transformers

from domains.protein.preprocess import ProteinSequence, TextFields, pack_fields
from domains.protein.residues import RESIDUES
from shared.errors import ConfigError, WeightsError
from shared.schema import Schema

SEQUENCE, TEXT = (Schema(m, (), (), "str") for m in ("protein", "text"))


def test_residues_are_places_and_all_else_is_glycine() -> None:
    prepare = ProteinSequence(SEQUENCE)
    assert prepare(RESIDUES)["input_ids"].tolist() == list(range(20))
    assert not prepare("XBZUO*-.mé€")["input_ids"].any()
    assert prepare(" MW\n")["input_ids"].tolist() == [14, 19]


def test_crops() -> None:
    prepare = ProteinSequence(SEQUENCE, max_length=6, crop_length=4)
    prepared = prepare("GASPVTCILN")
    assert prepare.crop(prepared, None)["input_ids"].tolist() == [0, 1, 2, 3, 4, 5]
    rng = np.random.default_rng(0)
    starts = {int(prepare.crop(prepared, rng)["input_ids"][0]) for _ in range(200)}
    # the last residue is seen, too
    assert starts == set(range(7))
    crop = prepare.crop(prepared, rng)
    assert len(crop["input_ids"]) == len(crop["attention_mask"]) == 4
    short = prepare("GAS")
    assert prepare.crop(short, rng)["input_ids"].tolist() == [0, 1, 2]


def test_a_batch_of_sequences_is_padded() -> None:
    prepare = ProteinSequence(SEQUENCE)
    batch = prepare.collate([prepare("WW"), prepare("WWWW")])
    assert batch["attention_mask"].tolist() == [[True, True, False, False], [True] * 4]
    assert batch["input_ids"].dtype == torch.int64


def test_fields_begin_in_the_same_columns() -> None:
    samples = [[[5, 6], [7]], [[8], []], [[9]]]
    ids, mask = pack_fields(samples, cls_id=2, sep_id=3, pad_id=0)
    assert ids.tolist() == [[2, 5, 6, 3, 7], [2, 8, 0, 3, 0], [2, 9, 0, 3, 0]]
    assert np.array_equal(mask, ids != 0)
    assert pack_fields(samples, 2, 3, 0, max_length=3)[0].shape == (3, 3)
    # nobody has the second field: the separators of the first and third meet
    assert pack_fields([[[5], [], [6]]], 2, 3, 0)[0].tolist() == [[2, 5, 3, 3, 6]]


@pytest.fixture
def tokenizer(tmp_path: Path) -> Path:
    """A real tokenizer of ten words."""
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcde"]
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(words))
    made = transformers.BertTokenizer(str(vocabulary))
    made.save_pretrained(tmp_path / "tokenizer")
    return tmp_path / "tokenizer"


def test_text_fields(tokenizer: Path) -> None:
    prepare = TextFields(TEXT, str(tokenizer), max_field_length=3)
    prepared = [prepare("a b\tc d e a b"), prepare("e\t"), prepare("d")]
    batch = prepare.collate(prepared)
    assert batch["input_ids"].tolist() == [
        [2, 5, 6, 3, 7, 8, 9],
        [2, 9, 0, 3, 0, 0, 0],
        [2, 8, 0, 3, 0, 0, 0],
    ]
    assert torch.equal(batch["attention_mask"], batch["input_ids"] != 0)
    alone = prepare.collate(prepared[2:])
    assert alone["input_ids"].tolist() == [[2, 8]]


def test_mistakes(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="crop_length=0"):
        ProteinSequence(SEQUENCE, crop_length=0)
    with pytest.raises(ConfigError, match="max_length=0"):
        TextFields(TEXT, "", max_length=0)
    with pytest.raises(WeightsError, match="cannot load the tokenizer"):
        TextFields(TEXT, str(tmp_path))("a")
