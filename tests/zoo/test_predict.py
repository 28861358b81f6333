"""`zoo predict`, `zoo.predict`, `Model.predict`, and the classifier in `zoo.evaluate`."""

from pathlib import Path

import numpy as np
import pyarrow.csv
import pyarrow.parquet
import pytest

import zoo
from zoo.cli.main import main

STARS = {"name": "simulated_variable_stars", "n_stars": 90}
TINY = ["domain=astro", "data.n_stars=90", "loader.batch_size=16", "trainer.max_epochs=2",
        "trainer.device=cpu", "objective=[classification]", "evaluator=null"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "classifier"
    settings = ["model.classifier={}", f"run_folder={folder}"]
    assert main(["train", *TINY, *settings]) == 0
    return folder


@pytest.fixture(scope="module")
def model(run: Path):
    return zoo.load(run)


@pytest.fixture(scope="module")
def raws() -> list[dict[str, np.ndarray]]:
    stars = zoo.dataset(**STARS)
    rows = [row for row in range(len(stars)) if len(stars[row]) == len(stars.schemas)]
    return [dict(stars[row]) for row in rows[:6]]


def columns(raws: list[dict[str, np.ndarray]]) -> dict[str, list[np.ndarray | None]]:
    return {m: [raw.get(m) for raw in raws] for m in ("photometry", "spectra", "metadata")}


def test_probabilities_of_raw_inputs(model, raws) -> None:
    whole = model.predict(**columns(raws), device="cpu")
    assert whole.shape == (len(raws), 10)
    assert whole.dtype == np.float32
    np.testing.assert_allclose(whole.sum(axis=1), 1, atol=1e-6)
    # however they are cut into batches
    parts = model.predict(**columns(raws), device="cpu", batch_size=4)
    np.testing.assert_allclose(parts, whole, atol=1e-6)
    single = model.predict(photometry=raws[0]["photometry"], device="cpu")
    assert single.shape == (1, 10)
    assert not model.training


def test_the_mean_of_those_that_are_there(model, raws) -> None:
    """Against the softmax of the mean of the projected embeddings, done by hand."""
    given = columns(raws)
    given["spectra"] = [None, given["spectra"][1], None, *given["spectra"][3:]]
    given["metadata"][0] = None
    found = model.predict(**given, device="cpu")
    weight, bias = (model.classifier.state_dict()[n].numpy() for n in ("weight", "bias"))
    for row in range(len(raws)):
        there = {m: column[row] for m, column in given.items() if column[row] is not None}
        vectors = [model.embed(**{m: value}, device="cpu")[0] for m, value in there.items()]
        logits = weight @ np.mean(vectors, axis=0) + bias
        exponents = np.exp(logits - logits.max())
        np.testing.assert_allclose(found[row], exponents / exponents.sum(), atol=1e-5)
    # modalities that are not given are lacking in all
    alone = model.predict(photometry=given["photometry"], device="cpu")
    np.testing.assert_allclose(found[0], alone[0], atol=1e-6)


def test_a_model_with_some_modalities_keeps_its_mean(run: Path, model, raws) -> None:
    part = zoo.load(run, encoders=["photometry", "metadata"])
    given = {m: columns(raws)[m] for m in part.modalities}
    np.testing.assert_allclose(
        part.predict(**given, device="cpu"), model.predict(**given, device="cpu"), atol=1e-6
    )


def test_mistakes_in_raw_inputs(model, raws) -> None:
    given = columns(raws)
    with pytest.raises(zoo.DataError, match="6 of photometry, 2 of spectra"):
        model.predict(photometry=given["photometry"], spectra=given["spectra"][:2])
    with pytest.raises(zoo.DataError, match="sample 1 has none of photometry, spectra"):
        model.predict(photometry=[raws[0]["photometry"], None], spectra=[None, None])
    with pytest.raises(zoo.ZooError, match=r"no modality 'spectrum'\. Did you mean 'spectra'"):
        model.predict(spectrum=given["spectra"])
    with pytest.raises(zoo.ConfigError, match="give at least one of photometry"):
        model.predict()
    with pytest.raises(zoo.DataError, match="input 5"):
        model.predict(photometry=[*given["photometry"][:5], np.zeros((3, 2))], batch_size=2)
    with pytest.raises(zoo.DataError, match="photometry is an empty list"):
        model.predict(photometry=[])
    with pytest.raises(zoo.DataError, match="photometry holds None"):
        model.embed(photometry=[None])
    with pytest.raises(zoo.ConfigError, match="has no classifier"):
        zoo.load("star-clip", weights="random").predict(photometry=given["photometry"])


def test_a_table_of_predictions(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stars = zoo.dataset(**STARS)
    out = tmp_path / "folder" / "stars.csv"
    assert main(["predict", f"model={run}", f"out={out}", "device=cpu"]) == 0
    told = capsys.readouterr().out
    table = pyarrow.csv.read_csv(out).to_pydict()
    probabilities = [f"p_{name}" for name in stars.classes]
    has = [f"has_{m}" for m in ("photometry", "spectra", "metadata")]
    assert list(table) == ["id", "prediction", "probability", *probabilities, "label", "split",
                           *has]  # fmt: skip
    assert [str(name) for name in table["id"]] == stars.ids.tolist()
    assert table["split"] == stars.splits.tolist()
    assert table["label"] == [stars.classes[i] for i in stars.labels]
    for row, name in enumerate(table["prediction"]):
        values = {p: table[p][row] for p in probabilities}
        assert max(values, key=values.get) == f"p_{name}"
        assert values[f"p_{name}"] == table["probability"][row]
    test = stars.splits == "test"
    right = np.array(table["prediction"])[test] == np.array(table["label"])[test]
    assert f"{right.mean():.3f}" in told
    assert "synthetic data" in told
    # the same from Python, of one split and fewer modalities
    some = zoo.predict(zoo.load(run), STARS, split="test", modalities=["spectra"], device="cpu")
    assert some.splits.tolist() == ["test"] * len(some)
    assert list(some.present) == ["spectra"]
    assert len(some) + some.without == test.sum()
    some.save(tmp_path / "some.parquet")
    saved = pyarrow.parquet.read_table(tmp_path / "some.parquet").to_pydict()
    assert saved["prediction"] == some.predicted.tolist()


def test_mistakes_on_the_command_line(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    there = tmp_path / "there.csv"
    there.write_text("mine")
    for settings, words in (
        ([f"out={there}"], "exists: nothing is overwritten"),
        ([f"out={tmp_path / 'a.txt'}"], "must be .csv or .parquet"),
        (["split=tset", f"out={tmp_path / 'a.csv'}"], "Did you mean 'test'"),
        (["modalities=[spectrum]", f"out={tmp_path / 'a.csv'}"], "Did you mean 'spectra'"),
        (["precison=float32"], "Did you mean precision"),
    ):
        assert main(["predict", f"model={run}", "device=cpu", *settings]) == 2
        assert words in capsys.readouterr().err
    random = ["model=star-clip", "weights=random", f"out={tmp_path / 'a.csv'}"]
    assert main(["predict", *random]) == 2
    assert "star-clip has no classifier" in capsys.readouterr().err
    assert there.read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["there.csv"]


def test_a_classifier_is_judged_without_being_asked(run: Path) -> None:
    """The scores are those of `zoo predict` on each subset of modalities."""
    evaluation = zoo.evaluate(run, n_resamples=50, device="cpu", cache=False)
    found = {r.inputs: r for r in evaluation.results
             if (r.protocol, r.metric) == ("classifier", "accuracy")}  # fmt: skip
    assert list(found) == ["photometry", "spectra", "metadata", "photometry+spectra",
                           "photometry+metadata", "spectra+metadata", "all"]  # fmt: skip
    for inputs, result in found.items():
        chosen = ["photometry", "spectra", "metadata"] if inputs == "all" else inputs.split("+")
        some = zoo.predict(run, split="test", modalities=chosen, device="cpu")
        rows = np.all([some.present[m] for m in chosen], axis=0)
        assert result.n == rows.sum()
        accuracy = (some.predicted == some.labels)[rows].mean()
        assert result.value == pytest.approx(accuracy)
        assert result.ci_low <= accuracy <= result.ci_high
        assert result.trivial is not None
    assert {r.protocol for r in evaluation.results} > {"classifier", "linear_probe"}
    asked = zoo.evaluate(run, protocols=["nearest_centroid"], n_resamples=0, device="cpu")
    assert {r.protocol for r in asked.results} == {"nearest_centroid"}


def test_embeddings_alone_are_not_classified(run: Path) -> None:
    embeddings = zoo.embed(run, device="cpu", cache=False)
    judged = zoo.evaluate(embeddings, protocols=["classifier"], n_resamples=10)
    assert {r.missing for r in judged.results} == {
        "needs a model with a classifier, not embeddings alone"
    }
