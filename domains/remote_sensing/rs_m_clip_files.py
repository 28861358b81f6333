"""Files of RS-M-CLIP (arXiv:2410.23370), as open_clip writes them → a model of ours."""

import math
from base64 import b64encode
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from torch import Tensor

from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.encoders.checkpoints_clip import clip_keys
from shared.errors import ConfigError, DataError, WeightsError
from shared.files import inside
from shared.model import Model
from shared.model_config import ModelConfig
from shared.preprocessors.sentencepiece_tokens import LARGEST, SentencePieceTokens
from shared.registry import Registries
from shared.untrusted import read_bytes, read_json
from shared.weights import KeyMap, load_strictly, read_state_dict

WEIGHTS = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
"""Names that open_clip looks for; which of them the repository holds is not verified."""
CONFIG = "open_clip_config.json"
VOCABULARY = "sentencepiece.bpe.model"
WEIGHTS_FROM, VOCABULARY_FROM = "joaodaniel/RS-M-CLIP", "FacebookAI/xlm-roberta-base"
"""Where the hub has them."""

_CLIP = clip_keys("image", "text")
KEYS = KeyMap(
    (
        *(
            (f"text.transformer.{part}", f"encoders.text.trunk.transformer.{part}")
            for part in ("encoder.*", "embeddings.*.weight", "embeddings.*.bias")
        ),
        ("text.proj.0.weight", "heads.text.layers.0.weight"),
        ("text.proj.2.weight", "heads.text.layers.1.weight"),
        *_CLIP.rules,
    ),
    {"text.transformer.embeddings.position_ids": "0, 1, 2, …, which older libraries saved"},
    transposed=_CLIP.transposed,
)
_POOLERS = {"mean_pooler": "mean", "cls_last_hidden_state_pooler": "cls"}
_HEAD_DIM = 64
"""Width of an attention head of both towers, which no shape tells."""
# what shapes that are not of this model are answered with
_IMPOSSIBLE = (
    ConfigError,
    LookupError,
    TypeError,
    ValueError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
)


def import_model(path: Path, registries: Registries, *, variant: str | None) -> Model:
    """A model from weights that open_clip wrote and the vocabulary beside them.

    Strict: every tensor of the model is in the file, in its shape, and the file holds no other, but
    for the numbers of positions that older libraries saved.

    Args:
        path: A folder with the weights (`WEIGHTS`), `VOCABULARY` of xlm-roberta-base, and `CONFIG`,
            from which the pooling and the normalisation of images are read where it is there.
        registries: Where the names of the parts are found.
        variant: None: `ViT-B-32`, the only one that is published.

    Raises:
        ConfigError: A variant without published weights.
        WeightsError: A file is missing, damaged, or of another model; what to fetch is said.
    """
    if variant not in (None, "ViT-B-32"):
        raise ConfigError(f"rs-m-clip:{variant} is not published; ViT-B-32 is.")
    weights = next((path / name for name in WEIGHTS if (path / name).is_file()), path / WEIGHTS[0])
    for file, repo in ((weights, WEIGHTS_FROM), (path / VOCABULARY, VOCABULARY_FROM)):
        if not file.is_file():
            raise WeightsError(
                f"There is no {file}: put {file.name} of the hub's {repo} into the folder {path}."
            )
    try:
        vocabulary = read_bytes(inside(path, path / VOCABULARY), LARGEST)
        given = read_json(inside(path, path / CONFIG)) if (path / CONFIG).is_file() else {}
        tensors = read_state_dict(inside(path, weights))
    except DataError as error:
        raise WeightsError(str(error)) from error
    try:
        config = ModelConfig.from_dict(model_config(tensors, given))
        schemas = {"image": IMAGE, "text": TEXT}
        model = Model.build(config, schemas, registries, {"logit_scale": 0.0})
    except _IMPOSSIBLE as error:
        raise WeightsError(
            f"{path} is damaged or holds another model than RS-M-CLIP "
            f"({type(error).__name__}: {error})."
        ) from error
    load_strictly(model, KEYS.convert(tensors), str(weights))
    tokens = cast(SentencePieceTokens, model.preprocessors["text"])
    try:
        tokens.load_state({"vocabulary": b64encode(vocabulary).decode()})
    except ConfigError as error:
        raise WeightsError(f"{path / VOCABULARY}: {error}") from error
    if tokens.ids < tokens.vocab_size:
        raise WeightsError(
            f"{path / VOCABULARY} makes {tokens.ids} ids, and the weights are of "
            f"{tokens.vocab_size}: take that of the hub's {VOCABULARY_FROM}."
        )
    return model.eval()


def model_config(tensors: Mapping[str, Tensor], given: Mapping[str, Any]) -> dict[str, Any]:
    """Sizes by the shapes of the weights, the rest by what open_clip's config says of it.

    Args:
        tensors: Under upstream's names.
        given: `open_clip_config.json`, or nothing: mean pooling, the activation GELU.

    Raises:
        WeightsError: A pooling that is not among ours.
        LookupError, ArithmeticError, TypeError: The tensors are not of such a model.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    described = given.get("model_cfg", {})
    text = described.get("text_cfg", {})
    pooler = text.get("hf_pooler_type", "mean_pooler")
    if pooler not in _POOLERS:
        raise WeightsError(
            f"{CONFIG}: hf_pooler_type={pooler!r} is none of {', '.join(_POOLERS)}, which can be "
            "imported."
        )
    width, _, patch, _ = shapes["visual.conv1.weight"]
    side = patch * math.isqrt(shapes["visual.positional_embedding"][0] - 1)
    block = "visual.transformer.resblocks"
    vocab_size, dim = shapes["text.transformer.embeddings.word_embeddings.weight"]
    layer = "text.transformer.encoder.layer"
    seen = given.get("preprocess_cfg", {})
    return {
        "name": "rs-m-clip:ViT-B-32",
        "embed_dim": shapes["visual.proj"][1],
        "modalities": {
            "image": {
                "preprocess": {
                    "name": "clip_image",
                    "image_size": side,
                    **{key: seen[key] for key in ("mean", "std") if key in seen},
                },
                "encoder": {
                    "name": "clip_vision",
                    "patch_size": patch,
                    "dim": width,
                    "depth": _count(shapes, block),
                    "num_heads": width // _HEAD_DIM,
                    "mlp_ratio": shapes[f"{block}.0.mlp.c_fc.weight"][0] / width,
                    "quick_gelu": described.get("quick_gelu", False),
                },
                "head": {"name": "linear", "bias": False},
            },
            "text": {
                "preprocess": {
                    "name": "sentencepiece_tokens",
                    "context_length": text.get("context_length", 77),
                    "vocab_size": vocab_size,
                },
                "encoder": {
                    "name": "hf_text",
                    "dim": dim,
                    "depth": _count(shapes, layer),
                    "num_heads": dim // _HEAD_DIM,
                    "hidden_dim": shapes[f"{layer}.0.intermediate.dense.weight"][0],
                    "max_positions": shapes[
                        "text.transformer.embeddings.position_embeddings.weight"
                    ][0],
                    "pooler": _POOLERS[pooler],
                },
                "head": {
                    "name": "mlp",
                    "hidden_dim": shapes["text.proj.0.weight"][0],
                    "bias": False,
                    "activation": "gelu",
                },
            },
        },
    }


def _count(names: Mapping[str, Any], prefix: str) -> int:
    """Blocks `<prefix>.<number>.…` among the names."""
    rest = (name.removeprefix(f"{prefix}.") for name in names if name.startswith(f"{prefix}."))
    return len({name.partition(".")[0] for name in rest})
