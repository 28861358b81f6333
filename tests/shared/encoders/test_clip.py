"""The towers of CLIP: what they look at, what they refuse, reading of upstream's names."""

from typing import Any

import pytest
import torch
from torch import nn

from shared.encoders.checkpoints_clip import clip_keys, clip_settings
from shared.encoders.clip_blocks import quick_gelu
from shared.encoders.clip_text import CLIPText
from shared.encoders.clip_vision import CLIPVision
from shared.errors import ConfigError, DataError

SMALL: dict[str, Any] = {"dim": 16, "depth": 2, "num_heads": 2}


def vision(**settings: Any) -> CLIPVision:
    torch.manual_seed(0)
    return CLIPVision(8, 3, **({"patch_size": 4} | SMALL | settings))


def text(**settings: Any) -> CLIPText:
    torch.manual_seed(0)
    return CLIPText(20, 7, **(SMALL | settings))


def test_shapes_and_empty_batches() -> None:
    for rows in (0, 3):
        found = vision()({"values": torch.randn(rows, 3, 8, 8)})
        assert found.pooled.shape == (rows, 16)
        assert found.tokens.shape == (rows, 4, 16)
        assert found.mask is None
        found = text()({"input_ids": torch.randint(0, 20, (rows, 5))})
        assert found.pooled.shape == (rows, 16)
        assert found.tokens.shape == (rows, 5, 16)
        assert found.mask.shape == (rows, 5)


def test_empty_batches_give_zero_gradients() -> None:
    for encoder, inputs in (
        (vision(), {"values": torch.zeros(0, 3, 8, 8)}),
        (text(), {"input_ids": torch.zeros(0, 5, dtype=torch.int64)}),
    ):
        encoder(inputs).pooled.sum().backward()
        assert all(p.grad is not None and not p.grad.any() for p in encoder.parameters())


def test_a_text_ends_at_the_first_of_its_largest_ids() -> None:
    encoder = text().eval()
    ids = torch.tensor([[1, 5, 19, 0, 0, 0], [1, 5, 19, 19, 7, 3]])
    found = encoder({"input_ids": ids})
    torch.testing.assert_close(found.pooled[0], found.pooled[1])
    torch.testing.assert_close(found.pooled[0], found.tokens[0, 2])
    assert found.mask.tolist() == [[True] * 3 + [False] * 3] * 2
    short = encoder({"input_ids": ids[:1, :3]})
    torch.testing.assert_close(short.pooled, found.pooled[:1])


def test_text_looks_back_only() -> None:
    encoder = text()
    ids = torch.randint(0, 20, (2, 7))
    changed = ids.clone()
    changed[:, 4] = (ids[:, 4] + 1) % 20
    before, after = (encoder({"input_ids": x}).tokens for x in (ids, changed))
    torch.testing.assert_close(before[:, :4], after[:, :4])
    assert not torch.allclose(before[:, 4:], after[:, 4:])


@pytest.mark.parametrize("quick", [False, True])
def test_inference_equals_training(quick: bool) -> None:
    """torch has a path of its own for blocks without gradient."""
    inputs = {"values": torch.randn(3, 3, 8, 8)}, {"input_ids": torch.randint(0, 20, (3, 6))}
    for encoder, given in zip(
        (vision(quick_gelu=quick), text(quick_gelu=quick)), inputs, strict=True
    ):
        trained = encoder.train()(given).tokens
        with torch.inference_mode():
            found = encoder.eval()(given).tokens
        torch.testing.assert_close(found, trained, atol=1e-5, rtol=1e-4)


def test_quick_gelu_is_near_gelu_but_another_function() -> None:
    x = torch.linspace(-4, 4, 100)
    difference = (quick_gelu(x) - nn.functional.gelu(x)).abs().max()
    assert 0.01 < float(difference) < 0.03
    inputs = {"values": torch.randn(2, 3, 8, 8)}
    assert not torch.allclose(
        vision()(inputs).pooled, vision(quick_gelu=True)(inputs).pooled, atol=1e-5
    )


def test_refusals() -> None:
    with pytest.raises(DataError, match="12 × 8"):
        vision()({"values": torch.zeros(1, 3, 12, 8)})
    with pytest.raises(DataError, match="8 ids"):
        text()({"input_ids": torch.zeros(1, 8, dtype=torch.int64)})
    with pytest.raises(ConfigError, match="no multiple"):
        vision(patch_size=3)


def test_upstream_names_and_defaults() -> None:
    keys = clip_keys("picture", "caption")
    named = keys.convert(
        {
            "visual.proj": torch.zeros(16, 4),
            "text_projection": torch.zeros(8, 4),
            "visual.transformer.resblocks.3.mlp.c_fc.bias": torch.zeros(1),
            "transformer.resblocks.11.attn.in_proj_weight": torch.zeros(1),
            "logit_scale": torch.zeros(()),
            "context_length": torch.tensor(77),
        }
    )
    assert {name: tuple(tensor.shape) for name, tensor in named.items()} == {
        "heads.picture.weight": (4, 16),
        "heads.caption.weight": (4, 8),
        "encoders.picture.blocks.3.linear1.bias": (1,),
        "encoders.caption.blocks.11.self_attn.in_proj_weight": (1,),
        "scalars.logit_scale": (),
    }
    image, caption = clip_settings(
        {"vision_cfg": {"width": 1280, "head_width": 80, "patch_size": 14}, "text_cfg": {}}
    )
    assert image["num_heads"] == 16
    assert caption["context_length"] == 77
