"""A domain in a distribution of its own: installed, listed, trained, loaded and judged.

The verbs run in processes of their own with the toy installed, as for a user; its objective is
also held against the formula here.
"""

import csv
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
import torch
from forked import zoo_forked
from torch.nn.functional import normalize

from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.objectives.base import Encoded
from zoo import Objective, Request, Tensors, ZooError

ROOT = Path(__file__).resolve().parents[2]
TOY = ROOT / "tests" / "toy_domain"
SHORT = ["data.n_points=500", "trainer.max_epochs=10", "loader.batch_size=64", "trainer.device=cpu"]

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("toy")


@pytest.fixture(scope="session")
def environment(home: Path, toy_site: Path) -> dict[str, str]:
    """With the toy installed."""
    return {
        **os.environ,
        "PYTHONPATH": str(toy_site),
        "ZOO_HOME": str(home / "cache"),
        "ZOO_OFFLINE": "1",
        "COLUMNS": "200",
        "OMP_NUM_THREADS": "1",
    }


@pytest.fixture(scope="session")
def python(environment: dict[str, str], home: Path) -> Run:
    """Runs Python where the toy is installed; `python("-m", "zoo.cli.main", "list")`."""

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", *arguments]
        done = subprocess.run(
            command, env=environment, cwd=home, capture_output=True, text=True, check=False
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def zoo(environment: dict[str, str], home: Path) -> Run:
    """Runs `zoo` there; `zoo("list")`."""

    def run(*arguments: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        done = zoo_forked(arguments, home, environment)
        assert done.returncode == code, done.stdout + done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def trained(zoo: Run, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The run folder of `zoo train domain=toy`, and what it printed."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    done = zoo("train", "domain=toy", *SHORT, f"run_folder={folder}")
    return folder, done.stdout


def scores(path: Path) -> dict[tuple[str, str, str], dict[str, float]]:
    results = map(json.loads, path.read_text().splitlines())
    return {(r["protocol"], r["inputs"], r["metric"]): r for r in results}


def assert_above_chance(path: Path) -> None:
    """The whole interval of every probe and of both retrievals lies above chance."""
    found = scores(path)
    for metric, inputs in (
        ("balanced_accuracy", ("position", "bearing", "all")),
        ("recall@5", ("position->bearing", "bearing->position")),
    ):
        protocol = "retrieval" if metric == "recall@5" else "linear_probe"
        for name in inputs:
            result = found[protocol, name, metric]
            assert result["ci_low"] > result["chance"], result


def test_it_is_listed(zoo: Run) -> None:
    assert re.search(r"toy\s.*zoo-toy-domain 0\.1\.0.*ready", zoo("plugins").stdout)
    names = zoo("list", "--domain", "toy").stdout
    for name in ("toy-model:small", "noisy_circle", "toy_mlp", "alignment_uniformity", "quadrants"):
        assert re.search(rf"{name}\s.*ready", names)
    card = zoo("info", "toy-model").stdout
    assert "point on a circle" in card
    assert '"name": "toy_mlp"' in card


def test_listing_it_imports_neither_torch_nor_its_parts(python: Run) -> None:
    python(
        "-c",
        "import sys; from zoo.cli.main import main; main(['list']);"
        "assert 'zoo_toy' in sys.modules and 'zoo_toy.data' not in sys.modules;"
        "assert 'torch' not in sys.modules",
    )


def test_mistakes_in_its_settings_are_messages(zoo: Run) -> None:
    done = zoo("train", "domain=toy", "data.n_pionts=3", "--dry-run", code=2)
    assert "Did you mean data.n_points" in done.stderr
    done = zoo("train", "domain=toy", "objective=[alignment]", "--dry-run", code=2)
    assert "Did you mean 'alignment_uniformity'?" in done.stderr


@pytest.mark.slow
def test_train(trained: tuple[Path, str]) -> None:
    folder, printed = trained
    assert "synthetic data noisy_circle: 500 samples" in printed
    assert f"zoo eval model={folder}" in printed
    card = (folder / "model" / "README.md").read_text()
    assert "| bearing | (channel) | angle [deg] |" in card
    assert "synthetic" in card
    assert_above_chance(folder / "results.jsonl")


@pytest.mark.slow
def test_eval(trained: tuple[Path, str], zoo: Run, tmp_path: Path) -> None:
    """From the folder alone the verb finds data and evaluator, and repeats what training said."""
    folder, _ = trained
    printed = zoo("eval", f"model={folder}", f"run_folder={tmp_path / 'eval'}").stdout
    assert "noisy_circle (synthetic data)" in printed
    again, first = scores(tmp_path / "eval" / "results.jsonl"), scores(folder / "results.jsonl")
    assert {k: r["value"] for k, r in again.items()} == {k: r["value"] for k, r in first.items()}
    assert again["linear_probe", "position", "accuracy"]["simple_features"] is not None


@pytest.mark.slow
def test_embed(trained: tuple[Path, str], zoo: Run, tmp_path: Path) -> None:
    zoo("embed", f"model={trained[0]}", f"out={tmp_path / 'points.parquet'}")
    found = EmbeddingSet.load(tmp_path / "points.parquet")
    assert len(found) == 500
    assert found.ids[0] == "point00000"
    assert found.present["position"].all()
    assert 0.7 < found.present["bearing"].mean() < 0.9
    assert {v.shape for v in found.vectors.values()} == {(500, 8)}


@pytest.mark.slow
def test_python_and_its_own_objective(
    trained: tuple[Path, str], python: Run, tmp_path: Path
) -> None:
    """In one process, for the time it takes to start; use_toy.py holds what is asserted."""
    script = Path(__file__).with_name("use_toy.py")
    python(str(script), str(trained[0]), str(tmp_path), "domain=toy", *SHORT)
    with (tmp_path / "both" / "metrics.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["step"] == "1"]
    values = {row["metric"].removeprefix("train/"): float(row["value"]) for row in rows}
    loss = 0.5 * (values["contrastive/position->bearing"] + values["contrastive/bearing->position"])
    own = values["alignment_uniformity/alignment_position_bearing"] + 0.5 * (
        values["alignment_uniformity/uniformity_position"]
        + values["alignment_uniformity/uniformity_bearing"]
    )
    assert values["loss"] == pytest.approx(loss + 0.5 * own, rel=1e-5)


def tensors(n: int, missing: Sequence[int], seed: int = 0) -> Tensors:
    """Unit-norm rows of two modalities; the second lacks some rows, which hold zeros."""
    generator = torch.Generator().manual_seed(seed)
    rows = [normalize(torch.randn(n, 4, generator=generator), dim=1) for _ in range(2)]
    present = [torch.ones(n, dtype=torch.bool) for _ in range(2)]
    present[1][list(missing)] = False
    rows[1][~present[1]] = 0.0
    encoded = {
        Request(name): Encoded(values.requires_grad_(), there)
        for name, values, there in zip(("a", "b"), rows, present, strict=True)
    }
    return Tensors(encoded, {}, torch.full((n,), -1), torch.arange(n))


@pytest.fixture
def objective(monkeypatch: pytest.MonkeyPatch) -> Objective:
    monkeypatch.syspath_prepend(str(TOY))
    from zoo_toy.objective import AlignmentUniformity

    return AlignmentUniformity(["a", "b"], t=2.0, uniformity=0.7)


@pytest.mark.parametrize("missing", [(), (1, 4), (0, 1, 2, 3), (0, 1, 2, 3, 4)])
def test_the_objective_is_the_formula_of_the_paper(
    objective: Objective, missing: Sequence[int]
) -> None:
    given = tensors(5, missing)
    rows = {r.modality: e.rows.detach().double().numpy() for r, e in given.encoded.items()}
    have = [i for i in range(5) if i not in missing]
    distances = [np.sum((rows["a"][i] - rows["b"][i]) ** 2) for i in have]
    expected = np.mean(distances) if have else 0.0
    for name, those in (("a", range(5)), ("b", have)):
        potentials = [
            np.exp(-2 * np.sum((rows[name][i] - rows[name][j]) ** 2))
            for i, j in combinations(those, 2)
        ]
        expected += 0.35 * np.log(np.mean(potentials)) if potentials else 0.0
    output = objective(given)
    assert float(output.loss.detach()) == pytest.approx(expected, abs=1e-6)
    output.loss.backward()
    for request, encoded in given.encoded.items():
        gradient = encoded.rows.grad
        assert gradient is not None, request
        assert torch.isfinite(gradient).all()
        assert (gradient[~encoded.present] == 0).all()


def test_the_objective_needs_two_modalities(objective: Objective) -> None:
    with pytest.raises(ZooError, match="needs two modalities; the run has a"):
        type(objective)(["a"])


def blocks(language: str) -> Iterator[tuple[Path, str]]:
    """Fenced blocks of one language in the documents that the toy is an example for."""
    for name in ("new-domain.md", "new-objective.md", "data.md"):
        path = ROOT / "docs" / name
        for block in re.findall(rf"```{language}\n(.*?)```", path.read_text(), re.DOTALL):
            yield path, block


def test_the_documents_quote_the_toy_as_it_is() -> None:
    quoted = [
        b for language in ("python", "yaml") for _, b in blocks(language) if "# zoo_toy/" in b
    ]
    assert len(quoted) > 8
    for block in quoted:
        source, _, text = block.removeprefix("# ").partition("\n")
        assert text in (TOY / source).read_text(), f"{source} is not as the documents quote it"


def test_the_commands_of_the_documents(python: Run) -> None:
    """Every `zoo` line is taken; what has settings is composed and checked by `--dry-run`."""
    lines = [line for _, b in blocks("bash") for line in b.splitlines() if line.startswith("zoo ")]
    commands = [shlex.split(line, comments=True)[1:] for line in lines]
    checked = [[*c, "--dry-run"] for c in commands if c[0] in ("train", "eval", "embed")]
    assert len(checked) > 8
    code = "import sys, json; from zoo.cli.main import main\nfor c in json.loads(sys.argv[1]): "
    done = python("-c", code + "assert main(c) == 0, c", json.dumps(checked))
    assert "alignment_uniformity" in done.stdout


def test_the_python_of_the_data_document(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for path, block in blocks("python"):
        if path.name == "data.md":
            exec(compile(block, str(path), "exec"), names)
    assert capsys.readouterr().out.startswith("100 (Channel(name='time'")
    assert len(EmbeddingSet.load(tmp_path / "embeddings.npz")) == 100
