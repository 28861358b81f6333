"""Upstream checkpoints of GraphCLIP (arXiv:2410.10329): their configs and names in our terms."""

import math
from collections.abc import Mapping
from typing import Any

from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.registry import Registries
from shared.weights import KeyMap

WALK_LENGTH = 32
DIM = 384
CENTRE_DIM = 768
"""Widths that upstream's code fixes: of the random-walk encoding and of the two heads."""

_GRAPH = (
    ("node_emb.*", "node_embedding.*"),
    ("pe_norm.*", "positional_norm.*"),
    ("pe_lin.*", "positional_embedding.*"),
    ("convs.*.conv.lin_l.*", "layers.*.sage.neighbours.*"),
    ("convs.*.conv.lin_r.*", "layers.*.sage.itself.*"),
    ("convs.*.attn.in_proj_*", "layers.*.attention.qkv.*"),
    ("convs.*.attn.out_proj.*", "layers.*.attention.out.*"),
    ("convs.*.mlp.0.*", "layers.*.mlp.0.*"),
    ("convs.*.mlp.3.*", "layers.*.mlp.2.*"),
    ("convs.*.norm*.module.*", "layers.*.norm*.*"),
    ("mlp.0.*", "head.*"),
    ("mlp2.0.*", "centre_head.*"),
)
_GRAPH_IGNORED = {
    "attn_pool.*": "a pooling that no forward calls",
    "lora_*": "low-rank updates that no forward adds",
}
_TEXT = tuple(
    (name, f"bert.{name}")
    for name in ("embeddings.*_embeddings.weight", "embeddings.LayerNorm.*", "encoder.layer.*")
)
_TEXT_IGNORED = {
    "pooler.*": "texts are pooled by their mean",
    "embeddings.position_ids": "the numbers 0, 1, 2, …",
}

GRAPH = KeyMap(_GRAPH, _GRAPH_IGNORED)
"""Names of the graph encoder alone."""

TEXT = KeyMap(_TEXT, _TEXT_IGNORED)
"""Names of the text encoder alone."""

GRAPHCLIP = KeyMap(
    (
        *((f"graph_model.{theirs}", f"encoders.graph.{ours}") for theirs, ours in _GRAPH),
        *((f"text_model.{theirs}", f"encoders.text.{ours}") for theirs, ours in _TEXT),
        ("logit_scale", "scalars.logit_scale"),
    ),
    {f"graph_model.{name}": why for name, why in _GRAPH_IGNORED.items()}
    | {f"text_model.{name}": why for name, why in _TEXT_IGNORED.items()},
)
"""Names of the whole model."""


def gps_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Upstream's constructor arguments → settings of `gps`, with all that checkpoints hold."""
    return {
        "in_channels": config["in_dim"],
        "walk_length": config.get("walk_length", WALK_LENGTH),
        "dim": DIM,
        "hidden_dim": config["channels"],
        "depth": config["layers"],
        "num_heads": config["heads"],
        "positional_dim": config["pe_dim"],
        "centre_dim": CENTRE_DIM,
    }


def text_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """transformers' config of a BERT → settings of `bert_text`."""
    return {
        "vocab_size": config["vocab_size"],
        "dim": config["hidden_size"],
        "depth": config["num_hidden_layers"],
        "num_heads": config["num_attention_heads"],
        "ffn_dim": config["intermediate_size"],
        "max_positions": config["max_position_embeddings"],
        "dropout": config.get("hidden_dropout_prob", 0.1),
    }


def graphclip(config: Mapping[str, Any], registries: Registries) -> Model:
    """The model of graphs and texts, with fresh weights and without preprocessing.

    Args:
        config: Upstream's constructor arguments, and under `text` transformers' config of the BERT.
        registries: Where the encoders are found.
    """
    parts = {
        "graph": {"name": "gps", **gps_settings(config)},
        "text": {"name": "bert_text", **text_settings(config["text"])},
    }
    encoders = {
        modality: registries.encoders.build(
            part["name"],
            f"GraphCLIP config, {modality}",
            **{name: value for name, value in part.items() if name != "name"},
        )
        for modality, part in parts.items()
    }
    modalities = {m: ModalityConfig({}, part, head=None) for m, part in parts.items()}
    model = ModelConfig("graphclip", DIM, modalities)
    return Model(model, {}, encoders, None, {"logit_scale": math.log(1 / 0.07)})
