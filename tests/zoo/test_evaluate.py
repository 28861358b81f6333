"""`zoo eval` and `zoo compare` as typed: killed and resumed, swept and swept again, compared."""

import json
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.evaluation.results.result import load_results
from zoo.cli.main import main
from zoo.plugins import plugins

SETTINGS = ["protocols=[nearest_centroid,retrieval,clustering]", "n_resamples=50"]
QUICK = ["protocols=[nearest_centroid]", "n_resamples=50"]

KILLED = """
import os, signal, sys
from shared.evaluation.results import store
from zoo.cli.main import main

append, calls = store.append_results, []

def stopping(path, results):
    calls.append(path)
    if len(calls) == int(sys.argv[1]):
        append(path, results)
        os.truncate(path, path.stat().st_size - 30)
        os.kill(os.getpid(), signal.SIGKILL)
    append(path, results)

store.append_results = stopping
main(sys.argv[2:])
"""


def write(path: Path, spread: float, seed: int = 0) -> Path:
    """Two modalities of three classes, in groups of two."""
    rng = np.random.default_rng(seed)
    labels = np.arange(120) % 3
    latent = spread * np.eye(6)[labels] + rng.normal(size=(120, 6))
    np.savez(
        path,
        **{
            "embedding.image": latent,
            "embedding.text": latent + rng.normal(size=(120, 6)),
            "labels": labels,
            "groups": np.array([f"g{i // 2}" for i in range(120)]),
        },
    )
    return path


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, with two files of embeddings of the same samples."""
    monkeypatch.chdir(tmp_path)
    # they take most of the time, and have tests of their own
    monkeypatch.setattr("shared.evaluation.pictures.save_pictures", lambda *_: [])
    write(tmp_path / "a.npz", 3.0)
    write(tmp_path / "b.npz", 0.5)
    return tmp_path


@pytest.fixture
def jobs(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Jobs of a sweep run in this process; what was run."""
    run: list[list[str]] = []

    def run_job(command: Sequence[str]) -> int:
        run.append(list(command[4:]))
        return main(command[4:])

    monkeypatch.setattr("zoo.cli.sweep.run_job", run_job)
    return run


def plain(folder: Path) -> list[object]:
    """Results without what times change."""
    created = "2026-01-01T00:00:00+00:00"
    return [replace(r, seconds=0.0, created=created) for r in load_results(folder)]


def contents(folder: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert main(list(argv)) == 2
    return capsys.readouterr().err


def test_a_killed_evaluation_goes_on_to_the_same_end(here: Path) -> None:
    """Killed while the results of the fifth task are written."""
    arguments = ["eval", "embeddings=a.npz", *SETTINGS]
    assert main([*arguments, "run_folder=whole"]) == 0
    killed = [sys.executable, "-c", KILLED, "5", *arguments, "run_folder=killed"]
    assert subprocess.run(killed, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert not (here / "killed" / "results.parquet").exists()
    before = contents(here / "killed" / "predictions")
    assert len(before) == 5
    (here / "killed" / ".results.parquet.1.tmp.parquet").write_bytes(b"half")
    assert main(["eval", "resume=killed"]) == 0
    after = contents(here / "killed")
    assert {p: after[p] for p in before} == before
    assert plain(here / "killed") == plain(here / "whole")
    assert plain(here / "killed" / "results.parquet") == plain(here / "whole")

    def names(folder: str) -> set[Path]:
        return {p.relative_to(here / folder) for p in contents(here / folder)}

    assert names("killed") == names("whole")
    for path in (here / "whole" / "predictions").iterdir():
        assert (here / "killed" / "predictions" / path.name).read_bytes() == path.read_bytes()
    told = json.loads((here / "killed" / "environment.json").read_text())["evaluation"]
    assert len(told["resumed"]) == 1


def test_a_finished_evaluation_is_resumed_for_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["eval", "embeddings=a.npz", *SETTINGS, "run_folder=out"]) == 0
    results = load_results(here / "out")
    monkeypatch.setattr("shared.evaluation.run._run", None)
    assert main(["eval", "resume=out"]) == 0
    assert "8 of 8 tasks were finished before" in capsys.readouterr().out
    assert load_results(here / "out") == results


def test_ctrl_c_says_how_to_go_on(
    here: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("shared.evaluation.run.score", stop)
        assert main(["eval", "embeddings=a.npz", *QUICK, "run_folder=out"]) == 130
    assert "interrupted; go on with: zoo eval resume=out" in capsys.readouterr().err
    assert main(["eval", "resume=out"]) == 0


def test_what_cannot_be_resumed_is_a_message(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "no run folder" in refused(capsys, "eval", "resume=nowhere")
    assert "goes alone" in refused(capsys, "eval", "resume=nowhere", "seed=1")
    assert main(["eval", "embeddings=a.npz", *SETTINGS, "run_folder=out"]) == 0
    before = contents(here / "out")
    message = refused(capsys, "eval", "embeddings=b.npz", *SETTINGS, "run_folder=out")
    assert "nothing is overwritten" in message
    write(here / "a.npz", 0.5)
    message = refused(capsys, "eval", "resume=out")
    assert "holds nearest_centroid on image of something else" in message
    lock = "from pathlib import Path; from shared.folder_lock import FolderLock\n"
    lock += "lock = FolderLock(Path('out')); lock.take(); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "Another process is evaluating" in refused(capsys, "eval", "resume=out")
        other.communicate(b"\n")
    assert contents(here / "out") == before


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("protocols=[knnn]", ["'knnn'", "'knn'"]),
        ("settings.knn.kk=[1]", ["settings.knn.kk", "no such setting"]),
        ("settings.kmn.k=[1]", ["'kmn'", "'knn'"]),
        ("settings.knn=3", ["settings.knn=3 has to be"]),
        ("settings.knn.k=many", ["settings.knn.k='many'", "whole number"]),
        ("settings.few_shot.shots=5", ["settings.few_shot.shots=5", "such as [5]"]),
        ("protocols=[]", ["protocols=[]", "one at least"]),
        ("protocols=[knn,knn]", ["knn stands there 2 times"]),
        ("protocols=[knn] settings.few_shot.shots=[5]", ["few_shot is not among protocols=[knn]"]),
        ("settings.linear_probe.l2_grid=[]", ["settings.linear_probe.l2_grid=[]: one value"]),
        ("settings.clustering.seeds=[-1]", ["settings.clustering.seeds=[-1]: seeds are"]),
        (
            "protocols=[embedding_health] settings.embedding_health.max_rows=0",
            ["max_rows=0 has to be at least 2"],
        ),
        ("seed=-1", ["seed=-1 has to be at least 0"]),
        ("n_resamples=-1", ["n_resamples=-1 has to be at least 2"]),
        ("n_resamples=1", ["n_resamples=1 has to be at least 2"]),
        ("subgroups=[hospital]", ["hospital"]),
        ("targets=[age]", ["age"]),
        ("simple_features=nowhere.npz", ["nowhere.npz"]),
        ("templates=a", ["templates"]),
    ],
)
def test_mistakes_leave_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], argument: str, words: list[str]
) -> None:
    message = refused(capsys, "eval", "embeddings=a.npz", *argument.split(), "run_folder=out")
    for word in words:
        assert word in message
    assert not (here / "out").exists()


def test_a_sweep_outlives_a_failing_job_and_is_resumed(
    here: Path, capsys: pytest.CaptureFixture[str], jobs: list[list[str]]
) -> None:
    (here / "c.npz").write_bytes(b"broken")
    arguments = ["eval", "-m", "embeddings=a.npz,c.npz,b.npz", "seed=3", *QUICK]
    assert main(arguments) == 1
    out = capsys.readouterr().out
    (sweep,) = (here / "runs").iterdir()
    assert f"zoo eval resume=runs/{sweep.name}" in out
    assert "2/3 (about" in out
    told = json.loads((sweep / "sweep.json").read_text())["jobs"]
    assert [job["status"] for job in told] == ["finished", "failed", "finished"]
    assert [job["exit_code"] for job in told] == [0, 2, 0]
    folders = [job["folder"] for job in told]
    assert folders[0].startswith("embeddings-a.npz-")
    assert len(set(folders)) == 3
    assert {r.model for r in load_results(sweep)} == {"a.npz", "b.npz"}
    assert (sweep / "report.html").is_file()
    before = contents(sweep / folders[0])

    write(here / "c.npz", 1.0)
    jobs.clear()
    assert main(["eval", f"resume={sweep}", "--dry-run"]) == 0
    assert capsys.readouterr().out.count("zoo eval embeddings=c.npz") == 1
    assert main(["eval", f"resume={sweep}"]) == 0
    assert [job[1] for job in jobs] == ["embeddings=c.npz"]
    assert contents(sweep / folders[0]) == before
    whole = load_results(sweep)
    assert whole == load_results(sweep / "results.parquet")
    assert sorted({(r.model, r.seeds) for r in whole}) == [(f"{x}.npz", (3,)) for x in "abc"]
    jobs.clear()
    assert main(["eval", f"resume={sweep}"]) == 0
    assert jobs == []


def test_a_sweep_that_means_something_else_now_is_refused(
    here: Path, capsys: pytest.CaptureFixture[str], jobs: list[list[str]]
) -> None:
    (here / "c.npz").write_bytes(b"broken")
    assert main(["eval", "-m", "embeddings=c.npz", *QUICK]) == 1
    (sweep,) = (here / "runs").iterdir()
    path = sweep / "sweep.json"
    content = json.loads(path.read_text())
    assert "sweep of `zoo eval`" in refused(capsys, "train", f"resume={sweep}")
    content["jobs"][0]["config_hash"] = "0" * 16
    path.write_text(json.dumps(content))
    assert "means other settings" in refused(capsys, "eval", f"resume={sweep}")
    (job,) = content["jobs"]
    for change in (
        {"folder": "../elsewhere"},
        {"overrides": "seed=1"},
        {"seconds": "long"},
        {"status": "fine"},
    ):
        path.write_text(json.dumps({"verb": "eval", "jobs": [{**job, **change}]}))
        assert "is damaged" in refused(capsys, "eval", f"resume={sweep}")
    path.write_text("[]")
    assert "is damaged" in refused(capsys, "eval", f"resume={sweep}")


def test_two_at_once_in_one_sweep(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = (
        "import sys, pathlib; from shared.folder_lock import FolderLock; "
        "lock = FolderLock(pathlib.Path('sweep')); lock.take(); print(flush=True); sys.stdin.read()"
    )
    (here / "sweep").mkdir()
    (here / "sweep" / "sweep.json").write_text('{"verb": "eval", "jobs": []}')
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", held], stdin=pipe, stdout=pipe) as other:
        assert other.stdout is not None
        other.stdout.readline()
        assert "Another process is sweeping" in refused(capsys, "eval", "resume=sweep")
        other.communicate()


def test_compare(here: Path, capsys: pytest.CaptureFixture[str], jobs: list[list[str]]) -> None:
    assert main(["eval", "-m", "embeddings=a.npz,b.npz", *QUICK]) == 0
    (sweep,) = (here / "runs").iterdir()
    a, b = sorted(map(str, sweep.glob("embeddings-*")))
    capsys.readouterr()
    assert main(["compare", b, a, "--out", "out", "--n-resamples", "200"]) == 0
    out = capsys.readouterr().out
    for word in ("a.npz minus b.npz", "better", "different data fingerprints", "compare.jsonl"):
        assert word in out
    rows = [json.loads(row) for row in (here / "out" / "compare.jsonl").read_text().splitlines()]
    accuracy = {r.model: r.value for r in load_results(sweep) if r.metric == "accuracy"}
    found = next(row for row in rows if row["metric"] == "accuracy" and row["inputs"] == "all")
    assert found["difference"] == accuracy["a.npz"] - accuracy["b.npz"]
    assert (here / "out" / "differences.png").read_bytes().startswith(b"\x89PNG")
    assert main(["compare", str(sweep)]) == 0
    assert "b.npz minus a.npz" in capsys.readouterr().out
    for argv, words in (
        ([a], "takes two run folders"),
        (["nowhere", a], "no such folder"),
        ([a, b, "--level", "95"], "between 0 and 1"),
        ([a, b, "--n-resamples", "1"], "at least 2"),
        ([a, b, "--protocols", "knn"], "not judged by a protocol 'knn'"),
        ([a, b, "--metrics", "acuracy"], "Did you mean 'accuracy'"),
    ):
        assert words in refused(capsys, "compare", *argv)


def test_doctor_knows_evaluations(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def examine() -> dict[str, object]:
        capsys.readouterr()
        main(["doctor", "out", "--json"])
        found: dict[str, object] = json.loads(capsys.readouterr().out)
        return found

    assert main(["eval", "embeddings=a.npz", *SETTINGS, "run_folder=out"]) == 0
    assert examine()["state"] == "finished"
    path = here / "out" / "results.jsonl"
    path.write_bytes(path.read_bytes()[:-20])
    (here / "out" / "results.parquet").unlink()
    told = examine()
    assert (told["state"], told["whole"]) == ("resumable", False)
    assert told["next"] == "zoo eval resume=./out"
    assert main(["eval", "resume=./out"]) == 0
    assert examine()["state"] == "finished"


def test_the_page_of_protocols_names_every_setting(capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if line.startswith("| `")]
    told = {
        name: set(re.findall(r"`(\w+)`", settings))
        for _, names, _, settings, _ in rows
        for name in re.findall(r"`(\w+)`", names)
    }
    protocols = plugins().registries.protocols
    assert set(told) == {entry.name for entry in protocols if entry.domain == "shared"}
    for name, words in told.items():
        others = {word for other in words & set(told) for word in told[other]}
        settings = set(protocols.get(name).settings)
        assert settings <= words | others
        assert words - set(told) <= settings | {"true", "false"}
    assert main(["list", "protocols"]) == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in told)


def test_judging_a_file_of_embeddings_needs_no_torch(here: Path) -> None:
    """Its import takes as long as a small evaluation."""
    code = "import sys; from zoo.cli.main import main; main(sys.argv[1:]); print(*sys.modules)"
    argv = [sys.executable, "-c", code, "eval", "embeddings=a.npz", *QUICK]
    told = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    assert "report.html" in told
    assert "torch" not in told.split()
