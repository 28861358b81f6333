"""open_clip's checkpoints of plain CLIP models: their configs and names in our terms."""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from shared.encoders.clip import CLIPText, CLIPVision
from shared.errors import WeightsError
from shared.weights import KeyMap

VISION_POSITIONS, TEXT_POSITIONS = "visual.positional_embedding", "positional_embedding"

_WRAPPERS = ("module.", "_orig_mod.")
"""What DDP and torch.compile put before every name of open_clip's training checkpoints."""
_PARTS = {"image_backbone.": "visual.", "text_backbone.": ""}
"""ITRA's prefixes of the two towers, and open_clip's."""
# what `clip_settings` reads or may leave; anything else that is set makes another architecture
_CONFIG = (
    *("embed_dim", "quick_gelu", "vision_cfg", "text_cfg"),
    *("output_dict", "init_logit_scale", "init_logit_bias", "cast_dtype"),
)
_VISION = ("image_size", "patch_size", "width", "layers", "head_width", "mlp_ratio")
_TEXT = ("vocab_size", "context_length", "width", "layers", "heads", "mlp_ratio")


def clip_keys(image: str, text: str) -> KeyMap:
    """open_clip's CLIP → a model of two modalities, whose heads are `{name: linear, bias: false}`.

    Args:
        image: The modality whose encoder is `clip_vision`.
        text: The modality whose encoder is `clip_text`.
    """
    texts = ("token_embedding.*", "positional_embedding", "transformer.*", "ln_final.*")
    return KeyMap(
        (
            ("visual.proj", f"heads.{image}.weight"),
            ("visual.*", f"encoders.{image}.trunk.*"),
            ("text_projection", f"heads.{text}.weight"),
            *((name, f"encoders.{text}.trunk.{name}") for name in texts),
            ("logit_*", "scalars.logit_*"),
        ),
        dict.fromkeys(
            ("input_resolution", "context_length", "vocab_size"),
            "a size that OpenAI's files hold beside the weights",
        ),
        transposed=("visual.proj", "text_projection"),
    )


def bare_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under open_clip's names, of its training checkpoints or of the ITRA framework.

    Raises:
        WeightsError: Two of them have the same name then.
    """
    named = dict(tensors)
    while named and any(all(n.startswith(w) for n in named) for w in _WRAPPERS):
        named = {name.partition(".")[2]: tensor for name, tensor in named.items()}
    for theirs, ours in _PARTS.items():
        named = {
            ours + n.removeprefix(theirs) if n.startswith(theirs) else n: t
            for n, t in named.items()
        }
    if len(named) < len(tensors):
        raise WeightsError(
            "The checkpoint holds tensors twice, with and without a prefix of tower or wrapper; "
            "which of them are meant cannot be told."
        )
    return named


def clip_settings(config: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """open_clip's model config → settings of `clip_vision` and of `clip_text`.

    Raises:
        WeightsError: It is of an architecture that these are not.
    """
    vision, text = config["vision_cfg"], config["text_cfg"]
    _refuse_others(config, _CONFIG)
    _refuse_others(vision, _VISION)
    _refuse_others(text, _TEXT)
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


def clip_sizes(tensors: Mapping[str, Tensor]) -> tuple[dict[str, int], dict[str, int]]:
    """What the shapes of a checkpoint tell of `clip_vision` and of `clip_text`, with `embed_dim`:
    all but heads and activation.

    Raises:
        LookupError, ValueError: It is no CLIP.
    """
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    dim, channels, patch, _ = shapes["visual.conv1.weight"]
    (patches, _), (_, embed_dim) = shapes[VISION_POSITIONS], shapes["visual.proj"]
    (vocab_size, text_dim), (length, _) = (
        shapes["token_embedding.weight"],
        shapes[TEXT_POSITIONS],
    )
    return (
        {
            "image_size": patch * math.isqrt(max(patches - 1, 0)),
            "in_channels": channels,
            "patch_size": patch,
            "dim": dim,
            "depth": _depth(shapes, "visual."),
            "embed_dim": embed_dim,
        },
        {
            "vocab_size": vocab_size,
            "context_length": length,
            "dim": text_dim,
            "depth": _depth(shapes, ""),
            "embed_dim": shapes["text_projection"][1],
        },
    )


def _depth(names: Iterable[str], tower: str) -> int:
    ends = (f"{tower}transformer.resblocks.", ".ln_1.weight")
    return sum(name.startswith(ends[0]) and name.endswith(ends[1]) for name in names)


def _refuse_others(config: Mapping[str, Any], known: Sequence[str]) -> None:
    # null, false and 0 are how open_clip's configs say that something is not there
    others = [key for key, value in config.items() if key not in known and value]
    if others:
        raise WeightsError(
            f"The config sets {', '.join(others)}: it is of another architecture than plain CLIP."
        )


def clip_config(vision: CLIPVision, text: CLIPText, embed_dim: int) -> dict[str, Any]:
    """Inverse of `clip_settings`, of encoders that are built.

    Args:
        vision: The image tower.
        text: The text tower.
        embed_dim: Width of the projected embeddings.

    Raises:
        WeightsError: The two have different activations, for which open_clip has no config.
    """
    from open_clip.transformer import QuickGELU

    blocks = [tower.trunk.transformer.resblocks[0] for tower in (vision, text)]
    quick = {isinstance(block.mlp.gelu, QuickGELU) for block in blocks}
    if len(quick) > 1:
        raise WeightsError("One tower has quick_gelu=true, the other not: open_clip has no such.")
    ratios = [block.mlp.c_fc.out_features / block.attn.embed_dim for block in blocks]
    return {
        "embed_dim": embed_dim,
        "quick_gelu": quick.pop(),
        "vision_cfg": {
            "image_size": vision.image_size,
            "patch_size": vision.trunk.patch_size[0],
            "width": vision.dim,
            "layers": vision.depth,
            "head_width": blocks[0].attn.head_dim,
            "mlp_ratio": ratios[0],
        },
        "text_cfg": {
            "vocab_size": text.trunk.vocab_size,
            "context_length": text.context_length,
            "width": text.dim,
            "layers": text.depth,
            "heads": text.trunk.heads,
            "mlp_ratio": ratios[1],
        },
    }


def resize_grid(table: Tensor, side: int) -> Tensor:
    """A position table for another number of patches, as open_clip's `resize_pos_embed`: bicubic
    with antialias; the class token's row stays.

    Args:
        table: (1 + old side², dim).
        side: Patches along a side of the image.

    Returns:
        (1 + side², dim).

    Raises:
        WeightsError: The table is of no square.
    """
    old = math.isqrt(max(len(table) - 1, 0))
    if table.ndim != 2 or not old or 1 + old**2 != len(table):
        raise WeightsError(f"The positions of the patches {tuple(table.shape)} are of no square.")
    dim = table.shape[1]
    grid = table[1:].reshape(1, old, old, dim).permute(0, 3, 1, 2)
    grid = interpolate(grid, size=(side, side), mode="bicubic", antialias=True, align_corners=False)
    return torch.cat([table[:1], grid.permute(0, 2, 3, 1).reshape(side**2, dim)])


def resize_length(table: Tensor, length: int) -> Tensor:
    """A position table for texts of another length, as open_clip's `resize_text_pos_embed`:
    linear.

    Args:
        table: (old length, dim).
        length: Most ids of a text.

    Returns:
        (length, dim).
    """
    return interpolate(table.T[None], size=length, mode="linear", align_corners=False)[0].T
