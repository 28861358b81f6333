"""Many pictures with some broken in every way: counted and left out, or named and stopped."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import time_limit
from many_images import BROKEN, write_images
from PIL import Image

import zoo
from shared.errors import ZooError
from shared.evaluation.hygiene.checks import check_hygiene
from zoo.cli.main import main


def mean_colours(images: list[Any]) -> Any:
    """An embedder that anybody could give `zoo.embed`."""
    return np.array([image.mean(axis=(0, 1)) for image in images])


@pytest.fixture(scope="module")
def broken(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[Path, str]]:
    root = tmp_path_factory.mktemp("many") / "root"
    return root, write_images(root, 6 * len(BROKEN), every=6)


def test_they_are_counted_and_left_out(
    broken: tuple[Path, dict[Path, str]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    root, bad = broken
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.py").write_text(
        "def embed(images):\n    return [image.mean(axis=(0, 1)) for image in images]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    data = ["data=image_folder", f"data.root={root}"]
    command = ["embed", "model=python:mine:embed", "modalities=[image]", *data, "out=e.npz"]
    with time_limit(60):
        assert main([*command, "data.on_error=skip"]) == 0
    said = re.sub(r"\s+", " ", "".join(capsys.readouterr()))
    assert f"cannot be used (data.on_error=skip): whole samples {len(bad)}" in said
    listed = {Path(e["file"]): e["reason"] for e in json.loads(Path("e.skipped.json").read_text())}
    assert listed.keys() == bad.keys()
    for path, words in bad.items():
        assert re.search(words, listed[path]), listed[path]
        assert str(path) in listed[path]
    embeddings = zoo.EmbeddingSet.load(Path("e.npz"))
    used = embeddings.present["image"]
    assert (~used).sum() == len(bad)
    assert embeddings.classes == ("a", "b")
    assert np.isfinite(embeddings.vectors["image"][used]).all()


def test_the_first_is_named_and_stops(
    broken: tuple[Path, dict[Path, str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    root, bad = broken
    data = zoo.dataset("image_folder", root=str(root))
    first = next(root / name for name in data.ids.tolist() if root / name in bad)
    with time_limit(60), pytest.raises(ZooError, match=bad[first]) as caught:
        zoo.embed(mean_colours, data, modalities=["image"])
    assert str(first) in str(caught.value)
    assert "data.on_error=skip" in str(caught.value)


@pytest.mark.parametrize("kind", BROKEN)
def test_each_is_one_clear_message(tmp_path: Path, kind: str) -> None:
    make, words = BROKEN[kind]
    root = tmp_path / "root"
    write_images(root, 2)
    make(root / "a" / "x.jpg", Image.new("RGB", (64, 64)))
    data = zoo.dataset("image_folder", root=str(root))
    assert data.fingerprint
    row = data.ids.tolist().index("a/x.jpg")
    with time_limit(20), pytest.raises(ZooError, match=words) as caught:
        data[row]
    assert "a/x.jpg" in str(caught.value)
    assert str(caught.value).count("\n") == 0
    assert "0x" not in str(caught.value)


def test_links_to_folders_are_no_classes(tmp_path: Path) -> None:
    """Neither one that leads back, at any depth, nor one in a class; another class under two names
    is read twice."""
    root = tmp_path / "root"
    write_images(root, 4)
    (root / "a" / "up").symlink_to("../..")
    (root / "up").symlink_to("..")
    (root / "c").symlink_to("b")
    data = zoo.dataset("image_folder", root=str(root))
    assert data.classes == ("a", "b", "c")
    labels = dict(zip(data.ids.tolist(), data.labels.tolist(), strict=True))
    assert labels["up"] == -1
    assert labels["a/up"] == 0
    for name in ("up", "a/up"):
        with pytest.raises(ZooError, match="leads out of"):
            data[data.ids.tolist().index(name)]
    assert data[data.ids.tolist().index("c/00001.jpg")]["image"].shape == (64, 64, 3)


def test_copies_in_two_splits_are_told(tmp_path: Path) -> None:
    """Equal bytes under two names, in training and in test."""
    root = tmp_path / "root"
    for split in ("train", "test"):
        write_images(root / split, 40)  # the same noise
    for number in range(2, 40):
        path = root / "test" / "ab"[number % 2] / f"{number:05d}.jpg"
        pixels = np.random.default_rng(number).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
    data = zoo.dataset("image_folder", root=str(root))
    hygiene = check_hygiene(zoo.embed(mean_colours, data, modalities=["image"]))
    pairs = {
        (data.ids[d.first], data.ids[d.second]) for d in hygiene.duplicates if d.kind == "content"
    }
    assert pairs == {(f"test/{name}.jpg", f"train/{name}.jpg") for name in ("a/00000", "b/00001")}
    assert any("2 of 40 samples of the test split have the content" in w for w in hygiene.warnings)
