"""Heads from their config nodes."""

from typing import Any

import pytest
import torch

from shared.encoders.heads import MLPHead, build_head
from shared.errors import ConfigError


@pytest.mark.parametrize(("hidden_dim", "width"), [(None, 4), (1, 1), (6, 6)])
def test_hidden_width(hidden_dim: int | None, width: int) -> None:
    head = MLPHead(4, 3, hidden_dim)
    assert head.layers[0].weight.shape == (width, 4)
    assert head(torch.zeros(2, 4)).shape == (2, 3)


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "mlp", "hidden_dim": 0}, "hidden_dim=0 has to be at least 1, or null"),
        ({"name": "mlp", "hidden_dim": -3}, "hidden_dim=-3 has to be at least 1, or null"),
        ({"name": "mlp", "hidden_dims": 3}, "has no setting 'hidden_dims'"),
        ({"name": "mpl"}, "name='mpl'"),
    ],
)
def test_mistakes_say_where(node: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"model.modalities.image.head.*{message}"):
        build_head(node, 4, 3, "model.modalities.image.head")


def test_as_open_clip_projects_texts() -> None:
    """Linear, GELU, linear, without constants."""
    head = MLPHead(4, 3, bias=False, activation="gelu")
    first, second = (layer.weight for layer in head.layers)
    x = torch.randn(2, 4)
    expected = torch.nn.functional.gelu(x @ first.T) @ second.T
    assert torch.allclose(head(x), expected, atol=1e-6)
    assert sum(1 for _ in head.parameters()) == 2
    with pytest.raises(ConfigError, match="Did you mean 'gelu'"):
        MLPHead(4, 3, activation="glu")
