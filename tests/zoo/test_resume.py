"""`zoo train` killed with kill -9 in the middle of something, resumed, beside a run left alone.

`benchmarks/reliability/kill.py` does the same at random moments, as often as it is told to.
"""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from killing import KINDS, SHORT, Course, Instant, Killer, continued, differences

from zoo.api import train_config

pytestmark = pytest.mark.slow

EVERY_STEP = "trainer.checkpoint_every_n_steps=1"


def settings_of(kind: str) -> list[str]:
    return [*SHORT, *KINDS[kind], "trainer.max_epochs=2", EVERY_STEP]


@pytest.fixture(scope="module")
def killer(tmp_path_factory: pytest.TempPathFactory) -> Killer:
    return Killer(tmp_path_factory.mktemp("killer"))


@pytest.fixture(scope="module")
def course(
    toy: Path, killer: Killer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Course]:
    """A run left alone, once for every kind of objective."""
    runs, courses = tmp_path_factory.mktemp("runs"), {}

    def run(kind: str) -> Course:
        if kind not in courses:
            courses[kind] = killer.course(settings_of(kind), runs / kind.replace(" ", "-"))
        return courses[kind]

    return run


def middle(course: Course, phase: str, occurrence: int) -> Instant:
    return Instant(phase, occurrence, course.calls[phase][occurrence] // 2)


@pytest.mark.parametrize(
    ("kind", "phase", "occurrence"),
    [
        ("contrastive", "recording", 0),
        ("contrastive", "checkpoint", 3),
        ("contrastive", "metrics", 2),
        ("masked images", "step", 5),
        ("masked images", "validation", 1),
        ("self-distillation", "after step", 4),
        ("self-distillation", "best weights", 0),
        ("self-distillation", "model", 0),
    ],
)
def test_killed_and_resumed(
    kind: str,
    phase: str,
    occurrence: int,
    course: Callable[[str], Course],
    killer: Killer,
    tmp_path: Path,
) -> None:
    whole, folder = course(kind), tmp_path / "run"
    settings, instant = settings_of(kind), middle(whole, phase, occurrence)
    assert killer.run(continued(settings, folder), folder, instant) == phase
    assert killer.run(continued(settings, folder), folder) == "ended"
    assert differences(whole.folder, folder) == []


def test_between_the_renames_of_a_checkpoint(
    course: Callable[[str], Course], killer: Killer, tmp_path: Path
) -> None:
    """The last one is the previous one already, and the new one is not the last one yet."""
    whole, folder = course("contrastive"), tmp_path / "run"
    settings = [*settings_of("contrastive"), f"run_folder={folder}"]
    after_first = Instant("rename", 1, whole.calls["rename"][1])
    assert killer.run(settings, folder, after_first) in ("rename", "checkpoint")
    left = {p.name for p in (folder / "checkpoints").iterdir()}
    assert "previous.ckpt" in left
    assert "last.ckpt" not in left
    assert killer.run([f"resume={folder}"], folder) == "ended"
    assert differences(whole.folder, folder) == []


def test_killed_again_and_again_elsewhere_with_workers(
    course: Callable[[str], Course], killer: Killer, tmp_path: Path
) -> None:
    """Also while it resumes, with other processes reading, and moved to another place between."""
    whole, folder, moved = course("masked images"), tmp_path / "run", tmp_path / "moved"
    settings = [*settings_of("masked images"), "loader.num_workers=2", f"run_folder={folder}"]
    assert killer.run(settings, folder, middle(whole, "after step", 2)) == "after step"
    folder.rename(moved)
    for phase in ("resuming", "checkpoint", "step"):
        instant = Instant(phase, 0, 50)
        assert killer.run([f"resume={moved}"], moved, instant) == phase
    assert killer.run([f"resume={moved}"], moved) == "ended"
    assert differences(whole.folder, moved) == []
    assert killer.orphans() == []


@pytest.mark.parametrize(
    ("line", "edited", "told"),
    [
        ("lr: 0.01", "lr: 0.02", "optimizer.lr was 0.01 and is 0.02"),
        ("embed_dim: 128", "embed_dim: 64", "model.embed_dim was 128 and is 64"),
        # as many samples as before, but others
        ("label_fraction: 1.0", "label_fraction: 0.999", "label_fraction was 1.0 and is 0.999"),
    ],
)
def test_an_edited_config_is_refused(
    line: str,
    edited: str,
    told: str,
    course: Callable[[str], Course],
    killer: Killer,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "run"
    shutil.copytree(course("contrastive").folder, folder)
    config = folder / "config.yaml"
    assert line in config.read_text()
    config.write_text(config.read_text().replace(line, edited))
    with pytest.raises(RuntimeError, match=f"(?s)exit code 2.*{told}"):
        killer.run([f"resume={folder}"], folder)


def test_a_run_goes_on_from_any_folder(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = ["data.root=stars", "objective.distillation.teacher=teacher", "init.weights=./start"]
    config = train_config(["domain=astro", "data=star_folder", "objective=[distillation]", *named])
    paths = (config.data["root"], config.objective["distillation"]["teacher"], config.init.weights)
    assert paths == tuple(str(tmp_path / name) for name in ("stars", "teacher", "start"))


def test_a_difference_is_seen(
    course: Callable[[str], Course], killer: Killer, tmp_path: Path
) -> None:
    """The comparison that the others rest on."""
    whole, folder = course("contrastive"), tmp_path / "run"
    settings = [*settings_of("contrastive"), "seed=1", f"run_folder={folder}"]
    assert killer.run(settings, folder) == "ended"
    found = differences(whole.folder, folder)
    for name in ("metrics.csv", "model.safetensors", "best.safetensors", "tensorboard"):
        assert any(name in path for path in found)
    assert any("last.ckpt/optimizer_states" in path for path in found)
