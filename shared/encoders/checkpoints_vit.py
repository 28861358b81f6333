"""Upstream checkpoints of vision transformers: their configs and names in our terms."""

from collections.abc import Mapping
from typing import Any

from shared.weights import KeyMap

_TOKENS = tuple(
    (name, name)
    for name in ("cls_token", "pos_embed", "register_tokens", "patch_embed.proj.*", "norm.*")
)

# Checkpoints of FSDP training number the blocks twice: by chunk and over all blocks.
_CHUNKED = tuple(
    (f"blocks.*.*.{part}.*", f"blocks.{{1}}.{part}.{{2}}")
    for part in ("norm1", "attn", "ls1", "norm2", "mlp", "ls2")
)

DINOV2 = KeyMap((*_CHUNKED, ("blocks.*", "blocks.*"), *_TOKENS, ("mask_token", "mask_token")))
"""facebookresearch/dinov2, backbones."""

MAE = KeyMap(
    (("blocks.*", "blocks.*"), *_TOKENS),
    {
        "mask_token": "of the decoder, which only pre-training needs",
        "decoder*": "only pre-training needs it",
    },
)
"""facebookresearch/mae, encoders."""


def dinov2_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's constructor arguments of DinoVisionTransformer → settings of `vit`."""
    return {
        "image_size": config["img_size"],
        "in_channels": config.get("in_chans", 3),
        "patch_size": config["patch_size"],
        "dim": config["embed_dim"],
        "depth": config["depth"],
        "num_heads": config["num_heads"],
        "ffn": "swiglu" if config["ffn_layer"].startswith("swiglu") else "mlp",
        "num_registers": config.get("num_register_tokens", 0),
        "mask_token": True,
        "interpolate_offset": config.get("interpolate_offset", 0.1),
        "interpolate_antialias": config.get("interpolate_antialias", False),
    }


def mae_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's constructor arguments of MaskedAutoencoderViT → settings of `vit`."""
    return {
        "image_size": config["img_size"],
        "in_channels": config.get("in_chans", 3),
        "patch_size": config["patch_size"],
        "dim": config["embed_dim"],
        "depth": config["depth"],
        "num_heads": config["num_heads"],
        "layer_scale": None,
        "positions": "sincos",
        "init": "xavier",
    }


def dinov2_objective_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Sections `crops`, `dino`, `ibot` and `train` of facebookresearch/dinov2's training config →
    settings of the objective `dinov2`."""
    crops, dino, ibot = config["crops"], config["dino"], config["ibot"]
    heads = [
        {
            "prototypes": section["head_n_prototypes"],
            "hidden_dim": section["head_hidden_dim"],
            "bottleneck_dim": section["head_bottleneck_dim"],
            "layers": section.get("head_nlayers", 3),
        }
        for section in ([dino, ibot] if ibot["separate_head"] else [dino])
    ]
    return {
        "local_crops": crops["local_crops_number"],
        "global_size": crops["global_crops_size"],
        "local_size": crops["local_crops_size"],
        "head": heads[0],
        "ibot_head": heads[1] if ibot["separate_head"] else None,
        "ibot_weight": ibot.get("loss_weight", 1.0),
        "targets": config["train"]["centering"].removesuffix("_knopp"),
        "koleo_weight": dino["koleo_loss_weight"],
        "koleo_neighbours": "rank",
    }


def dinov2_training(modality: str, term: str) -> KeyMap:
    """facebookresearch/dinov2, what its training holds → a runner with the objective `dinov2`.

    Args:
        modality: Whose encoder the backbone is.
        term: Name of the objective in the config.
    """
    objective = f"objectives.{term}"
    backbones = {
        "student.backbone": f"model.encoders.{modality}",
        "teacher.backbone": f"{objective}.teacher.encoders.{modality}",
    }
    return KeyMap(
        (
            *(
                (f"{theirs}.{pattern}", f"{ours}.{replacement}")
                for theirs, ours in backbones.items()
                for pattern, replacement in DINOV2.rules
            ),
            ("student.*_head.*", f"{objective}.*_head.*"),
            ("teacher.*_head.*", f"{objective}.teacher_*_head.*"),
            ("dino_loss.center", f"{objective}.dino_centre.value"),
            ("ibot_patch_loss.center", f"{objective}.ibot_centre.value"),
        )
    )
