"""What pages of docs/ show runs as it stands there."""

import contextlib
import io
import re
import shlex
from pathlib import Path

import numpy as np
import pytest

import zoo
from zoo.cli.main import main
from zoo.config import compose_config

DOCS = Path(__file__).parents[2] / "docs"


def blocks(page: str, language: str = "python") -> list[str]:
    """The code that a page shows, in its order."""
    text = (DOCS / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """The folder that the blocks leave, run one after another, and what each prints."""
    folder, names, printed = tmp_path_factory.mktemp("docs"), {}, []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.syspath_prepend(folder)
        for block in blocks("evaluation.md"):
            if name := re.match(r"# (\w+\.py)\n", block):
                Path(name[1]).write_text(block, encoding="utf-8")
            with contextlib.redirect_stdout(io.StringIO()) as shown:
                exec(block, names)
            printed.append(shown.getvalue())
    return folder, printed


def test_the_file_of_embeddings_has_all_kinds_of_targets(ran: tuple[Path, list[str]]) -> None:
    mine = zoo.EmbeddingSet.load(ran[0] / "mine.npz")
    assert (mine.classes, set(mine.tags), set(mine.targets)) == (
        ("quiet", "variable"),
        {"flare", "dust"},
        {"mass"},
    )
    # no group is divided when it is split anew
    anew = zoo.EmbeddingSet.load(ran[0] / "mine-split-anew.npz")
    assert all(len(set(anew.splits[anew.groups == g])) == 1 for g in np.unique(anew.groups))


def test_the_command_judges_it(
    ran: tuple[Path, list[str]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ran[0])
    chosen = ["protocols=[nearest_centroid,ridge_probe]", "n_resamples=10", "run_folder=out"]
    assert main(["eval", "embeddings=mine.npz", *chosen]) == 0
    assert "telescope=north" in capsys.readouterr().out


def test_the_protocol_has_scores_with_intervals(ran: tuple[Path, list[str]]) -> None:
    lines = [line.split() for line in ran[1][-1].splitlines()]
    whole = {(line[0], line[1]): [float(x) for x in line[2:]] for line in lines if len(line) == 5}
    assert len(whole) == 3 * 3
    value, low, high = whole["image", "accuracy"]
    assert 0.5 < low < value < high < 1


def test_the_page_of_remote_sensing_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    for block in blocks("remote-sensing-data.md"):
        exec(block, names)
    assert "beach_1.png#0 a made-up beach 1 beach_1.png" in capsys.readouterr().out
    assert set(names["bands"]) == {"blue", "green", "red", "nir"}


def test_trainings_that_pages_show_compose() -> None:
    """One composition a training, without data: a setting that is gone would be told."""
    pages = ("remote-sensing.md", "remote-sensing-data.md", "rs-m-clip.md", "lora.md", "scaling.md")
    lines = "".join(block for page in pages for block in blocks(page, "bash"))
    found = 0
    for line in lines.replace("\\\n", " ").splitlines():
        verb, *words = shlex.split(line, comments=True)[1:] or [""]
        if verb == "train":
            compose_config("train", words)
            found += 1
    assert found > 10
