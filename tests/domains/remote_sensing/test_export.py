"""`zoo export`: what transformers and open_clip make of it, and back."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import zoo
from shared.encoders.clip_files import write_clip_files
from shared.errors import ConfigError, WeightsError
from zoo.cli.main import main

pytestmark = pytest.mark.usefixtures("tiny_rs_clip")


@pytest.fixture
def model(tiny_rs_clip: Any, clip_state: dict[str, Tensor], offline_home: Path) -> zoo.Model:
    torch.save(clip_state, "weights.pt")
    return zoo.load("rs-clip:small", weights="weights.pt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "exported"


@pytest.fixture
def inputs(model: zoo.Model) -> tuple[torch.Tensor, torch.Tensor]:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3), dtype=np.uint8)
    values = torch.from_numpy(np.asarray(model.preprocessors["image"](image)["values"]))
    prepared = model.preprocessors["text"](("a photo of a river.", "two airports"))
    return values[None], torch.from_numpy(np.asarray(prepared["input_ids"]))


def logits(model: zoo.Model, values: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        image = model.project("image", model.encode("image", {"values": values}).pooled)
        text = model.project("text", model.encode("text", {"input_ids": ids}).pooled)
        return model.scalars["logit_scale"].exp() * image @ text.T


def same(first: zoo.Model, second: zoo.Model) -> bool:
    ours, theirs = first.state_dict(), second.state_dict()
    return ours.keys() == theirs.keys() and all(torch.equal(ours[n], theirs[n]) for n in ours)


def test_transformers_gives_the_same_logits(model: zoo.Model, folder: Path, inputs: Any) -> None:
    transformers = pytest.importorskip("transformers")
    assert zoo.export(model, folder) == folder
    assert sorted(path.name for path in folder.iterdir()) == [
        *("config.json", "model.safetensors", "preprocessor_config.json")
    ]
    values, ids = inputs
    theirs, loading = transformers.CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    with torch.inference_mode():
        found = theirs.eval()(input_ids=ids, pixel_values=values).logits_per_image
    torch.testing.assert_close(found, logits(model, values, ids), atol=1e-5, rtol=0)
    config = json.loads((folder / "config.json").read_text())
    assert config["text_config"]["eos_token_id"] == 49407
    assert {config[f"{t}_config"]["hidden_act"] for t in ("text", "vision")} == {"quick_gelu"}
    processor = transformers.CLIPImageProcessor.from_pretrained(folder)
    image = np.full((70, 90, 3), 128, np.uint8)
    ours = model.preprocessors["image"](image)["values"]
    given = processor(image, return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(given, ours, atol=1e-5)


def test_open_clip_gives_the_same_logits(model: zoo.Model, folder: Path, inputs: Any) -> None:
    open_clip = pytest.importorskip("open_clip")
    assert zoo.export(model, folder, format="open_clip") == folder
    theirs, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    values, ids = inputs
    with torch.inference_mode():
        image, text, scale = theirs.eval()(values, ids)
    torch.testing.assert_close(scale * image @ text.T, logits(model, values, ids))
    assert list(preprocess.transforms[-1].mean) == list(
        model.preprocessors["image"].settings["mean"]
    )


@pytest.mark.parametrize("format", ["transformers", "open_clip"])
def test_what_was_exported_is_imported_bit_by_bit(
    model: zoo.Model, folder: Path, format: str
) -> None:
    zoo.export(model, folder, format=format)
    again = zoo.load("rs-clip", weights=folder)
    assert again.config.name == "rs-clip:small"
    assert same(model, again)
    config = next(folder.glob("*config.json"))
    with pytest.raises(WeightsError, match="not rs-clip:ViT-B-32"):
        zoo.load("rs-clip:ViT-B-32", weights=folder)
    config.unlink()
    for path in folder.glob("*config.json"):
        path.unlink()
    with pytest.raises(WeightsError, match="no folder with"):
        zoo.load("rs-clip:small", weights=folder)
    file = next(folder.glob("*.safetensors"))
    assert same(model, zoo.load("rs-clip:small", weights=file))


def test_other_configs_of_transformers_are_refused(model: zoo.Model, folder: Path) -> None:
    zoo.export(model, folder)
    whole = json.loads((folder / "config.json").read_text())
    for change, words in (
        ({"model_type": "siglip"}, "model_type 'siglip'"),
        ({"text_config": whole["text_config"] | {"hidden_act": "gelu"}}, "hidden_act"),
        ({"vision_config": whole["vision_config"] | {"layer_norm_eps": 1e-6}}, "layer_norm_eps"),
        ({"text_config": whole["text_config"] | {"eos_token_id": 7}}, "eos_token_id 7"),
        ({"vision_config": None}, "damaged"),
        ({"vision_config": whole["vision_config"] | {"patch_size": 8}}, "no variant of rs-clip"),
    ):
        (folder / "config.json").write_text(json.dumps(whole | change))
        with pytest.raises(WeightsError, match=words):
            zoo.load("rs-clip", weights=folder)


def test_the_command(model: zoo.Model, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["export", "rs-clip:small", "exported", "weights=weights.pt"]
    assert main([*command, "format=onnx"]) == 2
    assert "Known: open_clip, transformers" in capsys.readouterr().err
    assert not Path("exported").exists()
    assert main(command) == 0
    assert "model.safetensors" in capsys.readouterr().out
    assert main(command) == 2
    assert "nothing is overwritten" in capsys.readouterr().err
    assert main([*command[:2], "more", "weights=random"]) == 2
    assert "has no logit_scale" in capsys.readouterr().err
    assert sorted(path.name for path in Path().iterdir()) == ["exported", "weights.pt"]


def test_other_models_are_refused(folder: Path) -> None:
    stars = zoo.load("star-clip", weights="random")
    with pytest.raises(ConfigError, match=r"star-clip:small cannot be written.*rs-clip"):
        zoo.export(stars, folder)
    with pytest.raises(ConfigError, match="two towers of CLIP"):
        write_clip_files(stars, folder, "transformers")
    assert not folder.exists()
