"""The joint transformer over tokens of several modalities."""

import pytest
import torch

from shared.encoders.base import Embedding
from shared.encoders.joint_masked import JointMaskedTransformer
from shared.errors import ConfigError

SIZES = {"a": 3, "b": 4}


def make() -> tuple[JointMaskedTransformer, dict[str, Embedding]]:
    torch.manual_seed(0)
    fusion = JointMaskedTransformer(dict.fromkeys(SIZES, 8), depth=2, num_heads=2).eval()
    tokens = {
        m: Embedding(torch.zeros(0), torch.randn(2, n, 8), torch.ones(2, n, dtype=torch.bool))
        for m, n in SIZES.items()
    }
    return fusion, tokens


def test_shapes_and_order() -> None:
    fusion, tokens = make()
    everything = fusion(tokens, {})
    assert everything.tokens is not None
    assert everything.tokens.shape == (2, 7, 8)
    assert everything.pooled.shape == (2, 8)
    order = torch.stack([torch.randperm(7), torch.randperm(7)])
    shuffled = fusion(tokens, {"ids_keep": order})
    torch.testing.assert_close(shuffled.pooled, everything.pooled)
    expected = everything.tokens.gather(1, order[..., None].expand(-1, -1, 8))
    torch.testing.assert_close(shuffled.tokens, expected)


def test_hidden_tokens_are_not_seen() -> None:
    fusion, tokens = make()
    ids = torch.tensor([[0, 4], [6, 1]])
    before = fusion(tokens, {"ids_keep": ids})
    seen = torch.zeros(2, 7, dtype=torch.bool).scatter(1, ids, True)
    for modality, visible in zip(SIZES, torch.split(seen, list(SIZES.values()), 1), strict=True):
        values, mask = tokens[modality].tokens, tokens[modality].mask
        changed = torch.where(visible[..., None], values, 9.0)
        tokens[modality] = Embedding(torch.zeros(0), changed, mask)
    torch.testing.assert_close(fusion(tokens, {"ids_keep": ids}), before)


def test_absent_tokens_are_not_looked_at() -> None:
    fusion, tokens = make()
    values, mask = tokens["b"].tokens, tokens["b"].mask
    assert values is not None
    assert mask is not None
    mask[1] = False
    before = fusion(tokens, {})
    tokens["b"] = Embedding(torch.zeros(0), values + torch.tensor([0.0, 5.0])[:, None, None], mask)
    after = fusion(tokens, {})
    torch.testing.assert_close(after.pooled, before.pooled)
    torch.testing.assert_close(after.tokens[:, :3], before.tokens[:, :3])
    assert torch.equal(after.mask, torch.tensor([[True] * 7, [True] * 3 + [False] * 4]))


def test_widths_have_to_agree() -> None:
    with pytest.raises(ConfigError, match="one width"):
        JointMaskedTransformer({"a": 8, "b": 12})
