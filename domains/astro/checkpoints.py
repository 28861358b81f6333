"""Upstream checkpoints of AstroM3 (arXiv:2411.08842): their configs and names in our terms."""

from collections.abc import Mapping
from typing import Any

from shared.weights import KeyMap

GALSPECNET = KeyMap((("layers.*", "encoder.layers.*"), ("fc.*", "head.*")))
METADATA_MLP = KeyMap((("model.*", "encoder.model.*"), ("fc.*", "head.*")))


def galspecnet_settings(config: Mapping[str, Any], input_length: int) -> dict[str, Any]:
    """Upstream's constructor arguments of GalSpecNet → settings of the encoder `galspecnet`."""
    in_channels, *conv_channels = config["conv_channels"]
    return {
        "in_channels": in_channels,
        "input_length": input_length,
        "conv_channels": conv_channels,
        "kernel_size": config["kernel_size"],
        "mp_kernel_size": config["mp_kernel_size"],
        "dropout": config["dropout_rate"],
    }


def metadata_mlp_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's constructor arguments of MetaModel → settings of the encoder `metadata_mlp`."""
    return {
        "in_channels": config["input_dim"],
        "hidden_dim": config["hidden_dim"],
        "dropout": config["dropout"],
    }
