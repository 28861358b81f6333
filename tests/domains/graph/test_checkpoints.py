"""The names of GraphCLIP's published checkpoint against our model at full size."""

import json
import os
from pathlib import Path

import pytest
import torch

from domains.graph.checkpoints import GRAPHCLIP, graphclip
from shared.errors import WeightsError
from zoo.plugins import plugins

MINILM = {
    "vocab_size": 30522,
    "hidden_size": 384,
    "num_hidden_layers": 6,
    "num_attention_heads": 12,
    "intermediate_size": 1536,
    "max_position_embeddings": 512,
}
PUBLISHED = {
    "in_dim": 384,
    "channels": 1024,
    "layers": 12,
    "heads": 8,
    "pe_dim": 8,
    "text": MINILM,
}


@pytest.fixture(scope="module")
def manifest() -> dict:
    root = os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "../shared/reference")
    path = Path(root) / "graphclip" / "manifest.json"
    if not path.is_file():
        pytest.skip(f"no reference: ZOO_REFERENCE or {path} is needed")
    (tensors,) = json.loads(path.read_text()).values()
    return tensors


def test_manifest(manifest: dict) -> None:
    with torch.device("meta"):
        model = graphclip(PUBLISHED, plugins().registries)
    ours = {
        name: [list(tensor.shape), str(tensor.dtype).removeprefix("torch.")]
        for name, tensor in model.state_dict().items()
    }
    theirs = {GRAPHCLIP.name(name): tensor for name, tensor in manifest.items()}
    del theirs[None]
    assert ours == theirs
    used = [name for name in manifest if GRAPHCLIP.name(name) is not None]
    assert len(used) == len(theirs)


def test_old_position_ids_are_left_out() -> None:
    assert GRAPHCLIP.name("text_model.embeddings.position_ids") is None


def test_other_names_are_refused() -> None:
    with pytest.raises(WeightsError, match=r"graph_model\.convs\.0\.gate"):
        GRAPHCLIP.name("graph_model.convs.0.gate.weight")
