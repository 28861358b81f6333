"""The towers of CLIP: what they look at, what they refuse, reading of upstream's names."""

from typing import Any

import pytest
import torch

from shared.encoders.checkpoints_clip import (
    clip_keys,
    clip_settings,
    resize_grid,
    resize_length,
)
from shared.encoders.clip import CLIPText, CLIPVision
from shared.errors import ConfigError, DataError, WeightsError

SMALL: dict[str, Any] = {"dim": 16, "depth": 2, "num_heads": 2}


def vision(**settings: Any) -> CLIPVision:
    torch.manual_seed(0)
    return CLIPVision(8, 3, **({"patch_size": 4} | SMALL | settings))


def text(**settings: Any) -> CLIPText:
    torch.manual_seed(0)
    return CLIPText(**({"vocab_size": 20, "context_length": 7} | SMALL | settings))


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
    inputs = {"values": torch.randn(2, 3, 8, 8)}
    exact, quick = vision(), vision(quick_gelu=True)
    assert not torch.allclose(exact(inputs).pooled, quick(inputs).pooled, atol=1e-5)
    x = torch.linspace(-4, 4, 100)
    activation = quick.trunk.transformer.resblocks[0].mlp.gelu
    torch.testing.assert_close(activation(x), x * torch.sigmoid(1.702 * x))
    difference = exact.trunk.transformer.resblocks[0].mlp.gelu(x) - activation(x)
    assert 0.01 < float(difference.abs().max()) < 0.03


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
        "encoders.picture.trunk.transformer.resblocks.3.mlp.c_fc.bias": (1,),
        "encoders.caption.trunk.transformer.resblocks.11.attn.in_proj_weight": (1,),
        "scalars.logit_scale": (),
    }
    image, caption = clip_settings(
        {"vision_cfg": {"width": 1280, "head_width": 80, "patch_size": 14}, "text_cfg": {}}
    )
    assert image["num_heads"] == 16
    assert caption["context_length"] == 77


def test_keys_go_both_ways() -> None:
    keys = clip_keys("image", "text")
    theirs = {"visual.proj": torch.randn(16, 4), "ln_final.bias": torch.randn(8)}
    back = keys.inverse().convert(keys.convert(theirs))
    assert back.keys() == theirs.keys()
    assert all(torch.equal(back[name], theirs[name]) for name in theirs)


def test_fresh_weights_are_spread_as_upstream_starts() -> None:
    """GeoRSCLIP's specification, §2, Init; means of many draws."""
    dim, depth = 128, 2
    settings = {"dim": dim, "depth": depth, "num_heads": 2}
    image, caption = vision(**settings).trunk, text(**settings, vocab_size=500).trunk
    block = caption.transformer.resblocks[0]
    for weight, std in (
        (image.class_embedding, dim**-0.5),
        (image.positional_embedding, dim**-0.5),
        (image.transformer.resblocks[0].attn.in_proj_weight, (2 / (4 * dim)) ** 0.5),
        (caption.token_embedding.weight, 0.02),
        (caption.positional_embedding, 0.01),
        (block.attn.in_proj_weight, dim**-0.5),
        (block.attn.out_proj.weight, (dim * 2 * depth) ** -0.5),
        (block.mlp.c_proj.weight, (dim * 2 * depth) ** -0.5),
        (block.mlp.c_fc.weight, (2 * dim) ** -0.5),
    ):
        assert float(weight.detach().std()) == pytest.approx(std, rel=0.15)
    for trunk in (image, caption):
        assert not trunk.transformer.resblocks[0].attn.in_proj_bias.any()


@pytest.mark.parametrize("make", [vision, text])
def test_layers_are_numbered(make: Any) -> None:
    encoder = make()
    numbers = {name: encoder.layer_id(name) for name, _ in encoder.named_parameters()}
    assert {numbers[n] for n in numbers if "resblocks.1" in n} == {2}
    assert {n.split(".")[1] for n in numbers if numbers[n] == 3} <= {"ln_post", "ln_final"}
    assert numbers["trunk.positional_embedding"] == 0
    assert set(numbers.values()) == {0, 1, 2, 3}


def test_images_of_other_channels() -> None:
    encoder = CLIPVision(8, 13, **({"patch_size": 4} | SMALL))
    assert encoder({"values": torch.randn(2, 13, 8, 8)}).tokens.shape == (2, 4, 16)


def test_position_tables_of_other_sizes() -> None:
    table = torch.randn(1 + 16, 5)
    torch.testing.assert_close(resize_grid(table, 4), table)
    assert torch.equal(resize_grid(table, 7)[0], table[0])
    even = torch.ones(17, 5)
    torch.testing.assert_close(resize_grid(even, 6), torch.ones(37, 5))
    torch.testing.assert_close(resize_length(table, 17), table)
    with pytest.raises(WeightsError, match="no square"):
        resize_grid(torch.randn(16, 5), 4)
