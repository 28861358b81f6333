"""Files of GeoRSCLIP (arXiv:2306.11300), and of CLIP tuned from it → a model of ours."""

from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from shared.data.generic import TEXT
from shared.data.image_files import IMAGE, RGB
from shared.encoders.checkpoints_clip import (
    TEXT_POSITIONS,
    VISION_POSITIONS,
    clip_keys,
    clip_settings,
    clip_sizes,
    resize_grid,
    resize_length,
)
from shared.encoders.clip import CLIPText, CLIPVision
from shared.encoders.clip_files import CLIPFiles, read_clip_files
from shared.errors import ConfigError, WeightsError
from shared.model import Model
from shared.model_config import ModelConfig
from shared.registry import Registries
from shared.weights import load_strictly

FAMILY = "rs-clip"
SCHEMAS = {"image": IMAGE, "text": TEXT}
KEYS = clip_keys("image", "text")

_TOWERS = {"image": (CLIPVision, "image_size"), "text": (CLIPText, "context_length")}
"""By modality, its encoder, and which of its sizes the preprocessing sets."""

Configs = Mapping[str, Mapping[str, Any]]
"""By variant, the node of its config group `model`."""


def import_model(
    path: Path,
    registries: Registries,
    *,
    variant: str | None,
    configs: Configs,
    image_size: int | None = None,
    context_length: int | None = None,
) -> Model:
    """A model from weights of GeoRSCLIP's authors, or of any CLIP of the same sizes.

    Strict: every tensor of the model is in the file, in its shape, and the file holds no other.

    Args:
        path: See `shared.encoders.clip_files.read_clip_files`.
        registries: Where the names of the parts are found.
        variant: Such as `ViT-B-32`. None goes with a folder that states the architecture; a file of
            weights alone does not tell its activation, and with the wrong one every embedding is a
            little wrong.
        configs: By variant, what it is.
        image_size: Side of the images that the model shall take; its position table is resized.
            None: that of the variant.
        context_length: The same of texts, in ids.

    Raises:
        WeightsError: No such file, damaged, not of this variant, or of none where none was named.
        ConfigError: A size that cannot be.
    """
    files = read_clip_files(path)
    if variant is None:
        variant = _stated_variant(files, configs, path)
    config = ModelConfig.from_dict({**configs[variant], "name": f"{FAMILY}:{variant}"})
    asked = {"image": {"image_size": image_size}, "text": {"context_length": context_length}}
    sizes = {m: {k: v for k, v in a.items() if v is not None} for m, a in asked.items()}
    resized = {name for asked_for in sizes.values() for name in asked_for}
    if differing := _contradictions(files, configs[variant], resized):
        raise WeightsError(
            f"{path} is not {config.name}: it has {differing}.{_by_sizes(files, configs)}"
        )
    image, text = config.modalities["image"], config.modalities["text"]
    image.preprocess = image.preprocess | files.normalisation | sizes["image"]
    text.preprocess = text.preprocess | sizes["text"]
    model = Model.build(config, SCHEMAS, registries, {"logit_scale": 0.0})
    tensors = _resize(files.tensors, model, resized)
    load_strictly(model, KEYS.convert(tensors), str(path))
    return model.eval()


def _stated_variant(files: CLIPFiles, configs: Configs, path: Path) -> str:
    """The first variant that is what a folder states."""
    if files.config is None:
        raise ConfigError(
            f"{path} holds weights alone, which do not tell whether the activation is QuickGELU or "
            "GELU; with the wrong one all embeddings are wrong, without an error. Name the "
            f"variant, such as {FAMILY}:{next(iter(configs))}.{_by_sizes(files, configs)}"
        )
    for variant, node in configs.items():
        if not _contradictions(files, node, set()):
            return variant
    raise WeightsError(
        f"{path} states an architecture that no variant of {FAMILY} has: {dict(files.config)}."
    )


def _contradictions(files: CLIPFiles, node: Mapping[str, Any], resized: set[str]) -> str:
    """What is known of files and a variant is not, but for sizes that are changed; empty where
    there is nothing."""
    return "; ".join(
        f"{modality} {key}={value}, not {own[key]}"
        for modality, own, told in zip(_TOWERS, _settings(node), _known(files), strict=True)
        for key, value in told.items()
        if key not in resized and own[key] != value
    )


def _known(files: CLIPFiles) -> Sequence[Mapping[str, Any]]:
    """By tower, the settings that a folder states, or else those that shapes tell."""
    if files.config is not None:
        width = {"embed_dim": files.config["embed_dim"]}
        return [settings | width for settings in clip_settings(files.config)]
    try:
        return clip_sizes(files.tensors)
    except (LookupError, ValueError):  # not whole, or no CLIP: its names will be refused
        return [{}, {}]


def _by_sizes(files: CLIPFiles, configs: Configs) -> str:
    """Which variants files may be of, as the end of a message."""
    fitting = [v for v, node in configs.items() if not _contradictions(files, node, set())]
    if not fitting or len(fitting) == len(configs):
        return ""
    return f" It may be {' or '.join(fitting)}."


def _settings(node: Mapping[str, Any]) -> list[dict[str, Any]]:
    """By tower, everything that makes it what it is in a variant."""
    found = []
    for modality, (encoder, size) in _TOWERS.items():
        parts = node["modalities"][modality]
        settings = {name: p.default for name, p in signature(encoder).parameters.items()}
        settings |= {k: v for k, v in parts["encoder"].items() if k != "name"}
        settings |= {"embed_dim": node["embed_dim"], size: parts["preprocess"][size]}
        found.append(settings | ({"in_channels": len(RGB)} if modality == "image" else {}))
    return found


def _resize(tensors: Mapping[str, Tensor], model: Model, resized: set[str]) -> dict[str, Tensor]:
    """Position tables of the model's sizes, where those were asked for."""
    found = dict(tensors)
    image, text = cast(CLIPVision, model.encoders["image"]), cast(CLIPText, model.encoders["text"])
    if "image_size" in resized and VISION_POSITIONS in found:
        side = image.trunk.grid_size[0]
        found[VISION_POSITIONS] = resize_grid(found[VISION_POSITIONS], side)
    if "context_length" in resized and TEXT_POSITIONS in found:
        found[TEXT_POSITIONS] = resize_length(found[TEXT_POSITIONS], text.context_length)
    return found
