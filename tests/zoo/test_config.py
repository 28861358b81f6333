"""Overrides as people type them: paths, lists, and the message for each mistake."""

from pathlib import Path

import pytest

from shared.data.build import build_dataset
from shared.data.skipping import SkippingDataset
from shared.errors import ConfigError, DataError, ZooError
from shared.training.config import TrainConfig
from zoo.config import compose_config, sweep_jobs, typed
from zoo.options import EvalConfig
from zoo.paths import make_paths_absolute
from zoo.plugins import plugins
from zoo.sources import resolve_data


@pytest.mark.parametrize(
    "value",
    [
        "/tmp/a(b)", "/x/a=b", "my (1).npz", "runs/étoiles", "it's", "C:\\x\\é",
        "a\\é\\", "a&b;c<d>#e",
        "runs/RUN", "seed=0", "f(3)", "a(b,c", "日本",
    ],
)  # fmt: skip
def test_a_path_is_taken_as_it_is_typed(value: str) -> None:
    assert compose_config("eval", [f"model={value}"])["model"] == value
    assert compose_config("eval", [f"run_folder={value}", "model=x"])["run_folder"] == value


def test_a_tilde_is_the_home_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    settings = ["domain=astro", "data=star_folder", "data.root=~/stars"]
    assert compose_config("train", settings)["data"]["root"] == f"{tmp_path}/stars"
    jobs = sweep_jobs(["domain=astro", "data=star_folder", "data.root=~/a,~/b"])
    roots = [compose_config("train", job)["data"]["root"] for job in jobs]
    assert roots == [f"{tmp_path}/a", f"{tmp_path}/b"]


def test_paths_of_data_are_those_of_the_folder_it_was_started_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    data = {"name": "caption_csv", "root": "pairs.csv", "images": "images", "label": "images"}
    make_paths_absolute(data)
    assert (data["root"], data["images"]) == (f"{tmp_path}/pairs.csv", f"{tmp_path}/images")
    assert data["label"] == "images"
    below = {"name": "rsicd", "root": "~", "images": "images"}  # below the root
    make_paths_absolute(below)
    assert below == {"name": "rsicd", "root": str(Path.home()), "images": "images"}


def test_a_tilde_in_a_root_given_in_python(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for root in ("~/no", Path("~/no")):
        with pytest.raises(DataError, match=f"^{tmp_path}/no: no such folder"):
            build_dataset({"name": "star_folder", "root": root}, plugins().registries)


@pytest.mark.parametrize("override", ["model", "model=[a", "model={a", "model='a", "a b=~c"])
def test_what_is_malformed_stays_an_error(override: str) -> None:
    with pytest.raises(ConfigError, match="KEY=VALUE"):
        compose_config("eval", [override])


def test_interpolations_are_refused_in_texts_too() -> None:
    with pytest.raises(ConfigError, match="interpolations"):
        compose_config("eval", ["model=~(${oc.env:HOME}"])


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["modalities=photometry"], ["modalities='photometry'", "a list", "[photometry]"]),
        (["optimizer.betas=0.9"], ["optimizer.betas=0.9", "list of numbers"]),
        (["objective=[]"], ["objective: choose at least one", "astrom3", "contrastive"]),
        (["objective=null"], ["Choose by name", "objective=[NAME]"]),
        (["=3"], ["no key ''"]),
        (["data=3"], ["Choose by name", "data=NAME"]),
        (["optimizer=3"], ["optimizer=3", "optimizer.name=VALUE"]),
        (["objective.contrastive=3"], ["objective.contrastive.name=VALUE"]),
        (["data.root=x"], ["data=NAME data.root=…", "image_folder"]),
        (["data.n_star=3"], ["Did you mean data.n_stars"]),
        (["data.root=/a,/b"], ["-m", "\"data.root='A,B'\""]),
        (["data=~/x"], ["no data=", "image_folder"]),
    ],
)
def test_mistakes_of_train(overrides: list[str], words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        typed(TrainConfig, compose_config("train", ["domain=astro", *overrides]))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("data.root=x", ["data=NAME data.root=…", "image_folder"]),
        ("data.foo=x", ["Choose data=NAME first", "image_folder"]),
        ("protocols=retrieval", ["protocols='retrieval'", "[retrieval]"]),
    ],
)
def test_mistakes_of_eval(override: str, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        typed(EvalConfig, compose_config("eval", ["model=runs/x", override]))
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize("verb", ["eval", "embed", "predict"])
def test_the_policy_of_errors_on_the_data_of_the_run(verb: str) -> None:
    data = compose_config(verb, ["model=runs/x", "data.on_error=skip"])["data"]
    assert data == {"on_error": "skip"}
    known = {"name": "simulated_variable_stars", "n_stars": 7, "split_seed": 2}
    dataset = resolve_data(data, known, "runs/x")
    assert isinstance(dataset, SkippingDataset)
    assert (len(dataset), dataset.split_seed) == (7, 2)
    with pytest.raises(ConfigError, match="runs/x comes without data"):
        resolve_data(data, None, "runs/x")


def test_the_quotes_that_the_message_gives_work() -> None:
    settings = ["domain=astro", "data=star_folder", "data.root='/a,/b'"]
    assert compose_config("train", settings)["data"]["root"] == "/a,/b"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"n_stars": "abc"}, "n_stars='abc' has to be a whole number"),
        ({"n_stars": 50.5}, "n_stars=50.5 has to be a whole number"),
        ({"name": "star_folder", "root": 3}, "root=3 has to be a text"),
        ({"name": "star_folder", "root": ".", "units": "Jy"}, "units='Jy' has to be a mapping"),
        ({"name": "star_folder", "root": ".", "ignore": 3}, "ignore=3 has to be a list of texts"),
        ({"name": "osc_supernovae", "root": ".", "types": "Ia"}, "such as [Ia]"),
        ({"adapters": "ab"}, "data: adapters='ab' has to be a mapping"),
        ({"adapters": {"photometry": 3}}, "adapters={'photometry': 3} has to be a mapping"),
        ({"name": 3}, "name of a registered dataset has to be a text, not 3"),
    ],
)
def test_values_that_a_dataset_cannot_take(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ZooError) as caught:
        build_dataset({"name": "simulated_variable_stars", **settings}, plugins().registries)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("part", "settings", "message"),
    [
        ("galspecnet", {"in_channels": 3, "input_length": 2575, "conv_channels": 3}, "such as [3]"),
        ("metadata_mlp", {"in_channels": 3, "hidden_dim": "abc"}, "has to be a whole number"),
        ("metadata_mlp", {"in_channels": 3, "hidden_dim": -1}, "cannot be made with"),
    ],
)
def test_values_that_an_encoder_cannot_take(
    part: str, settings: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        plugins().registries.encoders.build(part, "model", **settings)
    assert message in str(caught.value)


def test_values_that_an_objective_cannot_take() -> None:
    with pytest.raises(ConfigError, match="initial_scale='a' has to be a number"):
        plugins().registries.objectives.build(
            "contrastive", "objective.contrastive", ("a", "b"), initial_scale="a"
        )
