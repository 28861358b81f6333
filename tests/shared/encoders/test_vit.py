"""The vision transformer: positions, masks, subsets of patches, layers."""

from typing import Any

import pytest
import torch

from shared.encoders.vit import VisionTransformer
from shared.errors import ConfigError, DataError


def make(**settings: Any) -> VisionTransformer:
    torch.manual_seed(0)
    defaults: dict[str, Any] = {"patch_size": 8, "dim": 16, "depth": 3, "num_heads": 2}
    return VisionTransformer(32, 4, **(defaults | {"mask_token": True} | settings)).eval()


@pytest.mark.parametrize("positions", ["learned", "sincos"])
def test_the_native_size_takes_the_table_as_it_is(positions: str) -> None:
    encoder = make(positions=positions)
    assert torch.equal(encoder.positions(4, 4), encoder.pos_embed)
    assert encoder.positions(2, 8).shape == (1, 17, 16)


@pytest.mark.parametrize(("offset", "antialias"), [(0.1, False), (0.0, True), (0.0, False)])
def test_a_constant_table_stays_constant_at_any_size(offset: float, antialias: bool) -> None:
    encoder = make(interpolate_offset=offset, interpolate_antialias=antialias)
    torch.nn.init.constant_(encoder.pos_embed, 3.0)
    for grid in ((7, 7), (2, 5), (1, 3)):
        found = encoder.positions(*grid)
        torch.testing.assert_close(found, torch.full((1, 1 + grid[0] * grid[1], 16), 3.0))


def test_masked_patches_do_not_depend_on_their_pixels() -> None:
    encoder = make()
    images, mask = torch.randn(2, 4, 32, 32), torch.zeros(2, 16, dtype=torch.bool)
    mask[:, 5] = True
    changed = images.clone()
    changed[:, :, 8:16, 8:16] = 7.0  # patch 5 is row 1, column 1
    before, after = (encoder({"values": x, "token_mask": mask}) for x in (images, changed))
    torch.testing.assert_close(before.pooled, after.pooled)
    assert not torch.allclose(encoder({"values": changed}).pooled, after.pooled)


def test_patches_that_are_kept_carry_their_positions() -> None:
    encoder = make(num_registers=2)
    images = torch.randn(2, 4, 32, 32)
    order = torch.stack([torch.randperm(16) for _ in range(2)])
    everything, shuffled = (
        encoder({"values": images}),
        encoder({"values": images, "ids_keep": order}),
    )
    torch.testing.assert_close(everything.pooled, shuffled.pooled)
    inverse = order.argsort(1)[..., None].expand(-1, -1, 16)
    torch.testing.assert_close(everything.tokens, shuffled.tokens.gather(1, inverse))
    assert encoder({"values": images, "ids_keep": order[:, :3]}).tokens.shape == (2, 3, 16)


def test_layers() -> None:
    encoder, images = make(num_registers=2), torch.randn(2, 4, 32, 32)
    output = encoder({"values": images})
    (last,) = encoder.intermediate_layers(images)
    torch.testing.assert_close(last[0], output.pooled)
    torch.testing.assert_close(last[1], output.tokens)
    assert len(encoder.intermediate_layers(images, [0, 2], norm=False)) == 2
    with pytest.raises(ConfigError, match="3 blocks"):
        encoder.intermediate_layers(images, [3])


def test_layer_numbers() -> None:
    encoder = make(num_registers=1)
    numbers = {name: encoder.layer_id(name) for name, _ in encoder.named_parameters()}
    assert {name for name, n in numbers.items() if n == 0} == {
        "cls_token",
        "register_tokens",
        "mask_token",
        "pos_embed",
        "patch_embed.proj.weight",
        "patch_embed.proj.bias",
    }
    assert numbers["blocks.2.mlp.fc1.bias"] == 3
    assert numbers["norm.weight"] == encoder.depth + 1


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(DataError, match="33 × 32 cannot be cut into patches of 8"):
        make()({"values": torch.zeros(1, 4, 33, 32)})
    with pytest.raises(ConfigError, match="mask_token=true"):
        make(mask_token=False)(
            {"values": torch.zeros(1, 4, 32, 32), "token_mask": torch.zeros(1, 16).bool()}
        )
    with pytest.raises(ConfigError, match="image_size=32 is no multiple of patch_size=7"):
        make(patch_size=7)


def test_no_rows() -> None:
    encoder = make(drop_path=0.3, num_registers=1).train()
    inputs = {"values": torch.zeros(0, 4, 32, 32), "token_mask": torch.zeros(0, 16).bool()}
    output = encoder(inputs)
    (output.pooled.sum() + output.tokens.sum()).backward()
    assert output.tokens.shape == (0, 16, 16)
    assert all(p.grad is not None for p in encoder.parameters())


def test_fixed_positions_are_saved_but_not_trained() -> None:
    encoder = make(positions="sincos", init="xavier", layer_scale=None)
    assert "pos_embed" in encoder.state_dict()
    assert "pos_embed" not in dict(encoder.named_parameters())
    assert not encoder.pos_embed[:, 0].any()
