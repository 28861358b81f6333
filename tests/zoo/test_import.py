"""`zoo import` and `zoo.load` of a name whose weights other people's code wrote: AstroM3, small."""

import json
import pickle
import shutil
from collections.abc import Callable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

import zoo
from domains.astro.importing import import_model
from shared.errors import ConfigError, SchemaError, WeightsError
from zoo.cli.main import main
from zoo.plugins import plugins

CONFIG: dict[str, Any] = {
    **{"classification": False, "num_classes": None, "hidden_dim": 6, "fusion": "avg"},
    **{"seq_len": 200, "p_enc_in": 9, "p_d_model": 8, "p_dropout": 0.1, "p_factor": 1},
    **{"p_output_attention": False, "p_n_heads": 4, "p_d_ff": 12, "p_activation": "gelu"},
    **{"p_e_layers": 2, "s_dropout": 0.2, "s_conv_channels": [3, 4, 4, 4, 5]},
    **{"s_kernel_size": 3, "s_mp_kernel_size": 4, "m_input_dim": 34, "m_hidden_dim": 10},
    "m_dropout": 0.3,
}
WIDTHS = {"photometry": 1600, "spectra": 185, "metadata": 10}


def informer_state(config: Mapping[str, Any] = CONFIG) -> dict[str, tuple[int, ...]]:
    dim, hidden = config["p_d_model"], config["p_d_ff"]
    shapes: dict[str, tuple[int, ...]] = {
        "enc_embedding.value_embedding.tokenConv.weight": (dim, config["p_enc_in"], 3),
        "enc_embedding.position_embedding.pe": (1, 5000, dim),
        "encoder.norm.weight": (dim,),
        "encoder.norm.bias": (dim,),
    }
    for layer in range(config["p_e_layers"]):
        where = f"encoder.attn_layers.{layer}"
        for name in ("query", "key", "value", "out"):
            shapes[f"{where}.attention.{name}_projection.weight"] = (dim, dim)
            shapes[f"{where}.attention.{name}_projection.bias"] = (dim,)
        for name, size in (("conv1", (hidden, dim, 1)), ("conv2", (dim, hidden, 1))):
            shapes[f"{where}.{name}.weight"], shapes[f"{where}.{name}.bias"] = size, size[:1]
        for name in ("norm1", "norm2"):
            shapes[f"{where}.{name}.weight"] = shapes[f"{where}.{name}.bias"] = (dim,)
    return shapes


def towers() -> dict[str, dict[str, tuple[int, ...]]]:
    """By modality, names and shapes inside an encoder of upstream's."""
    spectra: dict[str, tuple[int, ...]] = {}
    channels = CONFIG["s_conv_channels"]
    for number, (before, after) in enumerate(pairwise(channels)):
        spectra[f"layers.{3 * number}.weight"] = (after, before, 3)
        spectra[f"layers.{3 * number}.bias"] = (after,)
    metadata = {"model.0.weight": (10, 34), "model.0.bias": (10,)}
    metadata |= {"model.3.weight": (10, 10), "model.3.bias": (10,)}
    return {"photometry": informer_state(), "spectra": spectra, "metadata": metadata}


def state(shapes: Mapping[str, tuple[int, ...]], classifier_width: int = 0) -> dict[str, Tensor]:
    """Random tensors of these shapes, with a classifier of three classes where it has a width."""
    random = torch.Generator().manual_seed(0)
    sizes = dict(shapes)
    if classifier_width:
        sizes |= {"fc.weight": (3, classifier_width), "fc.bias": (3,)}
    return {n: 0.3 * torch.randn(size, generator=random) for n, size in sizes.items()}


def whole(classifier_width: int = 0, hidden: int = 6) -> dict[str, Tensor]:
    """The state of upstream's model of all three modalities, projected to a hidden width."""
    shapes: dict[str, tuple[int, ...]] = {f"logit_scale_{p}": () for p in ("ps", "sm", "mp")}
    for modality, inside in towers().items():
        shapes |= {f"{modality}_encoder.{name}": size for name, size in inside.items()}
        shapes |= {f"{modality}_proj.weight": (hidden, WIDTHS[modality])}
        shapes |= {f"{modality}_proj.bias": (hidden,)}
    return state(shapes, classifier_width)


def single(modality: str, classifier_width: int = 0) -> dict[str, Tensor]:
    return state(towers()[modality], classifier_width)


def prefixed(modality: str, classifier_width: int) -> dict[str, Tensor]:
    inside = {f"{modality}_encoder.{name}": size for name, size in towers()[modality].items()}
    return state(inside, classifier_width)


def write(path: Path, tensors: Mapping[str, Tensor], config: Mapping[str, Any] | None) -> Path:
    """A folder as upstream's code leaves on the hub, or a file alone where there is no config."""
    path.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), path / "model.safetensors")
    if config is None:
        return path / "model.safetensors"
    (path / "config.json").write_text(json.dumps(config))
    return path


def load(path: Path, **options: Any) -> zoo.Model:
    return import_model(path, plugins().registries, **options)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("ZOO_OFFLINE", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


@pytest.fixture
def statistics(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    info = {"mean": random.normal(size=38).tolist(), "std": random.uniform(1, 2, 38).tolist()}
    (tmp_path / "info.json").write_text(json.dumps(info))
    return tmp_path / "info.json"


@pytest.fixture
def stars() -> list[Any]:
    data = zoo.dataset(
        "simulated_variable_stars", n_stars=3, spectra_fraction=1.0, catalogue_columns=True
    )
    return [data[i] for i in range(len(data))]


ALL = ("photometry", "spectra", "metadata")
CLASSIFIER = {**CONFIG, "classification": True, "num_classes": 3}
METADATA_CONFIG = {"classification": True, "num_classes": 3, "input_dim": 34, "hidden_dim": 10}
METADATA_CONFIG |= {"dropout": 0.3}
INFORMER_CONFIG = {k.removeprefix("p_"): v for k, v in CLASSIFIER.items() if k.startswith("p_")}
INFORMER_CONFIG |= {"classification": True, "num_classes": 3, "seq_len": 200}


@pytest.mark.parametrize(
    ("tensors", "config", "variant", "modalities", "classifier"),
    [
        (whole, CONFIG, "clip", ALL, None),
        (whole, None, "clip", ALL, None),
        (lambda: whole(6), CLASSIFIER, "all", ALL, "projected mean"),
        (lambda: whole(6), None, "all", ALL, "projected mean"),
        (lambda: whole(18), {**CLASSIFIER, "fusion": "concat"}, "all", ALL, "projected concat"),
        (lambda: whole(18), None, "all", ALL, "projected concat"),
        (lambda: single("photometry", 1600), None, "photo", ("photometry",), "pooled mean"),
        (lambda: single("photometry"), None, "photo", ("photometry",), None),
        (lambda: single("spectra", 185), None, "spectra", ("spectra",), "pooled mean"),
        (lambda: single("metadata", 10), METADATA_CONFIG, "meta", ("metadata",), "pooled mean"),
        (lambda: prefixed("spectra", 185), None, "spectra", ("spectra",), "pooled mean"),
        # the model of all three with the classifier of one
        (lambda: whole(1600), None, "photo", ("photometry",), "pooled mean"),
        (lambda: whole(1600), INFORMER_CONFIG, "photo", ("photometry",), "pooled mean"),
        (lambda: whole(10), METADATA_CONFIG, "meta", ("metadata",), "pooled mean"),
        # its width is that of the joint classifier, too
        (lambda: whole(10, 10), METADATA_CONFIG, "meta", ("metadata",), "pooled mean"),
        (lambda: whole(10, 10), None, "all", ALL, "projected mean"),
        # beside a config of one encoder, the model of all three
        (whole, INFORMER_CONFIG, "clip", ALL, None),
    ],
    ids=[
        *("contrastive", "contrastive-alone", "mean", "mean-alone", "concat", "concat-alone"),
        *("photometry", "photometry-no-fc", "spectra", "metadata", "spectra-prefixed"),
        *("photometry-in-whole", "photometry-in-whole-config", "metadata-in-whole"),
        *("width-of-both-config", "width-of-both", "contrastive-config-of-one"),
    ],
)  # fmt: skip
def test_layouts(
    tensors: Callable[[], dict[str, Tensor]],
    config: dict[str, Any] | None,
    variant: str,
    modalities: tuple[str, ...],
    classifier: str | None,
    tmp_path: Path,
) -> None:
    upstream = tensors()
    model = load(write(tmp_path / "upstream", upstream, config))
    assert model.config.name == f"astrom3:{variant}"
    assert model.modalities == modalities
    head = model.config.classifier
    assert (head and f"{head.features} {head.fusion}") == classifier
    for modality in modalities:
        first = next(n for n in towers()[modality] if n.endswith("weight"))
        given = next(t for n, t in upstream.items() if n.endswith(first) and t.ndim > 1)
        assert any(torch.equal(p, given) for p in model.encoders[modality].parameters())
    if head:
        assert model.classifier is not None
        assert torch.equal(model.classifier.weight, upstream["fc.weight"])


def test_a_plain_state_dict_is_the_same_model(tmp_path: Path) -> None:
    folder = write(tmp_path / "upstream", whole(6), CLASSIFIER)
    torch.save(whole(6), tmp_path / "weights-best.pth")
    torch.save({"epoch": 3, "state_dict": whole(6)}, tmp_path / "wrapped.pt")
    expected = load(folder).state_dict()
    for name in ("weights-best.pth", "wrapped.pt"):
        found = load(tmp_path / name).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[n], expected[n]) for n in expected)


def test_raw_stars_with_statistics_are_processed_stars_without(
    tmp_path: Path, statistics: Path, stars: list[Any]
) -> None:
    folder = write(tmp_path / "upstream", whole(), CONFIG)
    raw, processed = load(folder, statistics=statistics), load(folder)
    for modality in ALL:
        prepare = raw.preprocessors[modality]
        arrays = [prepare(star[modality])["values"].astype(np.float64) for star in stars]
        tables = [a.T for a in arrays] if modality == "spectra" else arrays
        np.testing.assert_array_equal(
            raw.embed(**{modality: [star[modality] for star in stars]}),
            processed.embed(**{modality: tables}),
        )


@pytest.mark.parametrize("use", [zoo.embed, zoo.evaluate])
def test_processed_models_say_what_makes_one_of_raw_stars(tmp_path: Path, use: Any) -> None:
    model = load(write(tmp_path / "upstream", whole(), CONFIG))
    raw = {"name": "simulated_variable_stars", "n_stars": 20, "catalogue_columns": True}
    with pytest.raises(SchemaError, match=r"\[dimensionless\].*again with statistics=info\.json"):
        use(model, raw)


def test_import_then_load_by_name(
    tmp_path: Path, home: Path, statistics: Path, stars: list[Any], capsys: Any
) -> None:
    folder = write(tmp_path / "upstream", whole(), CONFIG)
    assert main(["import", "astrom3:clip-42", str(folder), f"statistics={statistics}"]) == 0
    assert "zoo info astrom3:clip-42" in capsys.readouterr().out
    model = zoo.load("astrom3:clip-42")
    assert model.config.name == "astrom3:clip-42"
    curve = stars[0]["photometry"]
    expected = load(folder, statistics=statistics).embed(photometry=curve)
    np.testing.assert_array_equal(model.embed(photometry=curve), expected)
    written = home / "weights/astrom3/clip-42"
    card = (written / "README.md").read_text()
    assert "`upstream`" in card
    assert model.fingerprint() in card
    assert str(tmp_path) not in card
    assert "Channel" not in card
    assert main(["info", "astrom3:clip-42"]) == 0
    assert model.fingerprint() in capsys.readouterr().out
    # nothing is overwritten, nothing is left beside it
    assert main(["import", "astrom3:clip-42", str(folder)]) == 2
    assert "exists and is not empty" in capsys.readouterr().err
    assert [p.name for p in written.parent.iterdir()] == ["clip-42"]


def test_a_classifier_with_names_to_a_folder(tmp_path: Path) -> None:
    torch.save(single("metadata", 10), tmp_path / "best.pth")
    arguments = ["import", "astrom3", "best.pth", "classes=[EA,EW,M]", "out=models/mine"]
    assert main(arguments) == 0
    model = zoo.load("models/mine")
    assert model.config.name == "astrom3:meta"
    assert model.config.classifier is not None
    assert model.config.classifier.classes == ["EA", "EW", "M"]
    assert [c.unit for c in model.schemas["metadata"].channels] == [""] * 34


class Payload:
    """What a hostile file would run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("ran"),))


def damaged(name: str, folder: Path) -> Path:
    """A broken import by name, and the file or folder to give."""
    tensors, config = whole(), dict(CONFIG)
    first = "photometry_encoder.encoder.norm.weight"
    if name == "missing":
        del tensors[first]
    elif name == "extra":
        tensors["metadata_encoder.model.6.weight"] = torch.ones(2)
    elif name == "unknown":
        tensors["decoder.weight"] = torch.ones(2)
    elif name == "shape":
        tensors["metadata_proj.weight"] = torch.ones(6, 11)
    elif name == "nan":
        tensors[first] = torch.full((8,), float("nan"))
    elif name == "prefix":
        tensors = {f"module.{n}": t for n, t in tensors.items()}
    elif name == "channels":
        tensors["photometry_encoder.enc_embedding.value_embedding.tokenConv.weight"] = torch.ones(
            8, 7, 3
        )
    elif name == "two towers":
        tensors = {n: t for n, t in tensors.items() if not n.startswith("spectra_encoder")}
    elif name == "other config":
        config = {"hidden_size": 768}
    elif name == "config key":
        config["p_distil"] = True
    elif name == "config lacks":
        del config["p_factor"]
    elif name == "fusion":
        config["fusion"] = "max"
    elif name == "heads":
        config["p_n_heads"] = 3
    elif name == "text size":
        config["seq_len"] = "long"
    elif name == "encoder config":
        tensors, config = single("metadata", 10), dict(CONFIG)
    path = write(folder / "upstream", tensors, config)
    if name == "cut":
        file = path / "model.safetensors"
        file.write_bytes(file.read_bytes()[:500])
    elif name == "config json":
        (path / "config.json").write_text("{")
    elif name == "no config":
        (path / "config.json").unlink()
    elif name == "no file":
        shutil.rmtree(path)
    elif name == "pickle":
        (folder / "bad.pth").write_bytes(pickle.dumps(Payload(), protocol=2))
        return folder / "bad.pth"
    elif name == "torch pickle":
        torch.save({"weight": Payload()}, folder / "bad.pth")
        return folder / "bad.pth"
    elif name == "whole module":
        torch.save(torch.nn.Linear(2, 2), folder / "bad.pth")
        return folder / "bad.pth"
    elif name == "no tensors":
        torch.save({"weight": [1, 2]}, folder / "bad.pth")
        return folder / "bad.pth"
    return path


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("missing", ["1 tensors are missing", "norm.weight"]),
        ("extra", ["1 tensors are not of this model", "model.6.weight"]),
        ("unknown", ["decoder.weight", "does not know"]),
        ("shape", ["heads.metadata.weight is (6, 11) in the file and (6, 10)"]),
        ("nan", ["NaN", "norm.weight"]),
        ("prefix", ["neither AstroM3 nor one of its encoders", "module."]),
        ("channels", ["(8, 7, 3) in the file and (8, 9, 3)"]),
        ("two towers", ["neither AstroM3 nor one"]),
        ("other config", ["config.json describes no class of AstroM3"]),
        ("config key", ["unknown p_distil"]),
        ("config lacks", ["lacks p_factor"]),
        ("fusion", ["sizes make no model", "max"]),
        ("heads", ["dim=8", "num_heads=3"]),
        ("text size", ["sizes make no model"]),
        ("encoder config", ["config.json describes photometry, spectra, metadata"]),
        ("cut", ["damaged or no safetensors file"]),
        ("config json", ["config.json is damaged or no JSON"]),
        ("no config", ["has no config.json"]),
        ("no file", ["There is no", "model.safetensors"]),
        ("pickle", ["holds code", "it was not run"]),
        ("torch pickle", ["holds code", "it was not run"]),
        ("whole module", ["holds code (torch.nn.modules.linear.Linear)"]),
        ("no tensors", ["holds no state dict"]),
    ],
)
def test_what_cannot_be_imported(
    name: str, words: list[str], tmp_path: Path, home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = damaged(name, tmp_path)
    assert main(["import", "astrom3", str(path)]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for word in words:
        assert word in message, message
    assert not Path("ran").exists()
    assert not list(home.rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["astrom3:photo", "upstream"], ["the contrastive model", "astrom3:clip"]),
        (["astrom3:base", "upstream"], ["not astrom3:base"]),
        (["astrom3", "upstream", "classes=[a,b,c]"], ["goes with a classifier"]),
        (["astrom3", "upstream", "classes=a"], ["classes", "[a]"]),
        (["astrom3", "upstream", "statistic=x"], ["'statistic'", "statistics"]),
        (["astrom3", "upstream", "statistics=no.json"], ["no.json: no such file"]),
        (["astrom3", "upstream", "statistics=short.json"], ["info.json", "38"]),
        (["astrom3", "upstream", "out=upstream"], ["nothing is overwritten"]),
        (["star-clip", "upstream"], ["no importer", "astrom3"]),
        (["astromm3", "upstream"], ["Did you mean 'astrom3'"]),
    ],
    ids=lambda value: " ".join(value)[:50],
)
def test_mistakes(
    arguments: list[str], words: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "upstream", whole(), CONFIG)
    Path("short.json").write_text('{"mean": [1], "std": [1]}')
    assert main(["import", *arguments]) == 2
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    for word in words:
        assert word in message, message


def test_class_names_of_another_number(tmp_path: Path) -> None:
    path = write(tmp_path / "upstream", whole(6), CLASSIFIER)
    for classes in (["a", "b"], ["a", "b", "b"]):
        with pytest.raises(ConfigError, match="has 3 classes"):
            load(path, classes=classes)


def test_the_variant_decides_where_widths_agree(tmp_path: Path) -> None:
    path = write(tmp_path / "upstream", whole(10, 10), None)
    assert load(path, variant="all").modalities == ALL
    assert load(path, variant="meta").modalities == ("metadata",)


def test_files_of_the_authors_are_imported_in_memory(tmp_path: Path, home: Path) -> None:
    folder = write(tmp_path / "upstream", whole(), CONFIG)
    model = zoo.load("astrom3:clip-42", weights="upstream")
    assert model.config.name == "astrom3:clip-42"
    alone = zoo.load("astrom3", weights=folder / "model.safetensors", encoders=["metadata"])
    assert alone.modalities == tuple(alone.preprocessors) == ("metadata",)
    expected = {n: t for n, t in model.state_dict().items() if "metadata." in n or "scalars" in n}
    found = alone.state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[n], expected[n]) for n in found)
    with pytest.raises(WeightsError, match="not astrom3:photo"):
        zoo.load("astrom3:photo", weights="upstream")
    assert not home.exists()


def test_nothing_to_be_had_says_what_to_fetch(home: Path) -> None:
    with pytest.raises(WeightsError) as refused:
        zoo.load("astrom3:clip-66")
    for word in (
        *("ZOO_OFFLINE", "config.json", "model.safetensors", "AstroMLCore/AstroM3-CLIP-66"),
        *("AstroMLCore/AstroM3Dataset", "splits/full/66/info.json"),
        "zoo import astrom3:clip-66 FOLDER statistics=info.json",
        *(str(home / "weights/astrom3/clip-66"), "experiment=astrom3_paper", "weights='random'"),
    ):
        assert word in str(refused.value)


def test_the_hub(
    tmp_path: Path, home: Path, statistics: Path, stars: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both repositories are fetched once, imported, and found in the cache afterwards."""
    hub = write(tmp_path / "hub", whole(), CONFIG)
    asked = []

    def snapshot_download(
        repo: str, repo_type: str | None, revision: None, allow_patterns: list[str], local_dir: Path
    ) -> None:
        asked.append((repo, repo_type, allow_patterns))
        for name in allow_patterns:
            target = local_dir / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(statistics if name.endswith("info.json") else hub / name, target)

    monkeypatch.delenv("ZOO_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    model = zoo.load("astrom3")
    assert model.config.name == "astrom3:clip"
    assert asked == [
        ("AstroMLCore/AstroM3-CLIP", "model", ["config.json", "model.safetensors"]),
        ("AstroMLCore/AstroM3Dataset", "dataset", ["splits/full/42/info.json"]),
    ]
    expected = load(hub, statistics=statistics).embed(metadata=stars[0]["metadata"])
    monkeypatch.setattr("huggingface_hub.snapshot_download", None)
    np.testing.assert_array_equal(
        zoo.load("astrom3").embed(metadata=stars[0]["metadata"]), expected
    )


def test_a_hub_that_fails_is_one_message(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def snapshot_download(*_: Any, **__: Any) -> None:
        raise OSError("gated\nlong text")

    monkeypatch.delenv("ZOO_OFFLINE")
    monkeypatch.setattr("huggingface_hub.snapshot_download", snapshot_download)
    with pytest.raises(WeightsError, match=r"OSError: gated\. Fetch config\.json"):
        zoo.load("astrom3:meta")
    assert not (home / "weights").exists()


@pytest.mark.parametrize("variant", ["clip", "all", "photo", "spectra", "meta", "base"])
def test_random_weights(variant: str, stars: list[Any]) -> None:
    model = zoo.load(f"astrom3:{variant}", weights="random")
    assert model.config.name == f"astrom3:{variant}"
    modality = model.modalities[-1]
    raw = stars[0][modality]
    if variant == "base":
        assert model.schemas["photometry"].names == ("time", "flux", "flux_error")
    assert np.isfinite(model.embed(**{modality: raw})).all()
