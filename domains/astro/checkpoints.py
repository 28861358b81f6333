"""Upstream checkpoints of AstroM3 (arXiv:2411.08842): their configs and names in our terms."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from torch import Tensor

from domains.astro.schemas import (
    CATALOGUE_PHOTOMETRY,
    METADATA,
    PHOTO_COLUMNS,
    PROCESSED_METADATA,
    PROCESSED_PHOTOMETRY,
    PROCESSED_SPECTRA,
    SPECTRA,
)
from shared.errors import WeightsError
from shared.model import Model
from shared.model_config import ClassifierConfig, ModalityConfig, ModelConfig
from shared.registry import Registries
from shared.schema import Schema
from shared.weights import KeyMap

Inputs = Literal["raw", "processed"]
"""What a model takes: stars as measured, or what AstroM3's preprocessing made of them."""

SCHEMAS: dict[Inputs, dict[str, Schema]] = {
    "raw": {"photometry": CATALOGUE_PHOTOMETRY, "spectra": SPECTRA, "metadata": METADATA},
    "processed": {
        "photometry": PROCESSED_PHOTOMETRY,
        "spectra": PROCESSED_SPECTRA,
        "metadata": PROCESSED_METADATA,
    },
}
SPECTRUM_LENGTH = 2575
"""Points of the published wavelength grid, 3850 to 8998 Angstrom by 2 (`spectrum`'s default)."""
LIGHT_CURVE_LENGTH = 200
"""Observations that the published models see."""

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

MODALITIES = tuple(_RULES)

_SCALES = {
    "logit_scale_ps": "logit_scale_photometry_spectra",
    "logit_scale_sm": "logit_scale_spectra_metadata",
    "logit_scale_mp": "logit_scale_metadata_photometry",
}


def _encoder_rules(modality: str, prefix: str = "") -> list[tuple[str, str]]:
    return [(prefix + theirs, f"encoders.{modality}.{ours}") for theirs, ours in _RULES[modality]]


_CLASSIFIER = ("fc.*", "classifier.*")

SINGLE = {m: KeyMap((*_encoder_rules(m), _CLASSIFIER)) for m in MODALITIES}
"""By modality, names of an encoder that stands alone, with its classifier if it has one."""

TRIMODAL = KeyMap(
    (
        *(rule for m in MODALITIES for rule in _encoder_rules(m, f"{m}_encoder.")),
        ("*_proj.*", "heads.*.*"),
        *((theirs, f"scalars.{ours}") for theirs, ours in _SCALES.items()),
        _CLASSIFIER,
    )
)
"""Names of the model of all three, contrastive or with a classifier."""

_FUSIONS = {"avg": "mean", "concat": "concat"}

_ABSENT = "the classifier of one modality reads its encoder alone"

WITHIN = {
    m: KeyMap(
        (*_encoder_rules(m, f"{m}_encoder."), _CLASSIFIER),
        ignored=dict.fromkeys(("*_encoder.*", "*_proj.*", "logit_scale_*"), _ABSENT),
    )
    for m in MODALITIES
}
"""By modality, names of its classifier in a file that has the names of the model of all three."""


def modalities_of(config: Mapping[str, Any]) -> tuple[str, ...]:
    """Of which class of upstream a config holds the arguments: AstroM3, Informer, GalSpecNet or
    MetaModel. Empty where it is none of them."""
    for key, modalities in (
        ("p_enc_in", MODALITIES),
        ("enc_in", ("photometry",)),
        ("conv_channels", ("spectra",)),
        ("input_dim", ("metadata",)),
    ):
        if key in config:
            return modalities
    return ()


def model_config(
    config: Mapping[str, Any],
    name: str = "astrom3",
    inputs: Inputs = "processed",
    spectrum_length: int = SPECTRUM_LENGTH,
    classes: Sequence[str] | None = None,
) -> ModelConfig:
    """Upstream's constructor arguments as a config of ours.

    Args:
        config: Arguments of AstroM3, Informer, GalSpecNet or MetaModel.
        name: Of the model.
        inputs: Which preprocessing stands before the encoders.
        spectrum_length: Points of a processed spectrum.
        classes: Names of the classes in the order of the logits.
    """
    length = {"length": spectrum_length}
    if len(modalities_of(config)) == 1:
        (modality,) = modalities_of(config)
        part, width = _part(modality, {**config, **length}, inputs)
        part.head = None
        parts, features, fusion = {modality: part}, "pooled", "mean"
    else:
        parts, width, features = {}, config["hidden_dim"], "projected"
        fusion = _FUSIONS[config["fusion"]]
        for modality in MODALITIES:
            prefix = f"{modality[0]}_"
            own = {k.removeprefix(prefix): v for k, v in config.items() if k.startswith(prefix)}
            own |= {"seq_len": config["seq_len"], **length}
            parts[modality], _ = _part(modality, own, inputs)
    classifier = None
    if config["classification"]:
        classifier = ClassifierConfig(config["num_classes"], features, fusion)  # type: ignore[arg-type]
        classifier.classes = None if classes is None else list(classes)
    return ModelConfig(name, width, parts, classifier=classifier)


def build(config: ModelConfig, schemas: Mapping[str, Schema], registries: Registries) -> Model:
    """A model with fresh weights that has every tensor of upstream's.

    Raises:
        ConfigError: In the settings of a part.
    """
    # classifiers of all modalities, too, have the scales in their checkpoints
    scales = _SCALES.values() if len(config.modalities) > 1 else ()
    return Model.build(config, schemas, registries, dict.fromkeys(scales, math.log(100.0)))


def _part(modality: str, config: Mapping[str, Any], inputs: Inputs) -> tuple[ModalityConfig, int]:
    """Parts of one modality from the arguments of its encoder, and the encoder's width."""
    settings, width = _SETTINGS[modality](config)
    return ModalityConfig(_preprocess(modality, config, inputs), settings), width


def _preprocess(modality: str, config: Mapping[str, Any], inputs: Inputs) -> dict[str, Any]:
    """AstroM3's preprocessing as the data of the published weights went through it."""
    if modality == "photometry":
        length = {"max_length": config["seq_len"]}
        if inputs == "processed":
            return {"name": "processed_light_curve", **length}
        # the published data were made from times in float32
        kept = {"columns": list(PHOTO_COLUMNS), "time_dtype": "float32"}
        return {"name": "astrom3_light_curve", **length, **kept}
    if modality == "spectra":
        if inputs == "processed":
            return {"name": "processed_spectrum", "length": config["length"]}
        return {"name": "spectrum"}
    return {"name": "processed_metadata" if inputs == "processed" else "astrom3_metadata"}


def _informer(config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    settings = {
        "name": "informer",
        "dim": config["d_model"],
        "depth": config["e_layers"],
        "num_heads": config["n_heads"],
        "ffn_dim": config["d_ff"],
        "factor": config["factor"],
        "dropout": config["dropout"],
        "activation": config["activation"],
        "mask_padding": False,
    }
    return settings, config["seq_len"] * config["d_model"]


def _galspecnet(config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    _, *channels = config["conv_channels"]
    kernel, pool, length = config["kernel_size"], config["mp_kernel_size"], config["length"]
    for _ in channels[:-1]:
        length = (length - kernel + 1) // pool
    settings = {
        "name": "galspecnet",
        "conv_channels": channels,
        "kernel_size": kernel,
        "mp_kernel_size": pool,
        # upstream's name differs between the encoder alone and AstroM3
        "dropout": config["dropout_rate"] if "dropout_rate" in config else config["dropout"],
    }
    return settings, channels[-1] * (length - kernel + 1)


def _metadata_mlp(config: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    width = config["hidden_dim"]
    return {"name": "metadata_mlp", "hidden_dim": width, "dropout": config["dropout"]}, width


_SETTINGS = {"photometry": _informer, "spectra": _galspecnet, "metadata": _metadata_mlp}

FIRST_WEIGHT = {
    "photometry": "enc_embedding.value_embedding.tokenConv.weight",
    "spectra": "layers.0.weight",
    "metadata": "model.0.weight",
}
"""By modality, a tensor by which an encoder is known."""


def infer_config(tensors: Mapping[str, Tensor], modalities: Sequence[str]) -> dict[str, Any]:
    """Upstream's constructor arguments, from the shapes of a state dict.

    What shapes do not tell is as published: 4 heads, sampling factor 1, GELU, pooling by 4, and the
    dropouts of the contrastive training (which only matter to training).

    Args:
        tensors: Upstream's names; those of one encoder without prefix.
        modalities: All three, or the one whose encoder this is.

    Raises:
        WeightsError: A tensor that every such checkpoint has is not there.
    """
    config: dict[str, Any] = {"classification": "fc.weight" in tensors, "num_classes": None}
    fc = _shape(tensors, "fc.weight", 2) if config["classification"] else (None, None)
    config["num_classes"] = fc[0]
    if len(modalities) == 1:
        return config | _INFER[modalities[0]](tensors, fc[1])
    hidden = _shape(tensors, "photometry_proj.weight", 2)[0]
    config |= {"hidden_dim": hidden, "fusion": "concat" if fc[1] == 3 * hidden else "avg"}
    for modality in MODALITIES:
        prefix = f"{modality}_encoder."
        own = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        found = _INFER[modality](own, _shape(tensors, f"{modality}_proj.weight", 2)[1])
        if modality == "photometry":
            config["seq_len"] = found.pop("seq_len")
        config |= {f"{modality[0]}_{key}": value for key, value in found.items()}
    return config


def _shape(tensors: Mapping[str, Tensor], name: str, axes: int) -> tuple[int, ...]:
    if name not in tensors or tensors[name].ndim != axes:
        raise WeightsError(
            f"The checkpoint is not a whole one of AstroM3: it has no {name!r} with {axes} axes."
        )
    return tuple(tensors[name].shape)


def _infer_informer(tensors: Mapping[str, Tensor], width: int | None) -> dict[str, Any]:
    dim, channels, _ = _shape(tensors, FIRST_WEIGHT["photometry"], 3)
    layers = {m[1] for n in tensors if (m := re.match(r"encoder\.attn_layers\.(\d+)\.", n))}
    return {
        "seq_len": LIGHT_CURVE_LENGTH if width is None else width // dim,
        "enc_in": channels,
        "d_model": dim,
        "dropout": 0.245107,
        "factor": 1,
        "n_heads": 4,
        "d_ff": _shape(tensors, "encoder.attn_layers.0.conv1.weight", 3)[0],
        "activation": "gelu",
        "e_layers": len(layers),
    }


def _infer_galspecnet(tensors: Mapping[str, Tensor], width: int | None) -> dict[str, Any]:
    numbers = sorted(int(m[1]) for n in tensors if (m := re.fullmatch(r"layers\.(\d+)\.weight", n)))
    shapes = [_shape(tensors, f"layers.{number}.weight", 3) for number in numbers]
    return {
        "dropout": 0.339266,
        "conv_channels": [shapes[0][1], *(shape[0] for shape in shapes)],
        "kernel_size": shapes[0][2],
        "mp_kernel_size": 4,
    }


def _infer_metadata_mlp(tensors: Mapping[str, Tensor], width: int | None) -> dict[str, Any]:
    hidden, channels = _shape(tensors, FIRST_WEIGHT["metadata"], 2)
    return {"input_dim": channels, "hidden_dim": hidden, "dropout": 0.159534}


_INFER = {
    "photometry": _infer_informer,
    "spectra": _infer_galspecnet,
    "metadata": _infer_metadata_mlp,
}
