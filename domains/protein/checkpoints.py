"""Upstream checkpoints of ProtST (arXiv:2301.12040): their configs and names in our terms."""

import math
from collections.abc import Mapping
from typing import Any

from shared.encoders.base import Encoder, Fusion
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.registry import Registries
from shared.weights import KeyMap

# fair-esm's names inside an encoder and those of transformers
_ESM = (
    ("embed_tokens.*", "embeddings.word_embeddings.*"),
    ("embed_positions.*", "embeddings.position_embeddings.*"),
    ("emb_layer_norm_before.*", "embeddings.layer_norm.*"),
    ("layers.*.self_attn.q_proj.*", "encoder.layer.*.attention.self.query.*"),
    ("layers.*.self_attn.k_proj.*", "encoder.layer.*.attention.self.key.*"),
    ("layers.*.self_attn.v_proj.*", "encoder.layer.*.attention.self.value.*"),
    ("layers.*.self_attn.out_proj.*", "encoder.layer.*.attention.output.dense.*"),
    ("layers.*.self_attn_layer_norm.*", "encoder.layer.*.attention.LayerNorm.*"),
    ("layers.*.fc1.*", "encoder.layer.*.intermediate.dense.*"),
    ("layers.*.fc2.*", "encoder.layer.*.output.dense.*"),
    ("layers.*.final_layer_norm.*", "encoder.layer.*.LayerNorm.*"),
    ("emb_layer_norm_after.*", "encoder.emb_layer_norm_after.*"),
)
_ESM_IGNORED = {
    "layers.*.self_attn.rot_emb.inv_freq": "follows from the width of a head",
    "contact_head.*": "predicts contacts",
    "lm_head.*": "predicts residues in ESM's own vocabulary",
}
_BERT = (
    ("embeddings.*.*", "embeddings.*.*"),
    ("encoder.*", "encoder.*"),
    ("pooler.*", "pooler.*"),
)

Rules = tuple[tuple[str, str], ...]


def _rename(rules: Rules, theirs: str, ours: str) -> Rules:
    """Rules for names behind a prefix."""
    return tuple((theirs + a, ours + b) for a, b in rules)


def _protein_keys(prefix: str = "", heads: bool = True) -> KeyMap:
    projections = (
        (f"{prefix}graph_mlp.*", "heads.protein.*"),
        (f"{prefix}residue_mlp.*", "token_heads.protein.*"),
    )
    backbone = (
        *_rename(_ESM, f"{prefix}model.", "encoders.protein.esm."),
        *_rename(_BERT, f"{prefix}model.", "encoders.protein.bert."),
    )
    ignored = {f"{prefix}model.{name}": why for name, why in _ESM_IGNORED.items()}
    ignored[f"{prefix}mapping"] = "follows from the vocabulary"
    ignored[f"{prefix}model.embeddings.position_ids"] = "follows from max_positions"
    if heads:
        return KeyMap((*projections, *backbone), ignored)
    return KeyMap(backbone, ignored | {theirs: "is not used" for theirs, _ in projections})


def _text_keys(prefix: str = "") -> KeyMap:
    rules = (
        (f"{prefix}text_mlp.*", "heads.text.*"),
        (f"{prefix}word_mlp.*", "token_heads.text.*"),
        *_rename(_BERT, f"{prefix}model.bert.", "encoders.text.bert."),
    )
    ignored = {
        f"{prefix}model.cls.*": "predicts words from BERT alone",
        f"{prefix}model.bert.embeddings.position_ids": "follows from max_positions",
    }
    return KeyMap(rules, ignored)


_FUSION = (
    *((f"layers.*.query{n + 1}.*", f"layers.*.query.{n}.*") for n in range(2)),
    *((f"layers.*.key{n + 1}.*", f"layers.*.key.{n}.*") for n in range(2)),
    *((f"layers.*.value{n + 1}.*", f"layers.*.value.{n}.*") for n in range(2)),
    ("protein_batch_norm_layers.*", "norms.0.*"),
    ("text_batch_norm_layers.*", "norms.1.*"),
)
_MASK_HEADS = (
    ("mlm_head.*", "heads.protein.*"),
    ("mmp_protein_head.*", "fused_heads.protein.*"),
    ("mmp_text_head.*", "fused_heads.text.*"),
)

PROTEIN, TEXT, FUSION = _protein_keys(), _text_keys(), KeyMap(_FUSION)
"""Names of a part that stands alone; those of the encoders lead to a model of one modality."""

BACKBONE = _protein_keys(heads=False)
"""Names of a protein encoder whose heads are left out."""

_WHOLE = (_protein_keys("protein_model."), _text_keys("text_model."))

PROTST = KeyMap(
    (
        *_WHOLE[0].rules,
        *_WHOLE[1].rules,
        *_rename(_FUSION, "fusion_model.", "fusion."),
        ("logit_scale", "scalars.logit_scale"),
    ),
    {
        **_WHOLE[0].ignored,
        **_WHOLE[1].ignored,
        **{theirs: "belongs to the objective" for theirs, _ in _MASK_HEADS},
    },
)
"""Names of a model of both modalities with its fusion."""

OBJECTIVE = KeyMap(
    _MASK_HEADS,
    {f"{part}*": "belongs to the model" for part in ("protein_", "text_", "fusion_", "logit_")},
)
"""Names of the heads of `masked_fusion` in the same checkpoints."""

CLS_ID, SEP_ID, MASK_ID = 2, 3, 4
"""Special ids of PubMedBERT's vocabulary; padding is 0."""

_BACKBONES: dict[str, dict[str, Any]] = {
    "ESM-1b": {"name": "esm", "variant": "esm1b"},
    "ESM-2": {"name": "esm", "variant": "esm2"},
    "ProtBert": {"name": "protbert", "attend_padding": True},
}


def build(config: Mapping[str, Any], registries: Registries) -> Model:
    """A model with ProtST's parts.

    Args:
        config: `protein`, `text` and `fusion`, each with upstream's arguments, or some of them:
            `layers`, `dim`, `heads`, `ffn`, `max_positions` (None: the default), `readout` and
            `output_dim` of both encoders; also `backbone` and, possibly, `use_proj` of the protein
            and `vocab_size` of the text; `num_layers`, `num_heads` and `batch_norm` of the fusion.
        registries: Where the encoders are found.

    Returns:
        The model with fresh weights and without preprocessing.
    """
    parts: dict[str, ModalityConfig] = {}
    encoders: dict[str, Encoder] = {}
    for modality, settings_of in (("protein", _protein_settings), ("text", _text_settings)):
        if modality in config:
            settings = settings_of(config[modality])
            head = {"name": "mlp"} if config[modality].get("use_proj", True) else None
            parts[modality] = ModalityConfig({}, settings, head, head)
            encoders[modality] = _build_part(registries, settings)
            width = config[modality]["output_dim"] if head else encoders[modality].dim
    fusion: Fusion | None = None
    if "fusion" in config:
        fusion = _build_part(
            registries, fusion_settings(config["fusion"]), dict.fromkeys(parts, width)
        )
    scalars = {"logit_scale": math.log(1 / 0.07)} if len(parts) == 2 else {}
    return Model(ModelConfig("protst", width, parts), {}, encoders, fusion, scalars)


def fusion_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    """Our settings of the fusion from upstream's arguments."""
    return {
        "name": "cross_attention_fusion",
        "depth": config["num_layers"],
        "num_heads": config["num_heads"],
        "batch_norm": config["batch_norm"],
    }


def _build_part(registries: Registries, part: Mapping[str, Any], *args: object) -> Any:
    settings = {key: value for key, value in part.items() if key != "name"}
    return registries.encoders.build(part["name"], "ProtST config", *args, **settings)


def _common(config: Mapping[str, Any]) -> dict[str, Any]:
    names = {"dim": "dim", "layers": "depth", "heads": "num_heads", "ffn": "ffn_dim"}
    settings = {ours: config[theirs] for theirs, ours in names.items()}
    settings["readout"] = config["readout"]
    if config["max_positions"] is not None:
        settings["max_positions"] = config["max_positions"]
    return settings


def _protein_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    return {**_BACKBONES[config["backbone"]], **_common(config)}


def _text_settings(config: Mapping[str, Any]) -> dict[str, Any]:
    special = {"vocab_size": config["vocab_size"], "special_ids": [CLS_ID, SEP_ID]}
    return {"name": "bert_text", **special, **_common(config)}
