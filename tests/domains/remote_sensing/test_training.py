"""Training on synthetic scenes: every objective on images and texts, locked towers, the recipes."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import zoo
from shared.training.checks import check_config
from shared.training.config import TrainConfig
from zoo.cli.main import main
from zoo.config import compose_config, typed
from zoo.plugins import plugins

pytest.importorskip("open_clip")

TINY = [
    "domain=remote_sensing",
    "data.n_scenes=24",
    "data.captions=2",
    "data.size=16",
    "model.embed_dim=16",
    "model.modalities.image.preprocess.image_size=16",
    "model.modalities.image.encoder={name: clip_vision, patch_size: 8, dim: 16, depth: 1, "
    "num_heads: 2}",
    "model.modalities.text.encoder={name: clip_text, dim: 8, depth: 1, num_heads: 2}",
    "loader.batch_size=8",
    "trainer.max_epochs=1",
    "trainer.device=cpu",
    "evaluator=null",
]
"""Text embeddings of the whole vocabulary remain: a narrow tower."""


def train(folder: Path, *overrides: str) -> dict[str, torch.Tensor]:
    """The weights that a run leaves."""
    assert main(["train", *overrides, *TINY, f"run_folder={folder}"]) == 0
    return load_file(folder / "model" / "model.safetensors")


@pytest.fixture(scope="module")
def start(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run by CLIP's objective, from scratch."""
    folder = tmp_path_factory.mktemp("runs") / "start"
    train(folder)
    return folder


@pytest.mark.parametrize(
    "objective",
    [
        ["objective=[sigmoid]"],
        ["experiment=image_text_filip"],
    ],
    ids=["siglip", "clip and filip"],
)
def test_objectives(tmp_path: Path, objective: list[str]) -> None:
    weights = train(tmp_path / "run", *objective)
    assert all(tensor.isfinite().all() for tensor in weights.values())


def test_a_locked_tower_stays_to_the_bit(start: Path, tmp_path: Path) -> None:
    before = load_file(start / "model" / "model.safetensors")
    settings = [f"init.weights={start}", "optimizer.frozen=[model.encoders.image.*]"]
    after = train(tmp_path / "tuned", *settings)
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any(name.startswith("encoders.text.") for name in moved)
    assert not any(name.startswith("encoders.image.") for name in moved)
    assert {"heads.image.weight", "heads.text.weight"} <= moved


def test_the_embeddings_of_a_locked_tower_are_computed_once(
    start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    settings = [f"init.weights={start}", "optimizer.frozen=[model.encoders.text.*]"]
    read = train(tmp_path / "read", *settings)
    stored = train(tmp_path / "stored", *settings, "loader.cache_frozen=true")
    for name, tensor in read.items():
        torch.testing.assert_close(stored[name], tensor, rtol=1e-5, atol=1e-6)
    noted = json.loads((tmp_path / "stored" / "environment.json").read_text())["frozen_embeddings"]
    # a resumed run has other weights before it reads its checkpoint
    shutil.rmtree(tmp_path / "home")
    assert main(["train", f"resume={tmp_path / 'stored'}"]) == 0
    assert list(noted) == ["text"]
    assert (Path(noted["text"]) / "about.json").is_file()


def test_what_was_trained_embeds_and_judges(tmp_path: Path) -> None:
    train(tmp_path / "run", "model.modalities.image.preprocess.augment=crop_flip_rotate")
    model = zoo.load(str(tmp_path / "run"))
    dataset = zoo.dataset("simulated_scenes", n_scenes=3, size=16)
    images = [dataset[index]["image"] for index in range(3)]
    probabilities = model.zero_shot(images, ["a lake", "a forest"])
    assert probabilities.shape == (3, 2)
    assert probabilities.sum(axis=1) == pytest.approx([1, 1, 1])


@pytest.mark.parametrize(
    ("recipe", "numbers"),
    [
        ("georsclip_paper", {"eps": 1e-6, "lr": 5e-4, "weight_decay": 0.2}),
        ("georsclip_retrieval", {"eps": 1e-6, "lr": 5e-6, "weight_decay": 0.5}),
        ("georsclip_small_data", {"eps": 1e-6, "lr": 1e-5, "layer_decay": 0.75}),
    ],
)
def test_recipes_compose(recipe: str, numbers: dict[str, float]) -> None:
    overrides = ["domain=remote_sensing", f"experiment={recipe}", "data=simulated_scenes"]
    config = typed(TrainConfig, compose_config("train", overrides))
    check_config(config, plugins().registries)
    assert {name: getattr(config.optimizer, name) for name in numbers} == numbers
    assert config.model["name"] == "rs-clip:ViT-B-32"
    assert config.model["modalities"]["image"]["preprocess"]["augment"] == "crop_flip_rotate"


def test_the_small_data_recipe_moves_weights_a_little(start: Path, tmp_path: Path) -> None:
    before = load_file(start / "model" / "model.safetensors")
    recipe = ["experiment=georsclip_small_data", "model=rs-clip/small", f"init.weights={start}"]
    after = train(tmp_path / "tuned", *recipe)
    assert 0 < max(float((after[name] - before[name]).abs().max()) for name in before) < 1e-3


def test_a_warm_up_longer_than_the_run_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    settings = [*TINY, "schedule.warmup_steps=100", f"run_folder={tmp_path / 'run'}"]
    assert main(["train", *settings]) == 2
    assert "steps an epoch: 1" in capsys.readouterr().err
