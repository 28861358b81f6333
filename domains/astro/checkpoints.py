"""Upstream checkpoints of AstroM3 (arXiv:2411.08842): their configs and names in our terms."""

import math
from collections.abc import Mapping
from typing import Any

from shared.encoders.base import Encoder
from shared.model import Model
from shared.model_config import ClassifierConfig, ModalityConfig, ModelConfig
from shared.registry import Registries
from shared.weights import KeyMap

SPECTRUM_LENGTH = 2575
"""Points of the published wavelength grid, 3850 to 8998 Angstrom by 2 (`spectrum`'s default)."""

_RULES = {
    "photometry": (
        ("enc_embedding.value_embedding.tokenConv.*", "value_embedding.*"),
        ("enc_embedding.position_embedding.pe", "positions"),
        ("encoder.attn_layers.*.attention.*_projection.*", "layers.*.attention.*.*"),
        ("encoder.attn_layers.*", "layers.*"),
        ("encoder.norm.*", "norm.*"),
    ),
    "spectra": (("layers.*", "layers.*"),),
    "metadata": (("model.*", "model.*"),),
}
"""By modality, upstream's names inside an encoder and ours."""

_SCALES = {
    "logit_scale_ps": "logit_scale_photometry_spectra",
    "logit_scale_sm": "logit_scale_spectra_metadata",
    "logit_scale_mp": "logit_scale_metadata_photometry",
}


def _encoder_rules(modality: str, prefix: str = "") -> list[tuple[str, str]]:
    return [(prefix + theirs, f"encoders.{modality}.{ours}") for theirs, ours in _RULES[modality]]


SINGLE = {m: KeyMap((*_encoder_rules(m), ("fc.*", "classifier.*"))) for m in _RULES}
"""By modality, names of an encoder that stands alone, with its classifier if it has one."""

TRIMODAL = KeyMap(
    (
        *(rule for m in _RULES for rule in _encoder_rules(m, f"{m}_encoder.")),
        ("*_proj.*", "heads.*.*"),
        *((theirs, f"scalars.{ours}") for theirs, ours in _SCALES.items()),
        ("fc.*", "classifier.*"),
    )
)
"""Names of the model of all three, contrastive or with a classifier."""


def single(modality: str, config: Mapping[str, Any], registries: Registries, length: int) -> Model:
    """An encoder that stands alone, with a linear classifier where the config has one.

    Args:
        modality: `photometry`, `spectra` or `metadata`.
        config: Upstream's constructor arguments of Informer, GalSpecNet or MetaModel.
        registries: Where the encoders are found.
        length: Points of a spectrum.

    Returns:
        The model with fresh weights and without preprocessing.
    """
    encoder, part = _part(modality, {**config, "length": length}, registries)
    part.head = None
    classifier = None
    if config["classification"]:
        classifier = ClassifierConfig(config["num_classes"], "pooled")
    model = ModelConfig("astrom3", encoder.dim, {modality: part}, classifier=classifier)
    return Model(model, {}, {modality: encoder}, None, {})


def trimodal(
    config: Mapping[str, Any], registries: Registries, length: int = SPECTRUM_LENGTH
) -> Model:
    """The model of all three modalities, as `single`; `config` has the arguments of AstroM3."""
    encoders, parts = {}, {}
    for modality in _RULES:
        prefix = f"{modality[0]}_"
        own = {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}
        own |= {"seq_len": config["seq_len"], "length": length}
        encoders[modality], parts[modality] = _part(modality, own, registries)
    classifier = None
    if config["classification"]:
        classifier = ClassifierConfig(config["num_classes"], "projected")
        classifier.fusion = "mean" if config["fusion"] == "avg" else "concat"
    model = ModelConfig("astrom3", config["hidden_dim"], parts, classifier=classifier)
    # classifiers, too, have the scales in their checkpoints
    return Model(model, {}, encoders, None, dict.fromkeys(_SCALES.values(), math.log(100.0)))


def _part(
    modality: str, config: Mapping[str, Any], registries: Registries
) -> tuple[Encoder, ModalityConfig]:
    """An encoder from upstream's arguments and the `length` of a spectrum."""
    name, settings = _SETTINGS[modality](config)
    encoder: Encoder = registries.encoders.build(name, f"AstroM3 config, {modality}", **settings)
    return encoder, ModalityConfig(preprocess={}, encoder={"name": name, **settings})


def _informer(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return "informer", {
        "input_length": config["seq_len"],
        "in_channels": config["enc_in"],
        "dim": config["d_model"],
        "depth": config["e_layers"],
        "num_heads": config["n_heads"],
        "ffn_dim": config["d_ff"],
        "factor": config["factor"],
        "dropout": config["dropout"],
        "activation": config["activation"],
    }


def _galspecnet(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    in_channels, *conv_channels = config["conv_channels"]
    # upstream's name differs between the encoder alone and AstroM3
    dropout = config["dropout_rate"] if "dropout_rate" in config else config["dropout"]
    return "galspecnet", {
        "in_channels": in_channels,
        "input_length": config["length"],
        "conv_channels": conv_channels,
        "kernel_size": config["kernel_size"],
        "mp_kernel_size": config["mp_kernel_size"],
        "dropout": dropout,
    }


def _metadata_mlp(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    return "metadata_mlp", {
        "in_channels": config["input_dim"],
        "hidden_dim": config["hidden_dim"],
        "dropout": config["dropout"],
    }


_SETTINGS = {"photometry": _informer, "spectra": _galspecnet, "metadata": _metadata_mlp}
