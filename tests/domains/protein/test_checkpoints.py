"""The names of ProtST's published checkpoints against our models at full size."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from domains.protein import checkpoints as protst
from domains.protein.residues import MASK_ID, RESIDUES
from shared.objectives.base import Objective
from shared.weights import KeyMap
from zoo.plugins import plugins

TEXT = {
    "layers": 12,
    "dim": 768,
    "heads": 12,
    "ffn": 3072,
    "vocab_size": 30522,
    "max_positions": 512,
    "output_dim": 512,
    "readout": "mean",
}
ESM = {"layers": 33, "dim": 1280, "heads": 20, "ffn": 5120, "output_dim": 512, "readout": "mean"}
PROTEIN = {
    "protst_esm1b": {"backbone": "ESM-1b", "max_positions": 1026, **ESM},
    "protst_esm2": {"backbone": "ESM-2", "max_positions": None, **ESM},
    "protst_protbert": {
        "backbone": "ProtBert",
        "layers": 30,
        "dim": 1024,
        "heads": 16,
        "ffn": 4096,
        "max_positions": 40000,
        "output_dim": 512,
        "readout": "pooler",
    },
}
FUSION = {"num_layers": 1, "num_heads": 8, "batch_norm": True}


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    root = os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "../shared/reference")
    path = Path(root) / "protst/manifest.json"
    if not path.is_file():
        pytest.skip(f"no reference: ZOO_REFERENCE or {path} is needed")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def make_objective() -> Objective:
    words = {"vocab_size": TEXT["vocab_size"], "mask_id": protst.MASK_ID, "weight": 0.0}
    residues = {"vocab_size": len(RESIDUES), "mask_id": MASK_ID, "choice": "number"}
    objective: Objective = plugins().registries.objectives.build(
        "masked_fusion", "test", ["protein", "text"], masking={"protein": residues, "text": words}
    )
    return objective


def shapes(module: nn.Module) -> dict[str, list[int]]:
    return {name: list(tensor.shape) for name, tensor in module.state_dict().items()}


def renamed(manifest: dict[str, Any], keys: KeyMap) -> dict[str, list[int]]:
    named = {keys.name(upstream): shape for upstream, (shape, _) in manifest.items()}
    return {name: shape for name, shape in named.items() if name is not None}


@pytest.mark.parametrize("name", PROTEIN)
def test_every_tensor_has_its_place(manifest: dict[str, Any], name: str) -> None:
    """Of the model and of the heads that the objective keeps, without memory for weights."""
    config = {"protein": PROTEIN[name], "text": TEXT, "fusion": FUSION}
    objective = make_objective()
    with torch.device("meta"):
        model = protst.build(config, plugins().registries)
        objective.bind(model)
    assert renamed(manifest[name], protst.PROTST) == shapes(model)
    assert renamed(manifest[name], protst.OBJECTIVE) == shapes(objective)


def test_heads_can_be_left_out() -> None:
    """As supervised tasks do: the encoder stays, at its own width."""
    small = {"layers": 1, "dim": 8, "heads": 1, "ffn": 8}
    config = {**PROTEIN["protst_esm2"], **small, "use_proj": False}
    model = protst.build({"protein": config}, plugins().registries)
    assert model.config.embed_dim == 8
    assert not model.heads
    assert protst.BACKBONE.name("graph_mlp.layers.0.weight") is None
    assert protst.PROTEIN.name("graph_mlp.layers.0.weight") == "heads.protein.layers.0.weight"


def test_a_buffer_of_older_releases_is_left_out() -> None:
    assert protst.PROTST.name("text_model.model.bert.embeddings.position_ids") is None
