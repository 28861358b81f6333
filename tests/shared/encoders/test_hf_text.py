"""The text tower of XLM-RoBERTa: whole files of published models, and the edges of a batch."""

import json
import os
from pathlib import Path

import pytest
import torch

from shared.encoders.hf_text import HFText
from shared.errors import ConfigError, DataError

REFERENCE = Path(os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "../shared/reference"))
PREFIX = "text.transformer."


def small(**settings: object) -> HFText:
    torch.manual_seed(0)
    sizes = {"vocab_size": 30, "dim": 24, "depth": 2, "num_heads": 3, "hidden_dim": 32}
    return HFText(**{**sizes, "max_positions": 10, **settings}).eval()  # type: ignore[arg-type]


def test_the_defaults_are_xlm_roberta_base() -> None:
    """Every name and shape of the full-size model, without its memory."""
    path = REFERENCE / "rs_m_clip/manifest.json"
    if not path.exists():
        pytest.skip(f"no recorded names: ZOO_REFERENCE or {path} is needed")
    manifest = json.loads(path.read_text())["manifests"]["xlm-roberta-base-ViT-B-32"]
    theirs = {n.removeprefix("text."): s for n, (s, _) in manifest.items() if n.startswith(PREFIX)}
    with torch.device("meta"):
        ours = HFText().trunk.state_dict()
    assert {name: list(tensor.shape) for name, tensor in ours.items()} == theirs


def test_padding_changes_nothing() -> None:
    tower, ids = small(), torch.tensor([[0, 5, 9, 2]])
    short = tower({"input_ids": ids})
    padded = torch.nn.functional.pad(ids, (0, 3), value=1)
    long = tower({"input_ids": torch.cat([padded, torch.full((1, 7), 7)])})
    assert torch.allclose(long.pooled[:1], short.pooled, atol=1e-6)
    assert torch.allclose(long.tokens[:1, :4], short.tokens, atol=1e-6)
    assert long.mask[0].tolist() == [True] * 4 + [False] * 3


def test_pooling() -> None:
    ids = torch.tensor([[0, 5, 9, 2, 1, 1]])
    for pooler, rows in (("mean", slice(0, 4)), ("cls", slice(0, 1))):
        made = small(pooler=pooler)({"input_ids": ids})
        assert torch.allclose(made.pooled, made.tokens[:, rows].mean(dim=1), atol=1e-6)


def test_an_empty_batch_reaches_every_parameter() -> None:
    tower = small()
    made = tower({"input_ids": torch.zeros(0, 6, dtype=torch.int64)})
    assert made.pooled.shape == (0, 24)
    assert made.tokens.shape == (0, 6, 24)
    (made.pooled.sum() + made.tokens.sum()).backward()
    for name, parameter in tower.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'mean'"):
        small(pooler="means")
    with pytest.raises(ConfigError, match="no multiple of num_heads=5"):
        small(num_heads=5)
    with pytest.raises(DataError, match="9 ids for an encoder of at most 8"):
        small()({"input_ids": torch.zeros(1, 9, dtype=torch.int64)})
