"""The names of MAE's published checkpoints against our modules at full size."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.encoders.checkpoints_mae import mae_training
from shared.encoders.checkpoints_vit import MAE as ENCODER
from shared.encoders.vit import VisionTransformer
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.objectives.mae import MAE
from shared.training.runner import Runner

Shapes = dict[str, tuple[int, ...]]


@pytest.fixture(scope="module")
def manifest() -> dict[str, Any]:
    root = os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "../shared/reference")
    path = Path(root) / "mae" / "manifest.json"
    if not path.is_file():
        pytest.skip(f"no reference: ZOO_REFERENCE or {path} is needed")
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def build(theirs: Shapes) -> Runner:
    """MAE as large as a checkpoint, without memory for its weights."""
    dim, channels, patch_size, _ = theirs["patch_embed.proj.weight"]
    grid = int((theirs["pos_embed"][1] - 1) ** 0.5)
    depth = sum(name.startswith("blocks.") and name.endswith(".norm1.weight") for name in theirs)
    decoder = {}
    if "mask_token" in theirs:
        blocks = [n for n in theirs if n.startswith("decoder_blocks.") and n.endswith("1.weight")]
        decoder["decoder_dim"] = theirs["mask_token"][2]
        decoder["decoder_depth"] = sum(name.endswith("norm1.weight") for name in blocks)
    with torch.device("meta"):
        encoder = VisionTransformer(
            grid * patch_size,
            channels,
            patch_size=patch_size,
            dim=dim,
            depth=depth,
            num_heads=16,
            layer_scale=None,
            positions="sincos",
        )
        config = ModelConfig("mae", dim, {"image": ModalityConfig({}, {}, head=None)})
        model = Model(config, {}, {"image": encoder}, None, {})
        return Runner(model, {"mae": MAE(["image"], **decoder)}, {"mae": 1.0})


def test_published_checkpoints(manifest: dict[str, Any]) -> None:
    for published, tensors in manifest.items():
        theirs: Shapes = {name: tuple(shape) for name, (shape, _) in tensors.items()}
        runner = build(theirs)
        keys = mae_training("image", "mae")
        module: torch.nn.Module = runner
        if "mask_token" not in theirs:
            keys, module = ENCODER, runner.model.encoders["image"]
        expected = {keys.name(name): shape for name, shape in theirs.items()}
        ours = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
        assert len(expected) == len(theirs), published
        assert ours == expected, published
        kept = {ENCODER.name(name) for name in theirs} - {None}
        assert kept == set(runner.model.encoders["image"].state_dict()), published
