"""Tokenizers of images and class maps."""

import pytest
import torch
from torch import Tensor

from shared.encoders.patch_tokens import (
    LabelPatchTokens,
    PatchTokens,
    position_table,
    standardise_robustly,
)
from shared.errors import ConfigError, DataError


def test_a_token_depends_on_its_patch_and_place_alone() -> None:
    encoder = PatchTokens(8, 3, patch_size=4, dim=8)
    images = torch.randn(2, 3, 8, 8)
    output = encoder({"values": images})
    assert output.tokens is not None
    weight = encoder.proj.weight.flatten(1)
    # patch 2 is in row 1, column 0
    projected = images[:, :, 4:, :4].flatten(1) @ weight.T + encoder.proj.bias
    torch.testing.assert_close(output.tokens[:, 2], projected + encoder.pos_emb[0, :, 1, 0])
    torch.testing.assert_close(output.pooled, output.tokens.mean(1))


def test_positions_tell_rows_in_the_first_half_and_columns_in_the_second() -> None:
    table = position_table(8, 3)[0]
    rows, columns = torch.arange(3.0)[:, None].expand(3, 3), torch.arange(3.0).expand(3, 3)
    for half, coordinate in ((table[:4], rows), (table[4:], columns)):
        slow = coordinate / 100  # 10000 ** (1 / 2)
        expected = [coordinate.sin(), slow.sin(), coordinate.cos(), slow.cos()]
        torch.testing.assert_close(half, torch.stack(expected))


@pytest.mark.parametrize("kind", ["image", "classes"])
def test_other_sizes(kind: str) -> None:
    encoder: PatchTokens | LabelPatchTokens
    if kind == "image":
        encoder, values = PatchTokens(8, 1, patch_size=4, dim=8), torch.randn(2, 1, 16, 12)
    else:
        encoder = LabelPatchTokens(8, 5, patch_size=4, dim=8, class_dim=3)
        values = torch.randint(5, (2, 16, 12))

    def tokens(inputs: Tensor) -> Tensor:
        found = encoder({"values": inputs}).tokens
        assert found is not None
        return found

    assert tokens(values).shape == (2, 12, 8)
    assert tokens(values[:0]).shape == (0, 12, 8)
    with pytest.raises(DataError, match="15 × 12 cannot be cut into patches of 4"):
        tokens(values[..., :15, :])
    with pytest.raises(ConfigError, match="multiple of patch_size"):
        PatchTokens(10, 1, patch_size=4, dim=8)


def test_a_class_is_its_embedding() -> None:
    encoder = LabelPatchTokens(4, 3, patch_size=2, dim=8, class_dim=5)
    uniform = encoder({"values": torch.full((1, 4, 4), 2)}).tokens
    assert uniform is not None
    weight = encoder.proj.weight.sum((2, 3))
    expected = weight @ encoder.class_emb.weight[2] + encoder.proj.bias
    torch.testing.assert_close(uniform[0] - encoder.pos_emb[0].flatten(1).T, expected.expand(4, 8))


def test_robust_standardisation_does_not_see_outliers() -> None:
    values = torch.randn(2, 1, 10, 10)
    found = standardise_robustly(values)
    changed = values.clone()
    changed.view(2, -1).scatter_(1, values.view(2, -1).argmax(1, keepdim=True), 1e6)
    other = standardise_robustly(changed)
    ordinary = other < 1e3
    assert int((~ordinary).sum()) == 2
    torch.testing.assert_close(found[ordinary], other[ordinary])
    torch.testing.assert_close(standardise_robustly(5 * values + 3), found, atol=1e-4, rtol=1e-4)
    middle = found.flatten(1).sort(1).values[:, 10:90]
    torch.testing.assert_close(middle.mean(1), torch.zeros(2), atol=1e-5, rtol=0)
    torch.testing.assert_close(middle.var(1), torch.ones(2), atol=1e-4, rtol=0)
    assert not standardise_robustly(torch.full((1, 1, 4, 4), 7.0)).any()


def test_a_tokenizer_that_standardises_does_so_for_its_target_too() -> None:
    encoder = PatchTokens(8, 1, patch_size=4, dim=8, standardise=True)
    values = torch.randn(2, 1, 8, 8)
    torch.testing.assert_close(encoder.target(values), standardise_robustly(values))
    first, second = (encoder({"values": x}).pooled for x in (values, 3 * values + 1))
    torch.testing.assert_close(first, second, atol=1e-4, rtol=1e-4)
