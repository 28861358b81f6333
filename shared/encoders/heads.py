"""Heads: from what an encoder gives to the space that modalities share."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from shared.errors import ConfigError, suggest
from shared.settings import check_settings

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": torch.relu,
    "gelu": nn.functional.gelu,
}


class LinearHead(nn.Linear):
    """One affine map.

    Args:
        in_dim: Width of the input.
        out_dim: Width of the output.
        bias: Whether to add a learned constant.
    """

    def __init__(self, in_dim: int, out_dim: int, bias: bool = True) -> None:
        super().__init__(in_dim, out_dim, bias)


class MLPHead(nn.Module):
    """Linear, activation, linear.

    Args:
        in_dim: Width of the input.
        out_dim: Width of the output.
        hidden_dim: Width between; None: that of the input.
        bias: Whether the two linear maps add learned constants.
        activation: `relu`, or `gelu` by the error function.

    Raises:
        ConfigError: `hidden_dim` is below 1, or there is no such activation.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        hidden_dim: int | None = None,
        bias: bool = True,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        if hidden_dim is None:
            hidden_dim = in_dim
        if hidden_dim < 1:
            raise ConfigError(
                f"hidden_dim={hidden_dim} has to be at least 1, or null for the width of the input."
            )
        if activation not in _ACTIVATIONS:
            raise ConfigError(f"activation={activation!r}. {suggest(activation, _ACTIVATIONS)}")
        self.activation = _ACTIVATIONS[activation]
        widths = ((in_dim, hidden_dim), (hidden_dim, out_dim))
        self.layers = nn.ModuleList([nn.Linear(a, b, bias) for a, b in widths])

    def forward(self, x: Tensor) -> Tensor:
        """(…, in_dim) → (…, out_dim)."""
        first, second = self.layers
        out: Tensor = second(self.activation(first(x)))
        return out


HEADS: dict[str, type[nn.Module]] = {"linear": LinearHead, "mlp": MLPHead}


def build_head(node: Mapping[str, Any], in_dim: int, out_dim: int, where: str) -> nn.Module:
    """A head from its config node: `name` and settings.

    Raises:
        ConfigError: An unknown name or setting, or a value out of range.
    """
    name = str(node.get("name"))
    if name not in HEADS:
        raise ConfigError(f"{where}: name={name!r}. {suggest(name, HEADS)}")
    settings = {key: value for key, value in node.items() if key != "name"}
    check_settings(HEADS[name], (in_dim, out_dim), settings, where)
    try:
        return HEADS[name](in_dim, out_dim, **settings)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


class Classifier(nn.Linear):
    """One linear map from the features of the modalities to logits.

    Args:
        dims: Width of each modality's features.
        num_classes: Number of classes.
        fusion: `mean` over the modalities that a sample has, or `concat`, zero for those it lacks.
    """

    def __init__(self, dims: Mapping[str, int], num_classes: int, fusion: str) -> None:
        if fusion == "mean" and len(set(dims.values())) > 1:
            raise ConfigError(
                f"model.classifier: fusion=mean needs features of one width, not {dict(dims)}; "
                "choose features=projected or fusion=concat."
            )
        super().__init__(
            sum(dims.values()) if fusion == "concat" else next(iter(dims.values())), num_classes
        )
        self.fusion = fusion

    def join(self, features: Mapping[str, Tensor], present: Mapping[str, Tensor]) -> Tensor:
        """Features of all modalities as one row a sample.

        Args:
            features: By modality, (batch, dim), zero where absent.
            present: By modality, (batch,) bool.
        """
        if self.fusion == "concat":
            return torch.cat(list(features.values()), dim=1)
        number = torch.stack([present[m] for m in features]).sum(dim=0).clamp(min=1)
        return torch.stack(list(features.values())).sum(dim=0) / number[:, None]
