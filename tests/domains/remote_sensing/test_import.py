"""`zoo import rs-clip` and `zoo.load(…, weights=FILE)`: files of open_clip and transformers."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

import zoo
from shared.errors import ConfigError, WeightsError
from zoo.cli.main import main

pytestmark = pytest.mark.usefixtures("tiny_rs_clip", "offline_home")


def open_clip_folder(path: Path, config: dict[str, Any], state: dict[str, Tensor]) -> Path:
    path.mkdir()
    save_file(state, path / "open_clip_model.safetensors")
    stated = {
        "model_cfg": config,
        "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.2] * 3},
    }
    (path / "open_clip_config.json").write_text(json.dumps(stated))
    return path


def test_a_file_gives_the_numbers_of_upstream(
    open_clip_tiny: Any, tiny_rs_clip: dict[str, Any], clip_state: dict[str, Tensor]
) -> None:
    torch.save(clip_state, "weights.pt")
    model = zoo.load("rs-clip:small", weights="weights.pt")
    ids = torch.randint(1, 49407, (3, tiny_rs_clip["text_cfg"]["context_length"]))
    ids[:, -1] = 49407
    values = torch.randn(3, 3, *2 * [tiny_rs_clip["vision_cfg"]["image_size"]])
    with torch.inference_mode():
        image, text, scale = open_clip_tiny(values, ids)
        ours = {
            m: model.project(m, model.encode(m, inputs).pooled)
            for m, inputs in (("image", {"values": values}), ("text", {"input_ids": ids}))
        }
    torch.testing.assert_close(ours["image"], image, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(ours["text"], text, atol=1e-5, rtol=1e-4)
    assert float(model.scalars["logit_scale"].detach().exp()) == pytest.approx(float(scale))


@pytest.mark.parametrize(
    "wrap",
    [
        lambda s: s | {"context_length": torch.tensor(20), "vocab_size": torch.tensor(49408)},
        lambda s: {
            "epoch": 3,
            "name": "run",
            "state_dict": {f"module.{n}": t for n, t in s.items()},
            "optimizer": {"state": {0: {"step": torch.tensor(1.0)}}, "param_groups": [{"lr": 1.0}]},
        },
        lambda s: {f"_orig_mod.module.{n}": t for n, t in s.items()},
        lambda s: {
            n.replace("visual.", "image_backbone.")
            if n.startswith("visual.")
            else n
            if n == "logit_scale"
            else f"text_backbone.{n}": t
            for n, t in s.items()
        },
    ],
    ids=["sizes beside", "training checkpoint", "compiled", "ITRA"],
)
def test_wrappings(wrap: Callable[[Any], Any], clip_state: dict[str, Tensor]) -> None:
    torch.save(clip_state, "plain.pt")
    torch.save(wrap(clip_state), "wrapped.pt")
    plain, wrapped = (
        zoo.load("rs-clip:small", weights=f"{name}.pt").state_dict()
        for name in ("plain", "wrapped")
    )
    assert all(torch.equal(plain[name], wrapped[name]) for name in plain | wrapped)


def test_a_file_alone_does_not_tell_its_activation(
    clip_state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(clip_state, "weights.pt")
    message = "QuickGELU.*Name the variant.*It may be small"
    for use in (
        lambda: zoo.load("rs-clip", weights="weights.pt"),
        lambda: zoo.load("rs-clip", weights=Path("weights.pt")),
    ):
        with pytest.raises(ConfigError, match=message):
            use()
    assert main(["import", "rs-clip", "weights.pt"]) == 2
    assert "Name the variant" in capsys.readouterr().err


def test_a_file_of_another_variant(clip_state: dict[str, Tensor]) -> None:
    torch.save(clip_state, "weights.pt")
    with pytest.raises(WeightsError, match="It may be small"):
        zoo.load("rs-clip:ViT-B-32", weights="weights.pt")


def test_what_a_folder_states_decides(
    tmp_path: Path, tiny_rs_clip: dict[str, Any], clip_state: dict[str, Tensor]
) -> None:
    folder = open_clip_folder(tmp_path / "good", tiny_rs_clip, clip_state)
    model = zoo.load("rs-clip", weights=folder)
    assert model.config.name == "rs-clip:small"
    assert model.preprocessors["image"].settings["mean"] == [0.5] * 3
    other = open_clip_folder(tmp_path / "other", tiny_rs_clip | {"quick_gelu": False}, clip_state)
    with pytest.raises(WeightsError, match=r"image quick_gelu=False, not True; text quick_gelu="):
        zoo.load("rs-clip:small", weights=other)
    with pytest.raises(WeightsError, match="no variant of rs-clip"):
        zoo.load("rs-clip", weights=other)


def test_damaged_folders(
    tmp_path: Path, tiny_rs_clip: dict[str, Any], clip_state: dict[str, Tensor]
) -> None:
    folder = open_clip_folder(tmp_path / "model", tiny_rs_clip, clip_state)
    stated = folder / "open_clip_config.json"
    for text, words in (
        ("{", "no JSON"),
        ('{"model_cfg": {"vision_cfg": 3, "text_cfg": {}}}', "damaged"),
        ("{}", "damaged .KeyError"),
        ('{"model_cfg": {"vision_cfg": {"timm_model_name": "x"}, "text_cfg": {}}}', "timm_model"),
    ):
        stated.write_text(text)
        with pytest.raises(WeightsError, match=words):
            zoo.load("rs-clip:small", weights=folder)
    stated.unlink()
    with pytest.raises(WeightsError, match="no folder with open_clip_config"):
        zoo.load("rs-clip:small", weights=folder)
    (tmp_path / "secret.json").write_text("{}")
    stated.symlink_to(tmp_path / "secret.json")
    with pytest.raises(WeightsError, match="leads out of"):
        zoo.load("rs-clip:small", weights=folder)


def test_positions_of_other_sizes_when_asked_for(
    tiny_rs_clip: dict[str, Any], clip_state: dict[str, Tensor], capsys: pytest.CaptureFixture[str]
) -> None:
    torch.save(clip_state, "weights.pt")
    arguments = ["import", "rs-clip:small", "weights.pt", "out=models/large"]
    vision, text = tiny_rs_clip["vision_cfg"], tiny_rs_clip["text_cfg"]
    patch = vision["patch_size"]
    size, length = vision["image_size"] + 2 * patch, text["context_length"] + 9
    sizes = [f"settings.image_size={size}", f"settings.context_length={length}"]
    assert main([*arguments, *sizes]) == 0, capsys.readouterr().err
    model = zoo.load("./models/large")
    tables = {m: model.encoders[m].trunk.positional_embedding for m in model.modalities}
    assert len(tables["image"]) == 1 + (size // patch) ** 2
    assert len(tables["text"]) == length
    torch.testing.assert_close(tables["image"][0], clip_state["visual.positional_embedding"][0])
    card = Path("models/large/README.md").read_text()
    assert f"with image_size={size}, with context_length={length}" in card
    assert "as measured" in card
    image = np.zeros((50, 80, 3), np.uint8)
    assert model.embed(image=image).shape == (1, tiny_rs_clip["embed_dim"])
    # a size that was not asked for stays an error
    clip_state["positional_embedding"] = torch.zeros(length, text["width"])
    torch.save(clip_state, "long.pt")
    with pytest.raises(WeightsError, match="text context_length=29, not 20"):
        zoo.load("rs-clip:small", weights="long.pt")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["settings.image_sise=3"], "Did you mean 'image_size'"),
        (["settings.image_size=big"], "whole number"),
        (["settings.image_size=33"], "no multiple of patch_size"),
        (["settings.variant=x"], "settings.variant"),
        (["statistics=info.json"], "no setting 'statistics'"),
        (["classes=[a,b]"], "no setting 'classes'"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_mistakes(
    arguments: list[str],
    words: str,
    clip_state: dict[str, Tensor],
    capsys: pytest.CaptureFixture[str],
) -> None:
    torch.save(clip_state, "weights.pt")
    assert main(["import", "rs-clip:small", "weights.pt", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert words in message


def test_one_tower_of_a_model_folder(
    clip_state: dict[str, Tensor], offline_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save(clip_state, "weights.pt")
    assert main(["import", "rs-clip:small", "weights.pt"]) == 0
    read = []

    class Watched:
        def __init__(self, *given: Any, **options: Any) -> None:
            self._file = safe_open(*given, **options)

        def __enter__(self) -> "Watched":
            self._opened = self._file.__enter__()
            return self

        def __exit__(self, *given: Any) -> None:
            self._file.__exit__(*given)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._opened, name)

        def get_tensor(self, name: str) -> Tensor:
            read.append(name)
            return self._opened.get_tensor(name)

    monkeypatch.setattr("shared.weights.safe_open", Watched)
    model = zoo.load("rs-clip:small", encoders=["image"])
    assert model.modalities == ("image",)
    assert read
    assert not [name for name in read if ".text." in name]
    imported = zoo.load("rs-clip:small", weights="weights.pt", encoders=["image"]).state_dict()
    assert all(torch.equal(imported[n], t) for n, t in model.state_dict().items())


def test_nothing_to_be_had_says_what_to_fetch(offline_home: Path) -> None:
    with pytest.raises(WeightsError) as refused:
        zoo.load("rs-clip")
    for word in (
        *("ckpt/RS5M_ViT-B-32.pt", "Zilun/GeoRSCLIP", "zoo import rs-clip:ViT-B-32 FILE"),
        *(str(offline_home / "weights/rs-clip/ViT-B-32"), "zoo train domain=remote_sensing"),
    ):
        assert word in str(refused.value)


def test_the_hub(
    tmp_path: Path, clip_state: dict[str, Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One file of a repository of models is fetched, imported, and found afterwards."""
    torch.save(clip_state, tmp_path / "hub.pt")
    asked = []

    def snapshot_download(
        repo: str, repo_type: str, revision: None, allow_patterns: list[str], local_dir: Path
    ) -> None:
        asked.append((repo, repo_type, allow_patterns))
        target = local_dir / allow_patterns[0]
        target.parent.mkdir(parents=True)
        shutil.copy(tmp_path / "hub.pt", target)

    source = zoo.HubSource("owner/name", files=("ckpt/hub.pt",))
    from domains.remote_sensing.models import RS_CLIP

    monkeypatch.setitem(RS_CLIP.upstream, "small", source)  # type: ignore[arg-type]
    monkeypatch.delenv("ZOO_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    model = zoo.load("rs-clip:small")
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    again = zoo.load("rs-clip:small").state_dict()
    assert asked == [("owner/name", "model", ["ckpt/hub.pt"])]
    assert all(torch.equal(tensor, again[name]) for name, tensor in model.state_dict().items())


def test_images_that_are_prepared_in_another_way(
    tmp_path: Path, tiny_rs_clip: dict[str, Any], clip_state: dict[str, Tensor]
) -> None:
    """It is stated, and the numbers would be others without a word."""
    folder = open_clip_folder(tmp_path / "model", tiny_rs_clip, clip_state)
    stated = folder / "open_clip_config.json"
    config = json.loads(stated.read_text())
    for key, right, wrong in (
        ("resize_mode", "shortest", "squash"),
        ("interpolation", None, "bilinear"),
    ):
        config["preprocess_cfg"][key] = right
        stated.write_text(json.dumps(config))
        model = zoo.load("rs-clip:small", weights=folder)
        stated.write_text(json.dumps(config | {"preprocess_cfg": {key: wrong}}))
        with pytest.raises(WeightsError, match=f"states {key}='{wrong}'"):
            zoo.load("rs-clip:small", weights=folder)
    model.scalars["logit_scale"].data.fill_(1.0)
    there = zoo.export(model, tmp_path / "transformers")
    settings = there / "preprocessor_config.json"
    theirs = json.loads(settings.read_text())
    zoo.load("rs-clip:small", weights=there)
    changes: tuple[dict[str, Any], ...] = (
        {"do_normalize": False},
        {"size": {"height": 64, "width": 64}},
        {"crop_size": {"height": 7, "width": 7}},
        {"size": {"shortest_edge": 7}},
    )
    for change in changes:
        settings.write_text(json.dumps(theirs | change))
        with pytest.raises(WeightsError, match=f"states .*{next(iter(change.values()))}"):
            zoo.load("rs-clip:small", weights=there)


def test_tensors_that_stand_twice_are_refused(clip_state: dict[str, Tensor]) -> None:
    name = "ln_final.weight"
    torch.save(clip_state | {f"text_backbone.{name}": clip_state[name] * 0}, "twice.pt")
    with pytest.raises(WeightsError, match="tensors twice"):
        zoo.load("rs-clip:small", weights="twice.pt")
