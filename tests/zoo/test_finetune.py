"""A classifier on top of a contrastive run: what is taken over, frozen, left at random; labels."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from shared.data.adapted import AdaptedDataset
from shared.data.build import build_dataset
from shared.data.dataset import Dataset, SampleTable
from shared.errors import ConfigError, WeightsError
from shared.training.build import build_runner
from shared.training.config import TrainConfig
from shared.training.run import choose_rows
from zoo.cli.main import main
from zoo.config import compose_config, typed
from zoo.plugins import plugins

DATA = ["domain=astro", "data.n_stars=90"]
TINY = [*DATA, "loader.batch_size=16", "trainer.max_epochs=1", "trainer.device=cpu",
        "evaluator=null"]  # fmt: skip
TUNE = ["objective=[classification]", "model.classifier={}"]


@pytest.fixture(scope="module")
def contrastive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "contrastive"
    assert main(["train", *TINY, f"run_folder={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def classifier(contrastive: Path) -> Path:
    folder = contrastive.with_name("classifier")
    settings = [f"init.weights={contrastive}", f"run_folder={folder}"]
    assert main(["train", *TINY, *TUNE, *settings]) == 0
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model/model.safetensors")


def preprocessing(folder: Path) -> dict[str, object]:
    config = json.loads((folder / "model/config.json").read_text())
    return {m: part["preprocess"]["state"] for m, part in config["modalities"].items()}


class Reordered(AdaptedDataset):
    """The same stars with the classes named in another order."""

    def __init__(self, dataset: Dataset, classes: list[str]) -> None:
        super().__init__(dataset, {})
        self._classes = classes

    def make_table(self) -> SampleTable:
        table = super().make_table()
        order = [self._classes.index(c) if c in self._classes else 0 for c in table.classes]
        assert table.labels is not None
        labels = np.asarray(order)[np.asarray(table.labels)]
        return SampleTable(table.ids, labels, tuple(self._classes), table.groups, table.splits)


def build(*overrides: str, classes: list[str] | None = None):
    config = typed(TrainConfig, compose_config("train", [*TINY, *TUNE, *overrides]))
    dataset = build_dataset(config.data, plugins().registries)
    if classes is not None:
        dataset = Reordered(dataset, classes)
    return build_runner(config, dataset, plugins().registries)


def test_the_whole_model_is_tuned(
    contrastive: Path, classifier: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before, after = weights(contrastive), weights(classifier)
    assert not [name for name in after if name.startswith("scalars.")]
    moved = {n.split(".")[0] for n in before.keys() & after.keys()
             if not torch.equal(before[n], after[n])}  # fmt: skip
    assert moved == {"encoders", "heads"}
    known = json.loads((classifier / "model/config.json").read_text())["classifier"]
    simulated = zoo.dataset("simulated_variable_stars", n_stars=90)
    assert known["classes"] == list(simulated.classes)
    assert known["num_classes"] == len(simulated.classes)


def test_statistics_come_with_the_encoder(contrastive: Path, tmp_path: Path) -> None:
    """Tuned on a share of the labels, the metadata keep the scale that their encoder knows."""
    few = ["loader.label_fraction=0.3", f"init.weights={contrastive}"]
    assert main(["train", *TINY, *TUNE, *few, f"run_folder={tmp_path / 'all'}"]) == 0
    assert preprocessing(tmp_path / "all") == preprocessing(contrastive)
    assert main(["train", f"resume={tmp_path / 'all'}"]) == 0
    assert preprocessing(tmp_path / "all") == preprocessing(contrastive)
    # an encoder at random has no scale to keep
    other = [*few, "init.parts=[encoders.spectra]", f"run_folder={tmp_path / 'one'}"]
    assert main(["train", *TINY, *TUNE, *other]) == 0
    assert preprocessing(tmp_path / "one") != preprocessing(contrastive)


def test_what_is_said(contrastive: Path) -> None:
    whole = build(f"init.weights={contrastive}").start
    assert whole.fresh == ("classifier",)
    modalities = ("photometry", "spectra", "metadata")
    assert set(whole.taken) == {f"{k}.{m}" for k in ("encoders", "heads") for m in modalities}
    assert whole.statistics == ("metadata",)
    text = " ".join(whole.lines())
    assert "starts at random: classifier" in text
    assert "statistics kept from there: metadata" in text
    single = build(f"init.weights={contrastive}", "modalities=[photometry]").start
    assert single.taken == ("encoders.photometry", "heads.photometry")
    assert single.statistics == single.unused == ()
    more = build(
        f"init.weights={contrastive}", "+model.modalities.photometry.encoder.mask_token=true",
    ).start  # fmt: skip
    assert more.fresh[0].startswith("1 of ")
    assert more.fresh[0].endswith(" tensors of encoders.photometry")
    part = build(f"init.weights={contrastive}", "init.parts=[encoders.photometry]").start
    assert part.taken == ("encoders.photometry",)
    assert {"encoders.spectra", "heads.photometry", "classifier"} <= set(part.fresh)
    assert build().start.lines() == []


def test_frozen_encoders_do_not_move(contrastive: Path, tmp_path: Path) -> None:
    frozen = "optimizer.frozen=[model.encoders.*,model.heads.*]"
    folder = tmp_path / "frozen"
    settings = [f"init.weights={contrastive}", frozen, f"run_folder={folder}"]
    assert main(["train", *TINY, *TUNE, *settings]) == 0
    before, after = weights(contrastive), weights(folder)
    assert all(torch.equal(after[n], before[n]) for n in after if not n.startswith("classifier."))
    assert after["classifier.weight"].abs().sum() > 0


def test_frozen_encoders_are_in_eval_mode(contrastive: Path) -> None:
    """Their dropout is off, also after validation and whoever calls train()."""
    frozen = ["optimizer.frozen=[model.encoders.photometry.*]", f"init.weights={contrastive}"]
    runner = build(*frozen).train()
    encoders = runner.model.encoders
    assert not any(module.training for module in encoders["photometry"].modules())
    assert all(module.training for module in encoders["spectra"].modules())
    assert runner.model.classifier.training
    assert not any(module.training for module in runner.eval().modules())


def test_the_classifier_is_rearranged_by_name(classifier: Path) -> None:
    known = json.loads((classifier / "model/config.json").read_text())["classifier"]["classes"]
    tensors = weights(classifier)
    model = build(f"init.weights={classifier}", classes=known[::-1]).model
    assert model.config.classifier.classes == known[::-1]
    for name in ("weight", "bias"):
        ours = model.state_dict()[f"classifier.{name}"]
        assert torch.equal(ours, tensors[f"classifier.{name}"].flip(0))


def test_other_classes_need_another_classifier(classifier: Path) -> None:
    known = json.loads((classifier / "model/config.json").read_text())["classifier"]["classes"]
    other = [*known[:-1], "comet"]
    with pytest.raises(ConfigError, match=r"comet\. Start it at random: 'init\.parts=\[") as error:
        build(f"init.weights={classifier}", classes=other)
    advice = str(error.value).split("'")[1]
    start = build(f"init.weights={classifier}", advice, classes=other).start
    assert start.fresh == ("classifier",)


def test_a_model_without_class_names(classifier: Path, tmp_path: Path) -> None:
    """As saved before they were kept: it loads, and predicts numbered classes."""
    folder = tmp_path / "old"
    folder.mkdir()
    for path in (classifier / "model").iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    config = json.loads((folder / "config.json").read_text())
    del config["classifier"]["classes"]
    (folder / "config.json").write_text(json.dumps(config))
    # nor was the settings' hash
    save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors")
    assert zoo.load(folder).config.classifier.classes is None
    data = {"name": "simulated_variable_stars", "n_stars": 20}
    predictions = zoo.predict(folder, data, device="cpu")
    assert predictions.classes[0] == "class_0"
    assert not predictions.judged.any()
    # the data name the classes of a model that is tuned on from there
    assert build(f"init.weights={folder}").model.config.classifier.classes is not None
    with pytest.raises(ConfigError, match="knows class_0, class_1"):
        build(f"init.weights={folder}", classes=["a", "b"])


def test_mistakes(contrastive: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"num_classes=3, and simulated.* has 10 classes"):
        build("model.classifier={num_classes: 3}")
    with pytest.raises(ConfigError, match=r"classes=\['a'\], and simulated"):
        build("model.classifier={classes: [a]}")
    with pytest.raises(WeightsError, match=r"2 tensors are missing .* or drop init\.parts"):
        build(f"init.weights={contrastive}", "init.parts=[classifier]")
    with pytest.raises(WeightsError, match="another shape"):
        build(f"init.weights={contrastive}", "model.embed_dim=16")


def test_a_fraction_of_the_labels() -> None:
    config = typed(TrainConfig, compose_config("train", [*TINY, "loader.label_fraction=0.5"]))
    dataset = build_dataset(config.data, plugins().registries)
    rows = choose_rows(dataset, config)
    np.testing.assert_array_equal(rows["test"], dataset.indices("test"))
    for split in ("train", "val"):
        whole = dataset.indices(split)
        assert set(rows[split]) < set(whole)
        assert len(rows[split]) <= max(len(whole) // 2, len(dataset.classes))
    config.loader.label_fraction = 0.2
    assert set(choose_rows(dataset, config)["train"]) <= set(rows["train"])


def test_initial_weights_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path))
    for name, words in (
        ("star-clip", "No weights are published for star-clip"),
        ("star-clp", "Did you mean 'star-clip'"),
        ("./nowhere", "no weights file"),
    ):
        assert main(["train", *TINY, *TUNE, f"init.weights={name}"]) == 2
        assert words in capsys.readouterr().err


@pytest.mark.parametrize("fraction", ["0", "1.1", "-1"])
def test_no_fraction(fraction: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["train", *TINY, f"loader.label_fraction={fraction}"]) == 2
    assert "loader.label_fraction" in capsys.readouterr().err
