"""open_clip's checkpoints of plain CLIP models: their configs and names in our terms."""

from collections.abc import Mapping
from typing import Any

from shared.weights import KeyMap

_BLOCK = (
    ("attn.*", "self_attn.*"),
    ("ln_*", "norm*"),
    ("mlp.c_fc.*", "linear1.*"),
    ("mlp.c_proj.*", "linear2.*"),
)


def clip_keys(image: str, text: str) -> KeyMap:
    """open_clip's CLIP → a model of two modalities, whose heads are `{name: linear, bias: false}`.

    Args:
        image: The modality whose encoder is `clip_vision`.
        text: The modality whose encoder is `clip_text`.
    """
    blocks = {
        "visual.transformer.resblocks": f"encoders.{image}.blocks",
        "transformer.resblocks": f"encoders.{text}.blocks",
    }
    return KeyMap(
        (
            *(
                (f"{theirs}.*.{part}", f"{ours}.*.{ours_part}")
                for theirs, ours in blocks.items()
                for part, ours_part in _BLOCK
            ),
            ("visual.conv1.*", f"encoders.{image}.patch_embed.*"),
            ("visual.class_embedding", f"encoders.{image}.cls_token"),
            ("visual.positional_embedding", f"encoders.{image}.pos_embed"),
            ("visual.ln_pre.*", f"encoders.{image}.norm_pre.*"),
            ("visual.ln_post.*", f"encoders.{image}.norm.*"),
            ("visual.proj", f"heads.{image}.weight"),
            ("token_embedding.*", f"encoders.{text}.token_embed.*"),
            ("positional_embedding", f"encoders.{text}.pos_embed"),
            ("ln_final.*", f"encoders.{text}.norm.*"),
            ("text_projection", f"heads.{text}.weight"),
            ("logit_*", "scalars.logit_*"),
        ),
        dict.fromkeys(
            ("input_resolution", "context_length", "vocab_size"),
            "a size that OpenAI's files hold beside the weights",
        ),
        transposed=("visual.proj", "text_projection"),
    )


def clip_settings(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """open_clip's model config → settings of `clip_vision` and of `clip_text`."""
    vision, text = config["vision_cfg"], config["text_cfg"]
    quick_gelu = config.get("quick_gelu", False)
    width, text_width = vision.get("width", 768), text.get("width", 512)
    return (
        {
            "image_size": vision.get("image_size", 224),
            "in_channels": 3,
            "patch_size": vision.get("patch_size", 16),
            "dim": width,
            "depth": vision.get("layers", 12),
            "num_heads": width // vision.get("head_width", 64),
            "mlp_ratio": float(vision.get("mlp_ratio", 4.0)),
            "quick_gelu": quick_gelu,
        },
        {
            "vocab_size": text.get("vocab_size", 49408),
            "context_length": text.get("context_length", 77),
            "dim": text_width,
            "depth": text.get("layers", 12),
            "num_heads": text.get("heads", 8),
            "mlp_ratio": float(text.get("mlp_ratio", 4.0)),
            "quick_gelu": quick_gelu,
        },
    )
