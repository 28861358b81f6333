"""Saving, strict loading, single towers, embedding of raw inputs."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from shared.devices import resolve_device
from shared.errors import ConfigError, DataError, SchemaError, UnknownNameError, WeightsError
from shared.model import Model
from shared.model_config import ModelConfig
from shared.schema import Channel, Schema
from zoo.plugins import plugins


@pytest.fixture(scope="module")
def stars() -> zoo.Dataset:
    return zoo.dataset("simulated_variable_stars", n_stars=12, spectra_fraction=1.0)


@pytest.fixture(scope="module")
def model() -> Model:
    return zoo.load("star-clip", weights="random")


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    model.save(tmp_path / "model", "# a card\n")
    return tmp_path / "model"


def test_round_trip(model: Model, folder: Path, stars: zoo.Dataset) -> None:
    again = zoo.load(str(folder))
    assert again.fingerprint() == model.fingerprint()
    assert again.schemas == model.schemas
    for modality in model.modalities:
        raw = [stars[i][modality] for i in range(5)]
        assert np.array_equal(again.embed(**{modality: raw}), model.embed(**{modality: raw}))


def test_one_tower_reads_only_its_tensors(model: Model, folder: Path, stars: zoo.Dataset) -> None:
    tower = zoo.load(str(folder), encoders=["spectra"])
    assert tower.modalities == ("spectra",)
    assert not any("photometry" in n or "metadata" in n for n in tower.state_dict())
    raw = [stars[0]["spectra"]]
    assert np.array_equal(tower.embed(spectra=raw), model.embed(spectra=raw))
    # tensors of the other towers may be broken: they are never touched
    tensors = load_file(folder / "model.safetensors")
    name = next(n for n in tensors if n.startswith("encoders.photometry"))
    save_file({**tensors, name: tensors[name] * float("nan")}, folder / "model.safetensors")
    assert zoo.load(str(folder), encoders=["spectra"]).modalities == ("spectra",)
    with pytest.raises(WeightsError, match="NaN"):
        zoo.load(str(folder))


def test_embed(model: Model, stars: zoo.Dataset) -> None:
    raw = [stars[i]["photometry"] for i in range(7)]
    together = model.embed(photometry=raw)
    assert together.shape == (7, model.config.embed_dim)
    assert together.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=1e-5)
    # neither the batch nor the padding it brings matters
    np.testing.assert_allclose(model.embed(photometry=raw, batch_size=2), together, atol=2e-6)
    np.testing.assert_allclose(model.embed(photometry=raw[3]), together[3:4], atol=2e-6)
    low = model.embed(photometry=raw, precision="bfloat16")
    assert (low * together).sum(1).min() > 0.99
    both = model.embed(photometry=raw[:2], metadata=[stars[0]["metadata"]], output="pooled")
    assert {m: v.shape for m, v in both.items()} == {"photometry": (2, 64), "metadata": (1, 256)}
    columns = dict(zip(("flux_error", "time", "flux"), raw[0][:, [2, 0, 1]].T, strict=True))
    assert np.array_equal(model.embed(photometry=columns), model.embed(photometry=raw[0]))


def test_embed_says_what_is_wrong(model: Model, stars: zoo.Dataset) -> None:
    curve = stars[0]["photometry"]
    with pytest.raises(UnknownNameError, match="Did you mean 'photometry'"):
        model.embed(photometri=curve)
    with pytest.raises(DataError, match="2 channels, not 3"):
        model.embed(photometry=curve[:, :2])
    broken = curve.copy()
    broken[3, 1] = np.nan
    with pytest.raises(DataError, match=r"input 1: photometry: channel 'flux' is nan in row 3"):
        model.embed(photometry=[curve, broken])
    with pytest.raises(SchemaError, match=r"lacks channel flux \[mJy\]"):
        model.embed(photometry={"time": curve[:, 0], "flux_error": curve[:, 2]})
    with pytest.raises(ConfigError, match="at least one"):
        model.embed()
    with pytest.raises(ConfigError, match="precision"):
        model.embed(photometry=curve, precision="float8")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="device=cuda:9"):
        resolve_device("cuda:9")


def test_units_and_masks_of_tables_are_held(model: Model, stars: zoo.Dataset) -> None:
    from astropy import units
    from astropy.table import QTable, Table

    curve = stars[0]["photometry"]
    names = ("time", "flux", "flux_error")
    expected = model.embed(photometry=curve)
    good = QTable(curve, names=names, units=(units.d, units.mJy, units.mJy))
    assert np.array_equal(model.embed(photometry=good), expected)
    wrong = QTable(curve, names=names, units=(units.hour, units.mJy, units.mJy))
    with pytest.raises(SchemaError, match=r"column time is in h, the model takes time \[d\]"):
        model.embed(photometry=wrong)
    masked = Table(curve, names=names, masked=True)
    masked["flux"].mask[3] = True
    with pytest.raises(DataError, match="flux has masked values"):
        model.embed(photometry=masked)
    with pytest.raises(DataError, match="masked values"):
        model.embed(photometry=np.ma.masked_greater(curve, curve[:, 0].min()))
    with pytest.raises(DataError, match="no array of real numbers"):
        model.embed(photometry=curve.astype(complex))
    with pytest.raises(DataError, match="empty list"):
        model.embed(photometry=[])
    with pytest.raises(ConfigError, match="output='poled'"):
        model.embed(photometry=curve, output="poled")  # type: ignore[arg-type]


def test_strict_loading(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = "heads.spectra.bias"

    def message(changed: dict[str, torch.Tensor]) -> str:
        save_file(changed, path)
        with pytest.raises(WeightsError) as caught:
            zoo.load(str(folder))
        return str(caught.value)

    without = {n: t for n, t in tensors.items() if n != name}
    assert f"1 tensors are missing ({name})" in message(without)
    assert "1 tensors are not of this model (extra)" in message({**tensors, "extra": torch.ones(1)})
    assert "prefix 'module.'" in message({f"module.{n}": t for n, t in tensors.items()})
    assert "is (3,) in the file and (128,) in the model" in message(
        {**tensors, name: torch.ones(3)}
    )
    assert "NaN" in message({**tensors, name: torch.full((128,), float("nan"))})
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(WeightsError, match="damaged"):
        zoo.load(str(folder))
    path.unlink()
    with pytest.raises(WeightsError, match="There is no weights file"):
        zoo.load(str(folder))


def test_wrong_folders(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="There is no model folder"):
        zoo.load("./nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(WeightsError, match=r"it has no config\.json"):
        zoo.load(str(tmp_path / "empty"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "format": 99}))
    with pytest.raises(WeightsError, match="another format"):
        zoo.load(str(folder))
    for name in ("modalities", "scalars", "embed_dim"):
        kept = {key: value for key, value in config.items() if key != name}
        (folder / "config.json").write_text(json.dumps(kept))
        with pytest.raises(WeightsError, match="damaged"):
            zoo.load(str(folder))
    (folder / "config.json").write_text("{")
    with pytest.raises(WeightsError, match="damaged"):
        zoo.load(str(folder))


def test_a_folder_of_another_variant_is_refused(folder: Path) -> None:
    with pytest.raises(WeightsError, match="holds 'star-clip:small', not 'star-clip:base'"):
        zoo.load("star-clip:base", weights=folder)


def test_names(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    with pytest.raises(UnknownNameError, match="Did you mean 'star-clip'"):
        zoo.load("star-clop")
    with pytest.raises(UnknownNameError, match=r"no variant 'bases'\. Did you mean 'base'"):
        zoo.load("star-clip:bases")
    with pytest.raises(WeightsError, match="Train one: zoo train domain=astro"):
        zoo.load("star-clip")
    with pytest.raises(UnknownNameError, match="has no modality 'image'"):
        zoo.load("star-clip", weights="random", encoders=["image"])
    shutil.copytree(folder, tmp_path / "home" / "weights" / "star-clip" / "small")
    assert zoo.load("star-clip").config.name == "star-clip:small"


def test_random_weights_follow_the_seed_and_leave_the_state_alone() -> None:
    before = torch.random.get_rng_state()
    one, two, other = (zoo.load("star-clip", weights="random", seed=s) for s in (1, 1, 2))
    assert one.fingerprint() == two.fingerprint() != other.fingerprint()
    assert torch.equal(before, torch.random.get_rng_state())


def test_unknown_settings_of_a_part() -> None:
    from shared.model_config import ModelConfig
    from zoo.config import load_group

    node = load_group("model", "star-clip/small")
    node["modalities"]["photometry"]["encoder"]["dept"] = 3
    schemas = zoo.dataset("simulated_variable_stars", n_stars=1).schemas
    with pytest.raises(ConfigError, match=r"no setting 'dept'\. Did you mean 'depth'"):
        Model.build(ModelConfig.from_dict(node), schemas, plugins().registries)


def test_a_joint_encoder_embeds_one_modality_alone(tmp_path: Path) -> None:
    """Through the whole model, and the same when only that modality is loaded."""
    registries = plugins().registries
    names = ("left", "right")
    parts = {
        "preprocess": {"name": "image", "image_size": 8},
        "encoder": {"name": "patch_tokens", "patch_size": 4, "dim": 8},
        "head": None,
    }
    config = {
        "name": "joint",
        "embed_dim": 8,
        "modalities": dict.fromkeys(names, parts),
        "fusion": {"name": "joint_masked", "depth": 1, "num_heads": 2},
    }
    channels = tuple(Channel(colour, "") for colour in "rgb")
    schemas = {
        name: Schema(name, ("height", "width", "channel"), channels, "float32") for name in names
    }
    torch.manual_seed(0)
    model = Model.build(ModelConfig.from_dict(config), schemas, registries)
    images = [np.random.default_rng(n).random((8, 8, 3), dtype=np.float32) for n in range(3)]
    found = model.embed(left=images, output="pooled")
    with torch.no_grad():
        model.fusion.global_token += 1
    assert not np.allclose(model.embed(left=images, output="pooled"), found)
    model.save(tmp_path / "model", "# card\n")
    alone = zoo.load(str(tmp_path / "model"), encoders=["left"])
    assert alone.modalities == ("left",)
    np.testing.assert_array_equal(alone.embed(left=images), model.embed(left=images))
