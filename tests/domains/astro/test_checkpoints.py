"""The names of AstroM3's published checkpoints against our models at full size."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch

from domains.astro.checkpoints import SINGLE, SPECTRUM_LENGTH, TRIMODAL, single, trimodal
from shared.model import Model
from shared.weights import KeyMap
from zoo.plugins import plugins

MODALITIES = {"photo": "photometry", "spectra": "spectra", "meta": "metadata"}


@pytest.fixture(scope="module")
def reference() -> Path:
    root = os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "../shared/reference")
    folder = Path(root) / "astrom3"
    if not folder.is_dir():
        pytest.skip(f"no reference: ZOO_REFERENCE or {folder} is needed")
    return folder


def read(reference: Path, name: str) -> dict[str, Any]:
    data: dict[str, Any] = json.loads((reference / f"{name}.json").read_text())
    return data


def build(configs: dict[str, Any], repository: str) -> tuple[Model, KeyMap]:
    """What a published repository holds, without memory for its weights."""
    registries = plugins().registries
    kind = repository.rpartition("-")[2]
    with torch.device("meta"):
        if kind in MODALITIES:
            config = {**configs[f"{kind}-full-clip"], "classification": True}
            own = {key.removeprefix(f"{kind[0]}_"): value for key, value in config.items()}
            modality = MODALITIES[kind]
            return single(modality, own, registries, SPECTRUM_LENGTH), SINGLE[modality]
        if kind == "all" or kind == "concat":
            config = {**configs["all-full-clip"], "classification": True}
            config["fusion"] = "concat" if kind == "concat" else config["fusion"]
            return trimodal(config, registries), TRIMODAL
        return trimodal({**configs["clip-full"], "classification": False}, registries), TRIMODAL


def test_manifest(reference: Path) -> None:
    configs, manifest = read(reference, "configs"), read(reference, "manifest")
    for repository, tensors in manifest.items():
        model, keys = build(configs, repository)
        theirs = {keys.name(name): (shape, dtype) for name, (shape, dtype) in tensors.items()}
        assert len(theirs) == len(tensors)
        ours = {
            name: (list(tensor.shape), str(tensor.dtype).removeprefix("torch."))
            for name, tensor in model.state_dict().items()
        }
        assert ours == theirs, repository


def test_fine_tuning_copies_what_upstream_copies(reference: Path) -> None:
    """A classifier that starts from the encoders of a contrastive checkpoint."""
    configs, modes = read(reference, "configs"), read(reference, "finetune_mapping")["modes"]
    for mode, mapping in modes.items():
        target = SINGLE[MODALITIES[mode]] if mode in MODALITIES else TRIMODAL
        for source, copy in mapping["copied"].items():
            assert TRIMODAL.name(source) == target.name(copy)
        fresh = {target.name(name) for name in mapping["left_at_init"]}
        assert fresh == {"classifier.weight", "classifier.bias"}
        model, _ = build(configs, mode)
        copied = {target.name(copy) for copy in mapping["copied"].values()}
        assert copied | fresh <= set(model.state_dict())
