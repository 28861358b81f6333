"""RS-M-CLIP: its files, its names, and a training of its kind."""

import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

import zoo
from domains.remote_sensing.rs_m_clip_files import KEYS
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.model import Model
from shared.model_config import ModelConfig
from zoo.cli.main import main
from zoo.config import load_group
from zoo.plugins import plugins

REFERENCE = Path(os.environ.get("ZOO_REFERENCE", Path(__file__).parents[3] / "../shared/reference"))
TEXTS = ("a river", "un río entre campos", "河流和田野", "강과 들판", "река и поля") * 4


def build(node: dict[str, Any]) -> Model:
    config, schemas = ModelConfig.from_dict(node), {"image": IMAGE, "text": TEXT}
    return Model.build(config, schemas, plugins().registries, {"logit_scale": 1.0})


def test_every_tensor_of_the_published_model_has_its_place() -> None:
    path = REFERENCE / "rs_m_clip/manifest.json"
    if not path.exists():
        pytest.skip(f"no recorded names: ZOO_REFERENCE or {path} is needed")
    manifest = json.loads(path.read_text())
    (theirs,) = manifest["manifests"].values()
    with torch.device("meta"):
        ours = build(load_group("model", "rs-m-clip/ViT-B-32")).state_dict()
        given = {name: torch.empty(shape) for name, (shape, _) in theirs.items()}
    assert {n: t.shape for n, t in KEYS.convert(given).items()} == {
        n: t.shape for n, t in ours.items()
    }
    assert sum(tensor.numel() for tensor in ours.values()) == manifest["n_params"]
    assert [KEYS.name(name) for name in manifest["optional_extra_keys"]] == [None]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[Model, Path]:
    """A small model of ours, and its files as open_clip would write them."""
    node = load_group("model", "rs-m-clip/small")
    image, text = (node["modalities"][m]["encoder"] for m in ("image", "text"))
    image |= {"dim": 128, "num_heads": 2, "depth": 2}
    text |= {"dim": 128, "num_heads": 2, "max_positions": 80}
    node["modalities"]["text"]["preprocess"] |= {"context_length": 77, "vocab_size": 60}
    torch.manual_seed(0)
    # the size of a vocabulary is known when it was learned
    tokens = build(node).preprocessors["text"]
    tokens.fit(TEXTS)
    node["modalities"]["text"]["preprocess"]["vocab_size"] = tokens.ids
    model = build(node).eval()
    model.preprocessors["text"].load_state(tokens.state())
    folder: Path = tmp_path_factory.mktemp("published")
    (folder / "sentencepiece.bpe.model").write_bytes(tokens.processor.serialized_model_proto())
    ours = {str(KEYS.name(n)): n for n in _names(model)}
    tensors = {}
    for name, tensor in model.state_dict().items():
        theirs = ours[name]
        tensors[theirs] = (tensor.T if theirs in KEYS.transposed else tensor).contiguous()
    positions = torch.arange(80)[None]
    save_file(
        tensors | {"text.transformer.embeddings.position_ids": positions},
        folder / "open_clip_model.safetensors",
    )
    return model, folder


def _names(model: Model) -> list[str]:
    """Upstream's names of a model's tensors."""
    names = ["visual.proj", "text.proj.0.weight", "text.proj.2.weight", "logit_scale"]
    for modality, theirs in (("image", "visual"), ("text", "text")):
        names += [f"{theirs}.{n}" for n in model.encoders[modality].trunk.state_dict()]
    return names


def test_import_and_load(
    published: tuple[Model, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, folder = published
    out = tmp_path / "ours"
    assert main(["import", "rs-m-clip", str(folder), f"out={out}"]) == 0
    assert "rs-m-clip:ViT-B-32: image, text" in capsys.readouterr().out
    # a complete recipe: the vocabulary is in it
    loaded = zoo.load(str(out))
    assert torch.equal(
        torch.from_numpy(loaded.embed(text=list(TEXTS[:5]))),
        torch.from_numpy(model.embed(text=list(TEXTS[:5]))),
    )
    image = torch.arange(64 * 64 * 3, dtype=torch.uint8).reshape(64, 64, 3).numpy()
    assert (loaded.embed(image=[image]) == model.embed(image=[image])).all()
    assert loaded.config.modalities["text"].encoder["pooler"] == "mean"
    alone = zoo.load(str(out), encoders=["image"])
    assert (alone.embed(image=[image]) == model.embed(image=[image])).all()


def test_what_the_config_says(published: tuple[Model, Path], tmp_path: Path) -> None:
    folder = tmp_path / "files"
    shutil.copytree(published[1], folder)
    config: dict[str, Any] = {
        "model_cfg": {"text_cfg": {"hf_pooler_type": "cls_last_hidden_state_pooler"}},
        "preprocess_cfg": {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]},
    }
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    assert main(["import", "rs-m-clip", str(folder), f"out={tmp_path / 'ours'}"]) == 0
    loaded = zoo.load(str(tmp_path / "ours"))
    assert loaded.config.modalities["text"].encoder["pooler"] == "cls"
    assert loaded.preprocessors["image"].settings["mean"] == [0.5, 0.5, 0.5]


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        ("open_clip_model.safetensors", "hub's joaodaniel/RS-M-CLIP"),
        ("sentencepiece.bpe.model", "hub's FacebookAI/xlm-roberta-base"),
        ("vocabulary", "damaged, or not of SentencePiece"),
        ("other vocabulary", "ids, and the weights are of"),
        ("pooler", "hf_pooler_type='max_pooler' is none of"),
        ("config", "is damaged or no JSON"),
        ("strange config", "is damaged or holds another model"),
        ("tensor", "does not fit the model"),
        ("another model", "is damaged or holds another model"),
        ("variant", "rs-m-clip:small is not published"),
    ],
)
def test_broken_files(
    broken: str,
    told: str,
    published: tuple[Model, Path],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "files"
    shutil.copytree(published[1], folder)
    weights = folder / "open_clip_model.safetensors"
    if (folder / broken).exists():
        (folder / broken).unlink()
    elif broken == "vocabulary":
        (folder / "sentencepiece.bpe.model").write_bytes(b"nothing")
    elif broken == "other vocabulary":
        _write_other(folder / "sentencepiece.bpe.model")
    elif broken == "pooler":
        text = {"model_cfg": {"text_cfg": {"hf_pooler_type": "max_pooler"}}}
        (folder / "open_clip_config.json").write_text(json.dumps(text))
    elif "config" in broken:
        text = '{"model_cfg": 3}' if "strange" in broken else "{"
        (folder / "open_clip_config.json").write_text(text)
    elif broken == "tensor":
        tensors = load_file(weights)
        tensors.pop("visual.ln_post.weight")
        save_file(tensors, weights)
    elif broken == "another model":
        save_file({"conv.weight": torch.zeros(2)}, weights)
    name = "rs-m-clip:small" if broken == "variant" else "rs-m-clip"
    assert main(["import", name, str(folder), f"out={tmp_path / 'ours'}"]) == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "ours").exists()


def _write_other(path: Path) -> None:
    tokens = plugins().registries.preprocessors.build(
        "sentencepiece_tokens", "test", TEXT, vocab_size=40
    )
    tokens.fit(["ab ba"] * 3)
    path.write_bytes(tokens.processor.serialized_model_proto())


def _captions(folder: Path, language: str, captions: Sequence[tuple[str, str]]) -> None:
    """RSICD's layout."""
    suffix = "" if language == "en" else f"_{language}"
    images = [
        {
            "filename": f"scene_{number}.png",
            "split": "train" if number < 16 else "val" if number < 20 else "test",
            "sentences": [{"raw": text} for text in captions[number % len(captions)]],
        }
        for number in range(24)
    ]
    (folder / f"dataset_rsicd{suffix}.json").write_text(json.dumps({"images": images}))


def test_training_and_retrieval_by_language(tmp_path: Path) -> None:
    """Synthetic images, a vocabulary of the captions of two languages, both terms of the loss."""
    root, folder = tmp_path / "rsicd", tmp_path / "run"
    (root / "RSICD_images").mkdir(parents=True)
    for number in range(24):
        pixels = np.full((64, 64, 3), 10 * number, np.uint8)
        Image.fromarray(pixels).save(root / "RSICD_images" / f"scene_{number}.png")
    _captions(root, "en", [("a river", "water"), ("a field", "corn"), ("a city", "houses")])
    _captions(root, "pt", [("um rio", "água"), ("um campo", "milho"), ("uma cidade", "casas")])
    data = ["data=rsicd", f"data.root={root}"]
    quick = ["loader.batch_size=8", "trainer.max_epochs=1", "trainer.device=cpu",
             "trainer.log_every_n_steps=1", "online_probe=false", "evaluator=null",
             "objective.local_global.local_crops=1"]  # fmt: skip
    command = ["train", "domain=remote_sensing", "experiment=rs_m_clip", *data, *quick]
    assert main([*command, "data.languages=[en,pt]", f"run_folder={folder}"]) == 0
    logged = (folder / "metrics.csv").read_text()
    assert "train/local_global/distillation" in logged
    assert "train/contrastive/image->text" in logged
    tokens = zoo.load(str(folder)).preprocessors["text"]
    assert 3 not in tokens("água e milho")["input_ids"]
    portuguese = {"name": "rsicd", "root": str(root), "languages": ["pt"]}
    evaluation = zoo.evaluate(str(folder), portuguese, protocols=["retrieval"], n_resamples=0)
    n = {r.inputs: r.n for r in evaluation.results if r.metric == "recall@1"}
    assert n == {"image->text": 4, "text->image": 8}
