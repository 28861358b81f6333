"""GeoRSCLIP's published checkpoints, by names and shapes, at full size, without their memory."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from domains.remote_sensing.importing import KEYS, SCHEMAS
from domains.remote_sensing.models import RS_CLIP
from shared.encoders.checkpoints_clip import clip_settings
from shared.encoders.checkpoints_clip_transformers import (
    from_transformers,
    to_transformers,
)
from shared.encoders.clip_files import model_clip_config
from shared.model import Model
from shared.model_config import ModelConfig
from zoo.config import load_group
from zoo.plugins import plugins


@pytest.fixture(scope="module")
def reference() -> Path:
    root = os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "../shared/reference")
    folder = Path(root) / "georsclip"
    if not folder.is_dir():
        pytest.skip(f"no reference: ZOO_REFERENCE or {folder} is needed")
    return folder


def read(reference: Path, name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((reference / f"{name}.json").read_text())
    return data


def build(variant: str) -> Model:
    config = ModelConfig.from_dict(load_group("model", RS_CLIP.variants[variant]))
    with torch.device("meta"):
        return Model.build(config, SCHEMAS, plugins().registries, {"logit_scale": 0.0})


def make_meta(tensors: dict[str, Any]) -> dict[str, torch.Tensor]:
    return {n: torch.empty(shape, device="meta") for n, (shape, _) in tensors.items()}


def published(reference: Path) -> dict[str, dict[str, Any]]:
    """By variant of ours, what the manifest says of its file, with names, shapes and dtypes."""
    manifest = read(reference, "manifest")
    files = {source.files[0]: variant for variant, source in RS_CLIP.upstream.items()}
    return {
        files[said["file"]]: {**said, "name": name, "tensors": manifest["manifests"][name]}
        for name, said in manifest["variants"].items()
    }


def test_every_published_file_is_a_variant(reference: Path) -> None:
    found = published(reference)
    assert found.keys() == RS_CLIP.upstream.keys()
    assert set(RS_CLIP.variants) == {*found, "small"}
    assert all("zoo train" in RS_CLIP.train_command(variant) for variant in RS_CLIP.variants)


def test_names_shapes_and_activations_of_every_variant(reference: Path) -> None:
    for variant, said in published(reference).items():
        model = build(variant)
        ours, theirs = model.state_dict(), make_meta(said["tensors"])
        assert shapes(KEYS.convert(theirs)) == shapes(ours), variant
        assert shapes(KEYS.inverse().convert(ours)) == shapes(theirs), variant
        assert {dtype for _, dtype in said["tensors"].values()} == {"float32"}
        assert len(ours) == said["n_tensors"]
        assert sum(p.numel() for p in model.parameters()) == said["n_params"]
        config = model_clip_config(model)
        assert config["embed_dim"] == said["config"]["embed_dim"]
        assert clip_settings(config) == clip_settings(said["config"]), variant


def test_names_in_transformers_of_every_size(reference: Path) -> None:
    mapping, manifests = read(reference, "hf_key_mapping"), read(reference, "hf_manifest")
    by_name = {said["name"]: said for said in published(reference).values()}
    for name, tensors in manifests["manifests"].items():
        theirs = make_meta(by_name[name]["tensors"])
        renamed = to_transformers(theirs)
        assert shapes(renamed) == shapes(make_meta(tensors)), name
        assert shapes(from_transformers(renamed)) == shapes(theirs), name
        for key, targets in mapping["mapping"][name].items():
            assert list(to_transformers({key: theirs[key]})) == [target for target, _ in targets]


def shapes(tensors: Mapping[str, torch.Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}
