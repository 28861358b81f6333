"""Errors of the field that give numbers and no message, in weights, inputs and training: each is
provoked, and has to be caught."""

import json
import logging
import runpy
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import zoo
from shared.data.image_files import IMAGE
from shared.errors import ConfigError, DataError, WeightsError
from shared.model import Model
from shared.raw_inputs import as_array
from shared.training.build import build_runner
from shared.training.config import InitConfig, TrainConfig
from shared.training.init import load_init
from zoo.cli.main import main
from zoo.config import compose_config, typed
from zoo.plugins import plugins

HERE = Path(__file__).resolve().parent
RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def stars() -> zoo.Dataset:
    return zoo.dataset("simulated_variable_stars", n_stars=12, spectra_fraction=1.0)


@pytest.fixture
def model() -> Model:
    return zoo.load("star-clip", weights="random")


@pytest.fixture
def folder(model: Model, tmp_path: Path) -> Path:
    model.save(tmp_path / "model", "# a card\n")
    return tmp_path / "model"


def curves(stars: zoo.Dataset, n: int = 5) -> list[Any]:
    return [stars[i]["photometry"] for i in range(n)]


# -- weights ---------------------------------------------------------------------------------------


def rename(folder: Path, old: str, new: str) -> None:
    path = folder / "model.safetensors"
    save_file({n.replace(old, new, 1): t for n, t in load_file(path).items()}, path)


@pytest.mark.parametrize("prefix", ["module.", "_orig_mod.", "model."])
def test_weights_not_loaded_because_of_a_prefix(prefix: str, model: Model, folder: Path) -> None:
    """`strict=False` and names with the prefix of DDP or torch.compile: training goes on from
    random weights, and the paper reports that pre-training does not help."""
    rename(folder, "encoders.spectra.", f"{prefix}encoders.spectra.")
    with pytest.raises(WeightsError, match=f"carry the prefix '{prefix}'"):
        zoo.load(folder)
    # the towers that do fit must not hide the one that does not
    with pytest.raises(WeightsError, match=f"carry the prefix '{prefix}'"):
        load_init(model, InitConfig(str(folder)))
    timm = pytest.importorskip("timm")
    state = timm.create_model("resnet10t", num_classes=0).state_dict()
    torch.save({f"{prefix}{n}": t for n, t in state.items()}, folder / "m.pth")
    with pytest.raises(WeightsError, match=f"carry the prefix '{prefix}'"):
        zoo.embed("timm:resnet10t", "image_folder", weights=str(folder / "m.pth"))


def test_what_starts_at_random_is_said(model: Model, folder: Path) -> None:
    """Fine-tuning from a folder without one of the towers: legitimate, and told."""
    path = folder / "model.safetensors"
    tensors = {n: t for n, t in load_file(path).items() if "spectra" not in n}
    save_file(tensors, path)
    lines = load_init(model, InitConfig(str(folder))).lines()
    assert "starts at random: encoders.spectra, heads.spectra" in lines


def edit_encoder(folder: Path, **settings: Any) -> None:
    config = json.loads((folder / "config.json").read_text())
    config["modalities"]["photometry"]["encoder"] |= settings
    (folder / "config.json").write_text(json.dumps(config))


def test_an_architecture_flag_that_changes_results(
    model: Model, folder: Path, stars: zoo.Dataset
) -> None:
    """CLIP's weights under `quick_gelu=False`: every tensor fits, zero-shot accuracy drops by
    points. Here the number of heads."""
    edit_encoder(folder, num_heads=2)
    with pytest.raises(WeightsError, match=r"config\.json or schema\.json was edited"):
        zoo.load(folder)
    with pytest.raises(WeightsError, match="was edited"):
        zoo.load(folder, encoders=["photometry"])
    with pytest.raises(WeightsError, match="was edited"):
        load_init(model, InitConfig(str(folder)))
    # it is an error that shapes cannot show
    meant = zoo.load(folder, accept_edits=True)
    raw = curves(stars)
    assert np.abs(meant.embed(photometry=raw) - model.embed(photometry=raw)).max() > 0.01
    meant.save(folder.with_name("new"), card="")
    again = zoo.load(folder.with_name("new"))
    assert np.array_equal(again.embed(photometry=raw), meant.embed(photometry=raw))


def test_weights_of_another_folder(folder: Path, model: Model) -> None:
    """Two checkpoints of one shape, their config files mixed up."""
    edit_encoder(folder, num_heads=2)
    other = folder.with_name("other")
    zoo.load(folder, accept_edits=True).save(other, card="")
    (other / "model.safetensors").replace(folder / "weights")
    model.save(folder, card="")
    (folder / "weights").replace(folder / "model.safetensors")
    with pytest.raises(WeightsError, match="the files are of two models"):
        zoo.load(folder)


def test_a_reformatted_config_is_the_same(folder: Path, model: Model) -> None:
    config = json.loads((folder / "config.json").read_text())
    text = json.dumps(dict(reversed(config.items())), indent=7)
    (folder / "config.json").write_text(text)
    assert zoo.load(folder).fingerprint() == model.fingerprint()


def test_weights_that_go_on_under_another_architecture(folder: Path) -> None:
    """Fine-tuning with another number of heads than pre-training: told before training."""
    overrides = ["domain=astro", "data.n_stars=30", f"init.weights={folder}"]
    overrides += ["model.modalities.photometry.encoder.num_heads=2"]
    config = typed(TrainConfig, compose_config("train", overrides))
    data = zoo.dataset("simulated_variable_stars", n_stars=30)
    lines = build_runner(config, data, plugins().registries).start.lines()
    told = (
        "settings are others than those of the weights: photometry.encoder.num_heads (4 there, 2 h"
    )
    assert any(told in line for line in lines), lines


def test_a_temperature_stored_as_a_multiplier(folder: Path) -> None:
    """`logit_scale` is a logarithm in CLIP's files and the multiplier in others': exp(100) turns
    the loss into NaN, exp(14.3) into a hard maximum that no longer learns."""
    path = folder / "model.safetensors"
    overrides = ["domain=astro", "data.n_stars=30", f"init.weights={folder}"]
    config = typed(TrainConfig, compose_config("train", overrides))
    data = zoo.dataset("simulated_variable_stars", n_stars=30)
    tensors = load_file(path)

    def scale(value: float) -> float:
        save_file({**tensors, "scalars.logit_scale": torch.tensor(value)}, path)
        runner = build_runner(config, data, plugins().registries)
        return float(runner.model.scalars["logit_scale"].detach().exp())

    assert scale(float(np.log(50.0))) == pytest.approx(50, rel=1e-5)
    for wrong in (14.3, 100.0):
        with pytest.raises(
            ConfigError, match=rf"logit_scale is {wrong:g}.* write log\({wrong:g}\)"
        ):
            scale(wrong)


# -- inputs ----------------------------------------------------------------------------------------


def test_images_on_another_scale() -> None:
    """0–1 where 0–255 is expected: the cast to bytes makes every image black, and nobody looks."""
    image = RNG.random((8, 8, 3))
    for wrong in (image, image.astype(np.float32), 255 * image, 300 * np.ones((8, 8, 3)), -image):
        with pytest.raises(DataError, match=r"numbers from .* whole ones from 0 to 255"):
            as_array(wrong, IMAGE, "input 0")
    good = (255 * image).round()
    assert np.array_equal(as_array(good, IMAGE, "input 0"), good.astype(np.uint8))
    with pytest.raises(DataError, match="numbers from nan"):
        as_array(np.full((8, 8, 3), np.nan), IMAGE, "input 0")


def test_numbers_in_another_unit(model: Model, stars: zoo.Dataset) -> None:
    """Wavelengths in nanometres instead of Ångström, magnitudes instead of flux."""
    units = pytest.importorskip("astropy.units")
    from astropy.table import QTable

    names = [c.name for c in model.schemas["spectra"].channels]
    table = QTable(stars[0]["spectra"], names=names)
    table["wavelength"].unit = units.nm
    with pytest.raises(zoo.ZooError, match="wavelength is in nm"):
        model.embed(spectra=table)
    magnitudes = curves(stars, 1)[0].copy()
    magnitudes[:, 2] = -0.05
    with pytest.raises(DataError, match=r"flux_error .* has to be"):
        model.embed(photometry=magnitudes)


def test_statistics_that_were_never_learned(model: Model, stars: zoo.Dataset) -> None:
    """Standardisation by the initial mean of 0 and deviation of 1."""
    fresh = Model.build(model.config, stars.schemas, plugins().registries)
    with pytest.raises(DataError, match="no statistics yet"):
        fresh.embed(metadata=stars[0]["metadata"])


def test_statistics_come_with_the_weights(folder: Path, model: Model, stars: zoo.Dataset) -> None:
    """Standardised by the statistics of the data at hand instead of those of training."""
    kept = zoo.load(folder).preprocessors["metadata"].state()
    assert kept == model.preprocessors["metadata"].state()
    config = json.loads((folder / "config.json").read_text())
    config["modalities"]["metadata"]["preprocess"]["state"]["mean"][0] += 1
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(WeightsError, match="was edited"):
        zoo.load(folder)


def test_padding_is_not_seen(model: Model, stars: zoo.Dataset) -> None:
    """A softmax or a mean over padding: an embedding that depends on the others of its batch."""
    raw = curves(stars, 8)
    assert len({len(curve) for curve in raw}) > 1
    short = min(range(8), key=lambda i: len(raw[i]))
    alone = model.embed(photometry=raw[short])
    long = [raw[short], *raw]
    np.testing.assert_allclose(model.embed(photometry=long)[:1], alone, atol=2e-6)


def test_values_beyond_the_numbers(model: Model, stars: zoo.Dataset) -> None:
    """An overflow in half precision or diverged weights: NaN, which sorts last and scores low."""
    for modality, parts, output in (
        ("photometry", model.heads, "projected"),
        ("metadata", model.encoders, "pooled"),
    ):
        with torch.no_grad():
            for parameter in parts[modality].parameters():
                parameter.mul_(1e38)
        with pytest.raises(DataError, match=f"input 0: what the model makes of its {modality} is"):
            model.embed(output=output, **{modality: [stars[i][modality] for i in range(2)]})


# -- several processes -----------------------------------------------------------------------------


@pytest.mark.slow
def test_a_label_offset_across_ranks() -> None:
    """`labels = arange(batch)` on every rank of a gathered loss: all but the first learn to find
    other samples. With as many rows on each, the loss looks right."""
    torch.manual_seed(0)
    normed = nn.functional.normalize
    rows = {m: normed(torch.randn(8, 16), dim=1) for m in ("image", "text")}
    rows |= {"image": normed(rows["text"] + 0.3 * rows["image"], dim=1)}
    rows["logit_scale"] = torch.tensor(10.0)
    worker = runpy.run_path(str(HERE / "silent_ranks.py"))
    run_ranks = runpy.run_path(str(HERE / "shared/training/ranks.py"))["run_ranks"]
    expected = mean(worker["losses"](rows, [8])["right"][None])
    for found in zip(*run_ranks(2, worker["all_losses"], rows, [[4, 4], [5, 3]]), strict=True):
        right, wrong = (mean(torch.stack([f[kind] for f in found])) for kind in ("right", "wrong"))
        torch.testing.assert_close(right, expected)
        assert (wrong - expected).abs().min() > 0.5, (wrong, expected)


def mean(terms: torch.Tensor) -> torch.Tensor:
    """(ranks, terms, 2) totals and counts → (terms,) means over all rows of all ranks."""
    total, count = terms.sum(0).T
    return total / count


# -- training --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_validation_loss_is_a_mean_over_samples(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A mean of batch means gives the samples of the last, smaller batch more weight."""
    caplog.set_level(logging.ERROR)
    losses = []
    for size in (7, 64):
        run = zoo.train(
            "domain=astro",
            "data.n_stars=60",
            "objective=[classification]",
            "model.classifier={}",
            "optimizer.lr=1e-30",
            "trainer.max_epochs=1",
            "trainer.device=cpu",
            f"loader.batch_size={size}",
            f"run_folder={tmp_path}/{size}",
        )
        text = (run.folder / "metrics.csv").read_text().splitlines()
        losses += [float(line.rsplit(",", 1)[1]) for line in text if ",val/loss," in line]
    assert len(losses) == 2
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)


def test_edited_statistics_of_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What preprocessing learned lies in a file of its own, and moves every number after it."""
    run = tmp_path / "run"
    settings = ["domain=astro", "data.n_stars=24", "evaluator=null"]
    assert main(["train", *settings, "trainer.max_epochs=1", f"run_folder={run}"]) == 0
    shutil.rmtree(run / "model")
    path = run / "preprocessing.json"
    text = path.read_text()
    learned = json.loads(text)
    learned["metadata"]["mean"][0] += 1
    path.write_text(json.dumps(learned))
    capsys.readouterr()
    assert main(["train", f"resume={run}"]) == 2
    assert "cannot be continued exactly: hash of preprocessing.json was" in capsys.readouterr().err
    path.write_text(text)
    assert main(["train", f"resume={run}"]) == 0
