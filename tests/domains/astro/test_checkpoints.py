"""AstroM3's published checkpoints, by names and shapes, at full size."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from domains.astro.checkpoints import (
    SCHEMAS,
    SINGLE,
    TRIMODAL,
    build,
    modalities_of,
    model_config,
)
from domains.astro.importing import identify, import_model
from domains.astro.models import ASTROM3
from shared.model import Model
from shared.model_config import ModelConfig
from shared.schema import Channel, Schema
from shared.training.config import InitConfig
from shared.training.init import load_init
from zoo.config import load_group
from zoo.plugins import plugins

MODES = {"photo": "photometry", "spectra": "spectra", "meta": "metadata"}
"""Upstream's words for a classifier of one modality."""


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


def constructor(configs: dict[str, Any], variant: str) -> dict[str, Any]:
    """Arguments of upstream's class behind a variant; `configs` says the rest of its recipe too."""
    contrastive = variant.startswith("clip")
    config = configs["clip-full" if contrastive else f"{variant}-full-clip"]
    config = {**config, "classification": not contrastive}
    if variant in MODES:
        names = {"s_dropout": "dropout_rate"}
        config = {names.get(k, k.removeprefix(f"{variant[0]}_")): v for k, v in config.items()}
    return config


def make_state(tensors: dict[str, Any]) -> dict[str, Tensor]:
    """Random tensors of a manifest's names and shapes."""
    random = torch.Generator().manual_seed(0)
    return {n: 0.1 * torch.randn(shape, generator=random) for n, (shape, _) in tensors.items()}


def test_every_published_file_is_accepted(reference: Path, tmp_path: Path) -> None:
    imported: dict[str, Model] = {}
    for repository, tensors in read(reference, "manifest").items():
        content = json.dumps(tensors, sort_keys=True)
        # five repositories hold the same names and shapes
        if content not in imported:
            save_file(make_state(tensors), tmp_path / "model.safetensors")
            imported[content] = import_model(tmp_path / "model.safetensors", plugins().registries)
        model = imported[content]
        assert sum(t.numel() for t in model.state_dict().values()) == sum(
            torch.Size(shape).numel() for shape, _ in tensors.values()
        )
        dtypes = {str(t.dtype).removeprefix("torch.") for t in model.state_dict().values()}
        assert dtypes == {dtype for _, dtype in tensors.values()}
        variants = [v for v, source in ASTROM3.upstream.items() if source.repo.endswith(repository)]
        for variant in variants:
            layout = identify(make_meta(tensors), None, variant, repository)
            assert layout.fits(variant), repository
            assert model.config.name == f"astrom3:{layout.variant}"
    assert len(imported) == 6


def make_meta(tensors: dict[str, Any]) -> dict[str, Tensor]:
    return {n: torch.empty(shape, device="meta") for n, (shape, _) in tensors.items()}


def test_every_repository_is_a_variant(reference: Path) -> None:
    repositories = {n for n in read(reference, "manifest") if not n.startswith("_")}
    assert {s.repo.removeprefix("AstroMLCore/") for s in ASTROM3.upstream.values()} == repositories
    assert set(ASTROM3.statistics) == set(ASTROM3.upstream)
    assert set(ASTROM3.variants) == {*ASTROM3.upstream, "base"}
    for variant in ASTROM3.variants:
        assert "zoo train" in ASTROM3.train_command(variant)


@pytest.mark.parametrize("variant", ["clip", "all", "photo", "spectra", "meta"])
def test_configs_are_those_that_shapes_and_upstream_say(reference: Path, variant: str) -> None:
    """The config file, upstream's constructor arguments and the shapes of its weights agree."""
    file = ModelConfig.from_dict(load_group("model", ASTROM3.variants[variant]))
    given = constructor(read(reference, "configs"), variant)
    (repository,) = (
        r for r in read(reference, "manifest") if ASTROM3.upstream[variant].repo.endswith(f"/{r}")
    )
    tensors = make_meta(read(reference, "manifest")[repository])
    inferred = dict(identify(tensors, None, variant, repository).config)
    for config in (given, inferred):
        ours = model_config(config, f"astrom3:{variant}", "raw")
        assert ours.name == file.name
        assert ours.embed_dim == file.embed_dim
        assert list(ours.modalities) == list(file.modalities)
        if file.classifier:
            assert ours.classifier is not None
            assert (ours.classifier.features, ours.classifier.fusion) == (
                file.classifier.features,
                file.classifier.fusion,
            )
        for modality, part in file.modalities.items():
            own = ours.modalities[modality]
            assert (own.preprocess, own.head) == (part.preprocess, part.head)
            dropout = own.encoder.pop("dropout")
            expected = {k: v for k, v in part.encoder.items() if k != "dropout"}
            assert own.encoder == expected
            # shapes do not tell dropouts
            if config is given:
                assert dropout == pytest.approx(part.encoder["dropout"], abs=1e-6)


def test_processed_and_raw_configs_take_the_same_weights() -> None:
    published, processed = (
        ModelConfig.from_dict(load_group("model", f"astrom3/{name}"))
        for name in ("published", "processed")
    )
    for modality, part in published.modalities.items():
        assert part.encoder == processed.modalities[modality].encoder


def test_fine_tuning_copies_what_upstream_copies(reference: Path, tmp_path: Path) -> None:
    """A classifier that starts from a contrastive checkpoint, by `init.weights` alone."""
    mapping = read(reference, "finetune_mapping")["modes"]
    names = {n for mode in mapping.values() for n in mode["copied"]}
    layers = {n.split(".attn_layers.")[1][0] for n in names if ".attn_layers." in n}
    small = {**SMALL, "p_e_layers": len(layers)}
    source = build_small({**small, "classification": False})
    known = {TRIMODAL.name(n) for n in names}
    assert known == set(source.state_dict())
    random = torch.Generator().manual_seed(0)
    source.load_state_dict(
        {n: torch.randn(t.shape, generator=random) for n, t in source.state_dict().items()}
    )
    source.save(tmp_path, "")
    for mode, lists in mapping.items():
        keys = SINGLE[MODES[mode]] if mode in MODES else TRIMODAL
        config = {**small, "classification": True}
        if mode in MODES:
            others = tuple(f"{other[0]}_" for other in MODES if other != mode)
            config = {k: v for k, v in config.items() if not k.startswith(others)}
            config = {k.removeprefix(f"{mode[0]}_"): v for k, v in config.items()}
        target = build_small(config)
        before = {n: t.clone() for n, t in target.state_dict().items()}
        load_init(target, InitConfig(weights=str(tmp_path)))
        after, given = target.state_dict(), source.state_dict()
        for theirs, copy in lists["copied"].items():
            ours = keys.name(copy)
            assert ours is not None
            assert torch.equal(after[ours], given[TRIMODAL.name(theirs)]), ours
        fresh = {keys.name(name) for name in lists["left_at_init"]}
        assert {keys.name(n) for n in lists["copied"].values()} | fresh == set(after)
        assert all(torch.equal(after[n], before[n]) for n in fresh if n is not None)


SMALL: dict[str, Any] = {
    **{"num_classes": 3, "hidden_dim": 6, "fusion": "avg", "seq_len": 20},
    **{"p_enc_in": 9, "p_d_model": 8, "p_dropout": 0.0, "p_factor": 1, "p_n_heads": 2},
    **{"p_d_ff": 12, "p_activation": "gelu", "s_dropout": 0.0, "s_conv_channels": [3, 4, 4, 4, 5]},
    **{"s_kernel_size": 3, "s_mp_kernel_size": 4, "m_input_dim": 7, "m_hidden_dim": 5},
    "m_dropout": 0.0,
}
"""Arguments of upstream's class for a small model."""


def build_small(config: dict[str, Any]) -> Model:
    """A model of upstream's sizes that takes samples with that many channels."""
    first = {
        "photometry": config.get("p_enc_in", config.get("enc_in", 0)),
        "spectra": config.get("s_conv_channels", config.get("conv_channels", [0]))[0],
        "metadata": config.get("m_input_dim", config.get("input_dim", 0)),
    }
    schemas = {
        m: Schema(m, SCHEMAS["processed"][m].axes, tuple(Channel(f"c{i}") for i in range(first[m])))
        for m in modalities_of(config)
    }
    return build(model_config(config, spectrum_length=400), schemas, plugins().registries)
