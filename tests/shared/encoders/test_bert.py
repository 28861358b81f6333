"""BERT as an encoder: padding, read-outs, empty batches, what reaches the model of transformers."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from shared.encoders.bert import BertText, mean_over
from shared.errors import DataError, DependencyError

CLS, SEP = 2, 3


def make(**settings: Any) -> BertText:
    torch.manual_seed(0)
    sizes = {"vocab_size": 20, "dim": 8, "depth": 2, "num_heads": 2, "ffn_dim": 16}
    return BertText(**{**sizes, "max_positions": 12, **settings}).eval()


def inputs_of(ids: list[list[int]]) -> dict[str, Tensor]:
    tensor = torch.tensor(ids)
    return {"input_ids": tensor, "attention_mask": tensor != 0}


def test_what_stands_in_padded_places_does_not_matter() -> None:
    encoder = make(special_ids=[CLS, SEP])
    short = encoder(inputs_of([[CLS, 5, 6, SEP]]))
    padded = encoder(inputs_of([[CLS, 5, 6, SEP, 0, 0], [CLS, 7, 8, 9, 10, SEP]]))
    torch.testing.assert_close(padded.pooled[:1], short.pooled)
    torch.testing.assert_close(padded.tokens[:1, :4], short.tokens)
    inside = inputs_of([[CLS, 5, 0, 7, SEP]])
    other = {**inside, "input_ids": inside["input_ids"].masked_fill(~inside["attention_mask"], 9)}
    torch.testing.assert_close(encoder(other).pooled, encoder(inside).pooled)


def test_readouts() -> None:
    inputs = inputs_of([[CLS, 5, 6, SEP, 0], [CLS, SEP, 0, 0, 0]])
    found = make(special_ids=[CLS, SEP])(inputs)
    torch.testing.assert_close(found.pooled[0], found.tokens[0, 1:3].mean(dim=0))
    assert not found.pooled[1].any()
    torch.testing.assert_close(make()(inputs).pooled[1], found.tokens[1, :2].mean(dim=0))
    assert torch.equal(make(readout="cls")(inputs).pooled, found.tokens[:, 0])
    assert torch.equal(found.mask, inputs["attention_mask"])


def test_mean_over_is_the_plain_mean() -> None:
    tokens, counts = torch.randn(3, 4, 2).double(), torch.ones(3, 4).bool()
    torch.testing.assert_close(mean_over(tokens, counts), tokens.mean(dim=1))


def test_an_empty_batch_has_gradients_of_zero() -> None:
    encoder = make()
    found = encoder({"input_ids": torch.ones(0, 4).long(), "attention_mask": torch.ones(0, 4) > 0})
    assert found.pooled.shape == (0, 8)
    assert found.tokens.shape == (0, 4, 8)
    (found.pooled.sum() + found.tokens.sum()).backward()
    assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())


def test_settings_reach_every_layer() -> None:
    encoder = make(layer_norm_eps=1e-3, dropout=0.25)
    assert {m.eps for m in encoder.modules() if isinstance(m, nn.LayerNorm)} == {1e-3}
    assert {m.p for m in encoder.modules() if isinstance(m, nn.Dropout)} == {0.25}
    assert encoder.bert.pooler is None
    assert encoder.bert.config.hidden_act == "gelu"
    assert not any("special" in name for name in encoder.state_dict())


def test_a_text_beyond_the_table_of_positions_is_an_error() -> None:
    with pytest.raises(DataError, match="13 tokens long and the encoder takes 12"):
        make()(inputs_of([[CLS] * 13]))


def test_without_transformers_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DependencyError, match=r"domain-zoo\[text\]"):
        make()
