"""`CLIPModel` of transformers and CLIP of open_clip: the same numbers under other names."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from shared.errors import WeightsError
from shared.weights import KeyMap

NORM_EPS = 1e-5
_ACTIVATIONS = {"quick_gelu": True, "gelu": False}
_PARTS = "qkv"
"""What transformers keeps apart of `in_proj`, in the order of its rows."""
# the defaults of transformers' CLIPVisionConfig and CLIPTextConfig, which files may leave out
_VISION = {"hidden_size": 768, "intermediate_size": 3072, "num_attention_heads": 12}
_VISION |= {"num_hidden_layers": 12, "image_size": 224, "patch_size": 32}
_TEXT = {"hidden_size": 512, "intermediate_size": 2048, "num_attention_heads": 8}
_TEXT |= {"num_hidden_layers": 12, "vocab_size": 49408, "max_position_embeddings": 77}


def _tower(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """open_clip's blocks → those of transformers."""
    names = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    blocks, layers = f"{theirs}transformer.resblocks.*", f"{ours}_model.encoder.layers.*"
    return (
        *((f"{blocks}.{a}.*", f"{layers}.{b}.*") for a, b in names.items()),
        # one tensor there, three here: see `to_transformers`
        (f"{blocks}.attn.in_proj_*", f"{layers}.self_attn.in_proj_*"),
    )


NAMES = KeyMap(
    (
        *_tower("visual.", "vision"),
        *_tower("", "text"),
        ("visual.conv1.*", "vision_model.embeddings.patch_embedding.*"),
        ("visual.class_embedding", "vision_model.embeddings.class_embedding"),
        ("visual.positional_embedding", "vision_model.embeddings.position_embedding.weight"),
        ("visual.ln_pre.*", "vision_model.pre_layrnorm.*"),  # sic
        ("visual.ln_post.*", "vision_model.post_layernorm.*"),
        ("visual.proj", "visual_projection.weight"),
        ("token_embedding.*", "text_model.embeddings.token_embedding.*"),
        ("positional_embedding", "text_model.embeddings.position_embedding.weight"),
        ("ln_final.*", "text_model.final_layer_norm.*"),
        ("text_projection", "text_projection.weight"),
        ("logit_scale", "logit_scale"),
    ),
    transposed=("visual.proj", "text_projection"),
)
"""open_clip's names → those of transformers."""


def is_transformers(tensors: Mapping[str, Tensor]) -> bool:
    """Whether the names are those of a `CLIPModel`."""
    return any(name.startswith(("vision_model.", "text_model.")) for name in tensors)


def to_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """open_clip's state dict → that of a `CLIPModel`."""
    named: dict[str, Tensor] = {}
    for name, tensor in NAMES.convert(tensors).items():
        stem, fused, kind = name.rpartition(".in_proj_")
        if fused:
            thirds = zip(_PARTS, tensor.chunk(3), strict=True)
            named |= {f"{stem}.{part}_proj.{kind}": third for part, third in thirds}
        else:
            named[name] = tensor
    return named


def from_transformers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Inverse of `to_transformers`.

    Raises:
        WeightsError: A name that no `CLIPModel` has, or one of query, key and value is missing.
    """
    fused: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        stem, found, kind = name.rpartition(".q_proj.")
        if name.endswith(".position_ids"):
            continue  # the numbers 0, 1, …, which older versions of transformers save
        if found:
            parts = [f"{stem}.{part}_proj.{kind}" for part in _PARTS]
            if missing := [part for part in parts if part not in tensors]:
                raise WeightsError(f"The checkpoint is not whole: it lacks {', '.join(missing)}.")
            fused[f"{stem}.in_proj_{kind}"] = torch.cat([tensors[part] for part in parts])
        elif ".k_proj." not in name and ".v_proj." not in name:
            fused[name] = tensor
    return NAMES.inverse().convert(fused)


def to_transformers_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """open_clip's model config, whole as `clip_config` makes it → `config.json` of a `CLIPModel`.

    The end of a text is the last id of the vocabulary, which is where open_clip finds the largest.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    both = {
        "hidden_act": "quick_gelu" if config["quick_gelu"] else "gelu",
        "layer_norm_eps": NORM_EPS,
        "projection_dim": config["embed_dim"],
    }
    end = text["vocab_size"] - 1
    return {
        "architectures": ["CLIPModel"],
        "model_type": "clip",
        "projection_dim": config["embed_dim"],
        "vision_config": {
            "model_type": "clip_vision_model",
            **both,
            "hidden_size": vision["width"],
            "intermediate_size": int(vision["width"] * vision["mlp_ratio"]),
            "num_hidden_layers": vision["layers"],
            "num_attention_heads": vision["width"] // vision["head_width"],
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "num_channels": 3,
        },
        "text_config": {
            "model_type": "clip_text_model",
            **both,
            "hidden_size": text["width"],
            "intermediate_size": int(text["width"] * text["mlp_ratio"]),
            "num_hidden_layers": text["layers"],
            "num_attention_heads": text["heads"],
            "max_position_embeddings": text["context_length"],
            "vocab_size": text["vocab_size"],
            # the tokenizer's start, end and padding; the end is what the model reads a text at
            "bos_token_id": end - 1,
            "eos_token_id": end,
            "pad_token_id": 0,
        },
    }


def from_transformers_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Inverse of `to_transformers_config`; what a file leaves out is the default of transformers.

    Raises:
        WeightsError: It is no CLIP, or one that open_clip's towers are not.
    """
    if config.get("model_type") != "clip":
        raise WeightsError(f"config.json is of model_type {config.get('model_type')!r}, not clip.")
    vision, text = _VISION | config["vision_config"], _TEXT | config["text_config"]
    acts = {tower.get("hidden_act", "quick_gelu") for tower in (vision, text)}
    eps = {tower.get("layer_norm_eps", NORM_EPS) for tower in (vision, text)}
    # 2 stands for the largest id in files of before 2023
    end = text.get("eos_token_id", 2)
    if len(acts) > 1 or not acts <= set(_ACTIVATIONS) or eps != {NORM_EPS}:
        raise WeightsError(
            f"config.json has hidden_act {', '.join(map(str, acts))} and layer_norm_eps "
            f"{', '.join(map(str, eps))}; what can be read is one of {', '.join(_ACTIVATIONS)} in "
            f"both towers, and {NORM_EPS}."
        )
    if end not in (2, text["vocab_size"] - 1):
        raise WeightsError(
            f"config.json has eos_token_id {end}: the end of a text has to be the last id of the "
            "vocabulary."
        )
    return {
        "embed_dim": config.get("projection_dim", 512),
        "quick_gelu": _ACTIVATIONS[acts.pop()],
        "vision_cfg": {
            "image_size": vision["image_size"],
            "patch_size": vision["patch_size"],
            "width": vision["hidden_size"],
            "layers": vision["num_hidden_layers"],
            "head_width": vision["hidden_size"] // vision["num_attention_heads"],
            "mlp_ratio": vision["intermediate_size"] / vision["hidden_size"],
        },
        "text_cfg": {
            "vocab_size": text["vocab_size"],
            "context_length": text["max_position_embeddings"],
            "width": text["hidden_size"],
            "layers": text["num_hidden_layers"],
            "heads": text["num_attention_heads"],
            "mlp_ratio": text["intermediate_size"] / text["hidden_size"],
        },
    }
