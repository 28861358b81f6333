"""DINOv2 tables that are no case: parameter groups, tensors of the published backbones."""

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.data.image_files import IMAGE
from shared.encoders.checkpoints_vit import DINOV2, dinov2_training
from shared.encoders.vit import VisionTransformer
from shared.training.build import assemble
from shared.training.config import OptimizerConfig, TrainConfig
from shared.training.optimization import parameter_scales
from shared.training.runner import Runner
from zoo.plugins import plugins

ROOT = Path(os.environ.get("ZOO_REFERENCE", Path(__file__).parents[2] / "../shared/reference"))


def read(name: str) -> dict[str, Any]:
    path = ROOT / "dinov2" / name
    if not path.exists():
        pytest.skip(f"no {path}: ZOO_REFERENCE is needed")
    table: dict[str, Any] = json.loads(path.read_text())
    return table


def layout(names: list[str]) -> dict[str, Any]:
    """Settings of a backbone that follow from its parameters' names."""
    blocks = [int(n) for name in names for n in re.findall(r"blocks\.(?:\d+\.)?(\d+)\.[a-z]", name)]
    return {
        "depth": max(blocks, default=0) + 1,
        "ffn": "swiglu" if any("w12" in name for name in names) else "mlp",
        "mask_token": True,
    }


def build_runner(config: OptimizerConfig, encoder: dict[str, Any]) -> Runner:
    image = {
        "preprocess": {"name": "image", "image_size": 32},
        "encoder": {"name": "vit", "dim": 16, "num_heads": 2, **encoder},
        "head": None,
    }
    head = {"prototypes": 8, "hidden_dim": 8, "bottleneck_dim": 4}
    sizes = {"global_size": 32, "local_size": 16}
    train = TrainConfig(
        domain="astro",
        data={},
        model={"name": "vit", "embed_dim": 16, "modalities": {"image": image}},
        objective={"dinov2": {"name": "dinov2", "head": head, **sizes}},
        optimizer=config,
    )
    return assemble(train, train.model, {"image": IMAGE}, plugins().registries)


def test_parameter_groups() -> None:
    keys = dinov2_training("image", "dinov2")
    for variant, table in read("param_groups.json").items():
        names = [group["name"] for group in table["groups"]]
        is_head = any("last_layer" in name for name in names)
        config = OptimizerConfig(
            layer_decay=table["layerwise_decay"],
            rules=[
                {"match": "*patch_embed*", "lr_scale": table["patch_embed_lr_mult"]},
                {"match": "*last_layer*", "freeze_epochs": 1},
            ],
        )
        registers = 4 if "register_tokens" in names else 0
        runner = build_runner(config, {**layout(names), "num_registers": registers})
        scales = parameter_scales(runner, config)
        part = "dino_head" if is_head else "backbone"
        for group in table["groups"]:
            ours = scales[str(keys.name(f"student.{part}.{group['name']}"))]
            where = f"{variant}: {group['name']}"
            assert ours.lr == pytest.approx(group["lr_multiplier"], rel=1e-9), where
            assert ours.weight_decay == group["wd_multiplier"], where
            assert ours.freeze_epochs == group["is_last_layer"], where
        prefix = "objectives.dinov2.dino_head." if is_head else "model.encoders.image."
        assert len(names) == sum(name.startswith(prefix) for name in scales), variant


def test_published_backbones() -> None:
    for published, tensors in read("manifest.json").items():
        shapes = {str(DINOV2.name(name)): tuple(shape) for name, (shape, _) in tensors.items()}
        dim, channels, patch, _ = shapes["patch_embed.proj.weight"]
        grid = int((shapes["pos_embed"][1] - 1) ** 0.5)
        with torch.device("meta"):
            encoder = VisionTransformer(
                grid * patch,
                channels,
                patch_size=patch,
                dim=dim,
                num_heads=dim // 64,
                num_registers=shapes.get("register_tokens", (1, 0))[1],
                **layout(list(tensors)),
            )
        ours = {name: tuple(tensor.shape) for name, tensor in encoder.state_dict().items()}
        assert ours == shapes, published
