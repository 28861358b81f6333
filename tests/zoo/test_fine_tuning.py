"""The same fine-tuning with several seeds: what is trained, skipped, resumed and judged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

import zoo
from shared.errors import ConfigError
from shared.evaluation.outcomes import SeededOutcome
from shared.evaluation.protocols.classifier import over_seeds, with_classes
from zoo.cli.main import main
from zoo.config import load_yaml
from zoo.fine_tuning import fine_tune, is_finished, judge_runs

SHORT = ["loader.batch_size=16", "trainer.max_epochs=1", "trainer.device=cpu"]
WIDTH = 16


@pytest.fixture(scope="module")
def contrastive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "contrastive"
    settings = ["domain=astro", "data.n_stars=45", f"model.embed_dim={WIDTH}", "evaluator=null"]
    only = "modalities=[photometry,metadata]"
    assert main(["train", *settings, *SHORT, only, f"run_folder={folder}"]) == 0
    return folder


@pytest.fixture(scope="module")
def tuned(contrastive: Path) -> list[Path]:
    return fine_tune(contrastive, *SHORT, folder=contrastive.with_name("tuned"), seeds=(0, 1))


def test_runs_take_over_what_the_first_one_was(contrastive: Path, tuned: list[Path]) -> None:
    assert [run.name for run in tuned] == ["seed-0", "seed-1"]
    before = load_yaml(contrastive / "config.yaml")
    for seed, run in enumerate(tuned):
        assert is_finished(run)
        config = load_yaml(run / "config.yaml")
        assert (config["seed"], config["data"]) == (seed, before["data"])
        assert config["model"]["embed_dim"] == WIDTH
        assert config["modalities"] == ["photometry", "metadata"]
        assert list(config["objective"]) == ["classification"]
        assert zoo.load(run).classifier is not None


def test_finished_runs_are_skipped(contrastive: Path, tuned: list[Path]) -> None:
    weights = [run / "model/model.safetensors" for run in tuned]
    before = [path.stat().st_mtime_ns for path in weights]
    again = fine_tune(contrastive, *SHORT, folder=tuned[0].parent, seeds=(0, 1))
    assert again == tuned
    assert [path.stat().st_mtime_ns for path in weights] == before


def test_a_stopped_run_is_gone_on_with(
    contrastive: Path, tuned: list[Path], tmp_path: Path
) -> None:
    """Killed before its model was saved: the steps that were done are not done again."""
    folder = tmp_path / "moved"
    shutil.copytree(tuned[0], folder / "seed-0")
    whole = (folder / "seed-0/model/model.safetensors").read_bytes()
    metrics = (folder / "seed-0/metrics.csv").read_bytes()
    shutil.rmtree(folder / "seed-0/model")
    with pytest.raises(ConfigError, match="is not finished"):
        judge_runs([folder / "seed-0"], zoo.dataset("simulated_variable_stars"), ["photometry"])
    fine_tune(contrastive, *SHORT, folder=folder, seeds=(0,))
    assert (folder / "seed-0/model/model.safetensors").read_bytes() == whole
    assert (folder / "seed-0/metrics.csv").read_bytes() == metrics


def test_seeds_become_one_protocol(contrastive: Path, tuned: list[Path]) -> None:
    samples = zoo.dataset("simulated_variable_stars", n_stars=45)
    modalities = ("photometry", "metadata")
    outputs = judge_runs(tuned, samples, modalities, device="cpu")
    assert list(outputs) == [0, 1]
    protocol = over_seeds(outputs)
    embeddings = zoo.embed(contrastive, samples, device="cpu", cache=False).select(modalities)
    embeddings = with_classes(embeddings, outputs[0])
    found = {t.inputs: protocol.run(t, embeddings, {}) for t in protocol.tasks(embeddings, {})}
    assert set(found) == {"photometry", "metadata", "all"}
    for output in found.values():
        assert isinstance(output.outcome, SeededOutcome)
        assert output.seeds == (0, 1)
    # the seeds start from other classifiers and see other orders
    first, second = (o.probabilities[modalities] for o in outputs.values())
    rows = embeddings.rows("test", *modalities)
    assert not np.allclose(first[rows], second[rows])


def test_mistakes(contrastive: Path, tuned: list[Path]) -> None:
    for seeds in ((), (1, 1)):
        with pytest.raises(ConfigError, match="at least one, each once"):
            fine_tune(contrastive, *SHORT, folder=tuned[0].parent, seeds=seeds)
    with pytest.raises(ConfigError, match="a run with another optimizer: nothing is overwritten"):
        fine_tune(contrastive, *SHORT, "optimizer.lr=0.5", folder=tuned[0].parent, seeds=(0, 1))
    with pytest.raises(ConfigError, match="trains in one process"):
        fine_tune(contrastive, *SHORT, "trainer.devices=2", folder="nowhere", seeds=(0,))
