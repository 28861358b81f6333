"""Low-rank adaptation: exact where it should be, and a plain model at the end."""

import re
import shutil
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn

from shared.errors import ConfigError
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.training.config import LoraConfig
from shared.training.lora import (
    OpenAttention,
    add_lora,
    merge_lora,
    open_attention,
    save_adapter,
)
from zoo.cli.main import main
from zoo.plugins import plugins

RANK = 3


def towers() -> Model:
    """Both towers of CLIP and one of XLM-RoBERTa's kind: packed attention, causal, and linears."""
    torch.manual_seed(0)
    sizes = {"dim": 24, "depth": 2, "num_heads": 3}
    build = plugins().registries.encoders.build
    encoders = {
        "image": build("clip_vision", "test", image_size=8, in_channels=3, patch_size=4, **sizes),
        "text": build("clip_text", "test", vocab_size=20, context_length=6, **sizes),
        "words": build("hf_text", "test", vocab_size=20, hidden_dim=48, max_positions=8, **sizes),
    }
    head = {"name": "linear", "bias": False}
    config = ModelConfig("towers", 16, {m: ModalityConfig({}, {}, head) for m in encoders})
    return Model(config, {}, encoders, None, {"logit_scale": 1.0}).eval()


def embed(model: Model) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(2, 20, (5, 6), generator=generator)
    inputs = {
        "image": {"values": torch.randn(5, 3, 8, 8, generator=generator)},
        "text": {"input_ids": ids},
        "words": {"input_ids": ids},
    }
    rows = [model.project(m, model.encode(m, inputs[m]).pooled) for m in model.modalities]
    return torch.stack(rows)


def learn(model: Model) -> None:
    """What training would: B is zero at the start."""
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)


def test_nothing_changes_until_something_is_learned_and_only_that_is_trained() -> None:
    model = towers()
    before = embed(model)
    add_lora(model, LoraConfig(rank=RANK, modalities=["image", "words"]))
    assert torch.allclose(embed(model), before, atol=1e-6)
    for name, parameter in model.named_parameters():
        adapted = name.startswith(("encoders.image.", "encoders.words."))
        assert parameter.requires_grad == ("lora_" in name if adapted else True), name
    # every pair of matrices is reached by the gradient
    learn(model)
    embed(model)[..., 0].sum().backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if "lora_" in n)


def test_merging_is_exact_and_leaves_a_plain_model() -> None:
    model = towers()
    plain, start = [*model.state_dict()], deepcopy(model.state_dict())
    add_lora(model, LoraConfig(rank=RANK))
    learn(model)
    adapted = embed(model)
    merge_lora(model)
    assert [*model.state_dict()] == plain
    assert not any(isinstance(m, OpenAttention) for m in model.modules())
    assert (embed(model) - adapted).abs().max() < 1e-5
    for name, value in model.state_dict().items():
        change = value - start[name]
        linear = "trunk" in name and value.ndim == 2 and "embedding" not in name
        if linear:
            assert 1 <= torch.linalg.matrix_rank(change, rtol=1e-4) <= RANK, name
        else:
            assert not change.any(), name


def test_the_adapter_is_peft_s(tmp_path: Path) -> None:
    base = towers()
    model = deepcopy(base)
    add_lora(model, LoraConfig(rank=RANK, alpha=5.0))
    learn(model)
    save_adapter(model, tmp_path)
    assert (embed(base) - embed(model)).abs().max() > 1e-3
    open_attention(base)
    loaded = PeftModel.from_pretrained(base, str(tmp_path)).base_model.model
    assert torch.equal(embed(loaded), embed(model))


@pytest.mark.parametrize("masked", ["no", "bool", "additive", "padding"])
def test_open_attention_is_torch_s(masked: str) -> None:
    torch.manual_seed(0)
    attention, x = nn.MultiheadAttention(12, 3, batch_first=True).eval(), torch.randn(2, 5, 12)
    later = torch.ones(5, 5, dtype=torch.bool).triu(1)
    masks = {
        "no": {},
        "bool": {"attn_mask": later},
        "additive": {"attn_mask": torch.zeros(5, 5).masked_fill(later, -torch.inf)},
        "padding": {"key_padding_mask": torch.arange(5) >= torch.tensor([[3], [5]])},
    }[masked]
    expected = attention(x, x, x, need_weights=False, **masks)[0]
    opened = OpenAttention(attention)
    assert torch.allclose(opened(x, x, x, **masks)[0], expected, atol=1e-6)
    closed = opened.closed()
    assert torch.equal(closed(x, x, x, need_weights=False, **masks)[0], expected)
    with pytest.raises(ConfigError, match="not of a sequence with itself"):
        opened(x, x.clone(), x)


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"no 'images'\. Did you mean 'image'"):
        add_lora(towers(), LoraConfig(modalities=["images"]))
    convolutions = plugins().registries.encoders.build(
        "galspecnet", "test", in_channels=1, input_length=64, conv_channels=[2]
    )
    config = ModelConfig("x", convolutions.dim, {"spectra": ModalityConfig({}, {}, None)})
    with pytest.raises(ConfigError, match=r"spectra has no linear maps.* lora\.modalities"):
        add_lora(Model(config, {}, {"spectra": convolutions}, None, {}), LoraConfig())
    with pytest.raises(ConfigError, match="batch_first=False"):
        open_attention(nn.Sequential(nn.MultiheadAttention(4, 2)))


QUICK = ["domain=astro", "data.n_stars=40", "loader.batch_size=16", "trainer.device=cpu",
         "trainer.log_every_n_steps=1", "trainer.checkpoint_every_n_steps=1",
         "modalities=[photometry,metadata]", "online_probe=false", "evaluator=null"]  # fmt: skip


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run from the beginning, and one that adapts it: a transformer and a perceptron."""
    folder, threads = tmp_path_factory.mktemp("runs"), torch.get_num_threads()
    torch.set_num_threads(1)
    base, adapted = folder / "base", folder / "adapted"
    assert main(["train", *QUICK, "trainer.max_epochs=1", f"run_folder={base}"]) == 0
    lora = [f"init.weights={base}", "lora={rank: 2, modalities: [photometry]}"]
    settings = [*lora, "trainer.max_epochs=2", f"run_folder={adapted}"]
    assert main(["train", *QUICK, *settings]) == 0
    torch.set_num_threads(threads)
    return base, adapted


def load(folder: Path) -> Model:
    return Model.load(folder / "model", plugins().registries)


def test_a_run_leaves_the_sum_and_the_adapter(runs: tuple[Path, Path]) -> None:
    base, adapted = map(load, runs)
    moved = {n for n, v in adapted.state_dict().items() if not torch.equal(v, base.state_dict()[n])}
    tower = {name for name in moved if name.startswith("encoders.photometry.")}
    assert tower
    assert all(base.state_dict()[name].ndim == 2 for name in tower)
    # what is not adapted is trained as without it
    assert any(name.startswith("encoders.metadata.") for name in moved)
    assert "heads.photometry.weight" in moved
    open_attention(base)
    peft = PeftModel.from_pretrained(base, str(runs[1] / "adapter")).base_model.model
    merged = adapted.encoders["photometry"].layers.layers[0].self_attn.in_proj_weight
    attention = peft.encoders["photometry"].layers.layers[0].self_attn.in_proj
    delta = attention.get_delta_weight("default")
    assert torch.allclose(attention.base_layer.weight + delta, merged, atol=1e-6)


def test_it_goes_on_bit_by_bit(runs: tuple[Path, Path], tmp_path: Path) -> None:
    whole, folder = runs[1], tmp_path / "stopped"
    shutil.copytree(whole, folder)
    for part in ("model", "adapter"):
        shutil.rmtree(folder / part)
    (folder / "checkpoints/previous.ckpt").replace(folder / "checkpoints/last.ckpt")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    assert main(["train", f"resume={folder}"]) == 0
    torch.set_num_threads(threads)
    for file in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        assert (folder / file).read_bytes() == (whole / file).read_bytes(), file


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("lora={rank: 0}", r"lora\.rank=0 has to be at least 1"),
        ("lora={dropout: 1.0}", r"lora\.dropout=1\.0 has to be from 0"),
        ("lora={modalities: []}", r"lora\.modalities=\[\] has to be"),
        ("lora={rank: 4}", r"name them by init\.weights"),
        ("lora={ranks: 4}", "ranks"),
    ],
)
def test_settings_that_cannot_be(
    setting: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["train", *QUICK, setting, f"run_folder={tmp_path / 'run'}"]) == 2
    assert re.search(told, " ".join(capsys.readouterr().err.split()))
    assert not (tmp_path / "run").exists()


def test_an_adapted_tower_that_is_frozen_is_refused(
    runs: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frozen = "optimizer.frozen=[model.encoders.photometry.*]"
    lora = [f"init.weights={runs[0]}", "lora={rank: 2, modalities: [photometry]}", frozen]
    assert main(["train", *QUICK, *lora, f"run_folder={tmp_path / 'run'}"]) == 2
    assert "freezes it with what lora adds" in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run").exists()
