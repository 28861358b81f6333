"""Errors of the field that give numbers and no message, in evaluation, splits and caches: each is
provoked, and has to be caught."""

import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from shared.data.generic import ImageFolder
from shared.data.splits import assign_splits
from shared.errors import ConfigError, DataError, EvaluationError
from shared.evaluation.embeddings import extract as extraction
from shared.evaluation.embeddings.embedding_set import LABEL, EmbeddingSet
from shared.evaluation.embeddings.extract import ZooEmbedder, extract
from shared.evaluation.hygiene.checks import check_hygiene
from shared.evaluation.hygiene.duplicates import find_twins
from shared.evaluation.outcomes import ClassOutcome
from shared.evaluation.protocol import Output, Protocol, Task
from shared.evaluation.protocols import classifier, linear_probe
from shared.evaluation.protocols.classifier import ClassifierOutput
from shared.model import Model
from zoo.cli.main import main

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def stars() -> zoo.Dataset:
    return zoo.dataset("simulated_variable_stars", n_stars=12, spectra_fraction=1.0)


@pytest.fixture
def model() -> Model:
    return zoo.load("star-clip", weights="random")


def curves(stars: zoo.Dataset, n: int = 5) -> list[Any]:
    return [stars[i]["photometry"] for i in range(n)]


def embeddings(**changes: Any) -> EmbeddingSet:
    """30 random rows of three classes, 10 a split."""
    values: dict[str, Any] = {
        "ids": np.array([f"s{i}" for i in range(30)]),
        "vectors": {"x": RNG.standard_normal((30, 8)).astype(np.float32)},
        "present": {"x": np.ones(30, bool)},
        "labels": np.arange(30) % 3,
        "classes": ("a", "b", "c"),
        "splits": np.repeat(["train", "val", "test"], 10),
        "groups": np.array([f"g{i}" for i in range(30)]),
        "dataset": "made",
        "model": "none",
        "synthetic": True,
        "fingerprint": "0",
    }
    return EmbeddingSet(**{**values, **changes})


def output_of(protocol: Protocol, given: EmbeddingSet) -> Output:
    return protocol.run(Task(("x",), LABEL, inputs="x"), given, protocol.settings)


def values_of(output: Output) -> dict[str, float]:
    assert output.outcome is not None
    (values,) = output.outcome.statistic(np.ones((1, len(output.outcome))))
    return dict(zip(output.outcome.metrics, values.tolist(), strict=True))


# -- evaluation ------------------------------------------------------------------------------------


def with_dropout(model: Model) -> Model:
    """In train mode with a dropout that shows, but for one module, as fine-tuning leaves it."""
    for module in model.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.5
    model.train()
    model.heads.eval()
    return model


def test_evaluation_in_train_mode(model: Model, stars: zoo.Dataset) -> None:
    """A forgotten `model.eval()`: dropout blurs every embedding, batch norm sees the test set."""
    expected = model.embed(photometry=curves(stars))
    state = {n: t.clone() for n, t in model.state_dict().items()}
    model = with_dropout(model)
    modes = [module.training for module in model.modules()]
    assert len(set(modes)) == 2
    # the dropout does act in train mode
    prepared = model.preprocessors["photometry"]
    batch = prepared.collate([prepared.crop(prepared(raw), None) for raw in curves(stars)])
    with torch.no_grad():
        first, second = (model.encode("photometry", dict(batch)).pooled for _ in range(2))
    assert not torch.equal(first, second)
    for _ in range(2):
        assert np.array_equal(model.embed(photometry=curves(stars)), expected)
        assert np.array_equal(
            extract(ZooEmbedder(model, "m", "projected", "cpu", "float32"), stars).vectors[
                "photometry"
            ],
            extract(ZooEmbedder(model.eval(), "m", "projected", "cpu", "float32"), stars).vectors[
                "photometry"
            ],
        )
        model = with_dropout(model)
    assert [module.training for module in model.modules()] == modes
    assert all(torch.equal(state[n], t) for n, t in model.state_dict().items())
    assert all(p.grad is None for p in model.parameters())


class Shifting(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(2)

    def forward(self, raws: list[Any]) -> torch.Tensor:
        columns = torch.tensor(np.stack([raw.mean(0)[:2] for raw in raws]), dtype=torch.float32)
        return self.norm(columns)


def test_other_peoples_models_in_train_mode(stars: zoo.Dataset) -> None:
    """A model that was wrapped in a function for evaluation, and never left train mode."""
    network = Shifting()

    def function(raws: list[Any]) -> torch.Tensor:
        return network(raws)

    options: dict[str, Any] = {"modalities": ["photometry"], "cache": False}
    for wrong, who in ((function, "network"), (network, ""), (network.forward, "the owner of")):
        with pytest.raises(EvaluationError, match=f"{who}.*in train mode"):
            zoo.embed(wrong, stars, **options)
    assert int(network.norm.num_batches_tracked) == 0
    network.eval()
    assert len(zoo.embed(function, stars, **options)) == 12


def test_embeddings_beyond_the_numbers() -> None:
    """NaN sorts last and scores low."""
    with pytest.raises(EvaluationError, match="NaN or infinity"):
        embeddings(vectors={"x": np.full((30, 8), np.inf, np.float32)})


def test_the_last_batch_is_judged(model: Model, stars: zoo.Dataset) -> None:
    """`drop_last=True` in the loader of the test set."""
    embedder = ZooEmbedder(model, "m", "projected", "cpu", "float32")
    found = [extract(embedder, stars, batch_size=size) for size in (5, 12)]
    assert all(len(f) == 12 and f.present["photometry"].all() for f in found)
    np.testing.assert_allclose(*(f.vectors["photometry"] for f in found), atol=2e-6)


def test_classes_in_another_order() -> None:
    """Data whose folders sort otherwise than those of training: scored by index, a perfect
    classifier is wrong everywhere."""
    given = embeddings()
    theirs = ("c", "a", "b")
    right = np.array([theirs.index(given.classes[label]) for label in given.labels])
    probabilities = {("x",): np.eye(3, dtype=np.float32)[right]}

    def accuracy(classes: tuple[str, ...]) -> float:
        classified = ClassifierOutput(classes, probabilities)
        return values_of(output_of(classifier.PROTOCOL, replace(given, classified=classified)))[
            "accuracy"
        ]

    assert accuracy(theirs) == 1.0
    assert accuracy(given.classes) == 0.0


def test_classes_of_the_data_at_hand() -> None:
    """An index into the classes of a set without some of them means others."""
    unnamed = ClassifierOutput(None, {("x",): np.eye(3, dtype=np.float32)[np.arange(30) % 3]})
    output = output_of(classifier.PROTOCOL, embeddings(classified=unnamed))
    assert output.missing == "the names of the classifier's classes are not known"


def test_a_metric_with_absent_classes() -> None:
    """A class without test rows counts as recall 0, and a perfect model gets 2/3."""
    labels = np.arange(30) % 3
    labels[20:] %= 2
    given = embeddings(labels=labels)
    perfect = ClassifierOutput(given.classes, {("x",): np.eye(3, dtype=np.float32)[labels]})
    values = values_of(output_of(classifier.PROTOCOL, replace(given, classified=perfect)))
    assert values["balanced_accuracy"] == 1.0, values


def test_the_test_split_selects_nothing() -> None:
    """The regularisation with the best test score."""
    rng = np.random.default_rng(1)
    labels = np.arange(30) % 3
    vectors = rng.standard_normal((30, 8)) + 1.5 * np.eye(3, 8)[labels]
    fair = embeddings(vectors={"x": vectors.astype(np.float32)}, labels=labels)
    shuffled = replace(fair, labels=np.concatenate([labels[:20], labels[20:][::-1]]))
    assert not np.array_equal(shuffled.labels, fair.labels)
    outputs = [output_of(linear_probe.PROTOCOL, given) for given in (fair, shuffled)]
    outcomes = [output.outcome for output in outputs]
    assert outputs[0].settings == outputs[1].settings
    assert isinstance(outcomes[0], ClassOutcome)
    assert isinstance(outcomes[1], ClassOutcome)
    assert np.array_equal(outcomes[0].predicted, outcomes[1].predicted)


def test_a_monitor_of_the_test_split(tmp_path: Path) -> None:
    """Early stopping on the test loss."""
    run = ["domain=astro", "data.n_stars=60", "trainer.device=cpu", f"run_folder={tmp_path}/run"]
    with pytest.raises(ConfigError, match=r"selection\.monitor=test/loss is not logged"):
        zoo.train(*run, "selection.monitor=test/loss", "trainer.max_epochs=1")


# -- splits ----------------------------------------------------------------------------------------


def test_a_sample_in_two_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One picture under two names, in the training and the test folder."""
    images = RNG.integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    for number, image in enumerate(images):
        split = ("train", "train", "val", "test")[number % 4]
        path = tmp_path / "data" / split / "ab"[number % 3 == 0] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    copy = tmp_path / "data/test/b/copy.png"
    copy.write_bytes((tmp_path / "data/train/b/0.png").read_bytes())
    data = ImageFolder(str(tmp_path / "data"))

    def means(raws: list[Any]) -> Any:
        return np.stack([raw.astype(float).reshape(-1, 3).mean(0) for raw in raws])

    (line,) = zoo.evaluate(means, data, n_resamples=10, cache=False).warnings
    assert "1 of 4 samples of the test split have the content of one of the train split" in line
    assert "'test/b/copy.png' that of 'train/b/0.png'" in line
    copy.unlink()
    again = ImageFolder(str(tmp_path / "data"))
    assert zoo.evaluate(means, again, n_resamples=10, cache=False).warnings == []


def test_leakage_is_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    vectors = RNG.standard_normal((30, 8)).astype(np.float32)
    vectors[25] = vectors[3] * (1 + 1e-7)
    embeddings(vectors={"x": vectors}).save("e.npz")
    assert main(["eval", "embeddings=e.npz", "n_resamples=10", "run_folder=out"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "warning: 1 of 10 samples of the test split have the embedding" in shown
    assert "'s25' that of 's3'" in shown


def test_an_object_in_two_splits() -> None:
    """Two spectra of one star, one to learn from and one to be judged by."""
    assert check_hygiene(embeddings()).warnings == []
    groups = np.array([f"g{i % 28}" for i in range(30)])
    (line,) = check_hygiene(embeddings(groups=groups)).warnings
    assert line.startswith("2 groups stand in both the train and the test split, such as 'g0'")
    labels = np.arange(200) % 4
    groups = np.array([f"star{i // 4}" for i in range(200)])
    splits = assign_splits(groups, labels)
    assert all(len(set(splits[groups == group])) == 1 for group in set(groups))


def test_twins_are_found_in_every_modality_and_in_large_sets() -> None:
    rng = np.random.default_rng(2)
    n = 3000
    vectors = {"x": rng.standard_normal((n, 16)), "y": 1000 * rng.standard_normal((n, 4))}
    pairs = rng.permutation(n // 3)[:50]
    for values in vectors.values():
        values[2 * n // 3 + pairs] = values[pairs] * (1 + 1e-6 * rng.standard_normal((50, 1)))
    vectors["y"][2 * n // 3 + pairs[0]] += 1  # another one, to whom has eyes for y
    present = {m: np.ones(n, bool) for m in vectors}
    given = embeddings(
        ids=np.arange(n).astype(str),
        vectors={m: v.astype(np.float32) for m, v in vectors.items()},
        present=present,
        labels=np.zeros(n, np.int64),
        splits=np.repeat(["train", "val", "test"], n // 3),
        groups=np.arange(n).astype(str),
    )
    assert {tuple(pair) for pair in find_twins(given).tolist()} == {
        (2 * n // 3 + p, p) for p in pairs[1:].tolist()
    }
    missing = {**present, "y": np.arange(n) < n // 2}
    assert len(find_twins(replace(given, present=missing))) == 0
    # whoever has nothing is nobody's twin
    nothing = {m: np.zeros(n, bool) for m in vectors}
    assert len(find_twins(replace(given, present=nothing))) == 0


def test_an_id_twice() -> None:
    """A sample listed twice, by id."""

    class Twice(ImageFolder):
        def make_table(self) -> zoo.SampleTable:
            return zoo.SampleTable(["a", "b", "a"])

    with pytest.raises(DataError, match="'a' stands more than once"):
        Twice("").table  # noqa: B018
    with pytest.raises(EvaluationError, match="'s0' stands more than once"):
        embeddings(ids=np.array(["s0"] * 30))


# -- caches ----------------------------------------------------------------------------------------


def image_data(root: Path) -> ImageFolder:
    if not root.is_dir():
        for number in range(6):
            path = root / "ab"[number % 2] / f"{number}.bmp"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.full((6, 6, 3), 40 * number, np.uint8)).save(path)
    return ImageFolder(str(root))


def test_a_file_that_changed_under_its_size_and_time(tmp_path: Path) -> None:
    """A cache by name, size and time of the files."""
    before = image_data(tmp_path / "data").fingerprint
    path = tmp_path / "data/a/2.bmp"
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    assert path.stat().st_mtime_ns == status.st_mtime_ns
    assert image_data(tmp_path / "data").fingerprint != before


def test_a_stale_cache(
    model: Model, stars: zoo.Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embeddings from before a change of preprocessing, weights, precision, data or library."""

    def entries(dataset: zoo.Dataset = stars, **changes: Any) -> int:
        options = {"output": "projected", "precision": "float32", "chosen": ["metadata"], **changes}
        embedder = ZooEmbedder(model, "m", device="cpu", **options)
        extract(embedder, dataset, cache=tmp_path)
        return len(list(tmp_path.glob("*.npz")))

    assert [entries(), entries()] == [1, 1]
    assert entries(output="pooled") == 2
    assert entries(precision="bfloat16") == 3
    assert entries(chosen=["photometry"]) == 4
    more = zoo.dataset("simulated_variable_stars", n_stars=12, seed=1)
    assert entries(more) == 5
    state = model.preprocessors["metadata"].state()
    model.preprocessors["metadata"].load_state({**state, "mean": [m + 1 for m in state["mean"]]})
    assert entries() == 6
    with torch.no_grad():
        next(model.encoders["metadata"].parameters()).view(-1)[0] += 1e-3
    assert entries() == 7
    real = extraction.version
    monkeypatch.setattr(extraction, "version", lambda name: f"{real(name)}.1")
    assert entries() == 8
    assert entries() == 8


def test_a_stale_cache_after_a_change_of_code(
    model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes a preprocessor changes it under one version of the package."""
    path = tmp_path / "own_preprocessor.py"

    def revision(factor: int) -> str:
        path.write_text(
            "from domains.astro.preprocess.metadata import MetadataTable\n"
            "class Own(MetadataTable):\n"
            "    def __call__(self, raw):\n"
            f"        return super().__call__({factor} * raw)\n"
        )
        module = imported(path)
        monkeypatch.setitem(sys.modules, module.__name__, module)
        model.preprocessors["metadata"].__class__ = module.Own
        return ZooEmbedder(model, "m", "projected", "cpu", "float32").revision

    assert revision(1) == revision(1)
    assert revision(1) != revision(2)


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
