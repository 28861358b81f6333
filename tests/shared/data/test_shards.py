"""Datasets of shards: what is read, how it is split, what is refused, what is kept of them."""

import io
import json
import pickle
import tarfile
from collections.abc import Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.data import tar_index
from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.data.open_files import OpenFiles, state_of
from shared.data.prepared import PreparedDataset
from shared.data.shards import WebDataset
from shared.data.skipping import skipped_of
from shared.errors import ConfigError, DataError
from shared.preprocessors.image import ImagePreprocessor
from shared.training.loader import CountedLoader
from zoo.plugins import plugins


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZOO_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def build(root: Path | str, members: Mapping[str, Any], **settings: Any) -> Dataset:
    node = {"name": "webdataset", "root": str(root), "members": members, **settings}
    return build_dataset(node, plugins().registries)


def write(path: Path, members: Mapping[str, bytes]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))


def png(value: int, form: str = "PNG") -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((4, 5, 3), value, np.uint8)).save(file, form)
    return file.getvalue()


def npy(array: Any, **arrays: Any) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays) if arrays else np.save(file, array)
    return file.getvalue()


TEXTS = {f"{n:03d}.txt": f"text {n}".encode() for n in range(20)}
IMAGES = {f"{n:03d}.png": png(n) for n in range(20)}
ARRAY = {"axes": ["time", "channel"], "channels": [{"name": "flux", "unit": "mJy"}]}


def test_members_of_every_kind(tmp_path: Path) -> None:
    about = json.dumps({"title": "a field", "label": "wet"}).encode()
    series = np.arange(6.0).reshape(6, 1)
    first = {"a.jpg": png(1, "JPEG"), "a.JSON": about, "a.npy": npy(series), "a.cls": b"10\n"}
    second = {"b.left.webp": png(2, "WEBP"), "b.json": about, "b.npy": npy(series), "b.cls": b"9"}
    write(tmp_path / "x/train.tar", first | {"__meta__": b"", "README": b""})
    write(tmp_path / "x/val.tar", second | {"b.npz": npy(None, flux=series)})
    members = {"image": ["jpg", "left.webp"], "text": "json.title", "flux": "npy"}
    dataset = build(tmp_path / "x", members, arrays={"flux": ARRAY}, label="cls")
    assert dataset.ids.tolist() == ["train/a", "val/b"]
    assert (dataset.classes, dataset.labels.tolist()) == (("9", "10"), [1, 0])
    assert dataset.splits.tolist() == ["train", "val"]
    assert [dataset[i]["image"].shape for i in (0, 1)] == [(4, 5, 3)] * 2
    assert dataset[0]["text"] == "a field"
    assert np.array_equal(dataset[1]["flux"], series)
    packed = build(tmp_path / "x", {"flux": "npz.flux"}, arrays={"flux": ARRAY}, label="json.label")
    assert np.array_equal(packed[1]["flux"], series)
    assert packed.classes == ("wet",)
    with pytest.raises(ConfigError, match=r"no sample of .* has a member .cls2; .* has jpg, json"):
        build(tmp_path / "x", {"text": "json.title"}, label="cls2").labels  # noqa: B018


@pytest.mark.parametrize(
    ("members", "settings", "says"),
    [
        ({"text": "pyd"}, {}, "unpickling a file runs what it says"),
        ({"text": "html"}, {}, r"members .html are not read. Those that are: bmp, caption"),
        ({"text": "json"}, {}, "which field of .json"),
        ({"image": ["jpg", "txt"]}, {}, "endings of one kind"),
        ({}, {}, "data.members is empty"),
        ({"flux": "npy"}, {}, "say what they hold by data.arrays.flux="),
        ({"flux": "npy"}, {"arrays": {"flux": {"axes": ["a"], "unit": "m"}}}, "no setting 'unit'"),
        ({"text": "txt"}, {"lanes": 0}, "at least 1"),
        ({"text": "txt"}, {"val": "*x*"}, r"data.val=\*x\* fits no shard"),
    ],
)
def test_settings_that_cannot_be(
    tmp_path: Path, members: Any, settings: dict[str, Any], says: str
) -> None:
    write(tmp_path / "a.tar", TEXTS)
    with pytest.raises(ConfigError, match=says):
        build(tmp_path, members, **settings).splits  # noqa: B018


@pytest.mark.parametrize(
    ("ending", "content", "says"),
    [
        ("npy", npy(np.ones((3, 1)))[:-1], "no whole array"),
        ("npy", npy(np.array([{}], dtype=object)), "no whole array"),
        ("npy", npy(np.ones((3, 1))).replace(b"(3, 1)", b"(9, 9)"), "other numbers than it holds"),
        ("npy", npy(np.ones((3, 2))), "has 2 channels, not 1"),
        ("npz.flux", b"PK", "its npz is damaged"),
        ("npz.flux", npy(None, other=np.ones(1)), "no array 'flux'"),
    ],
)
def test_damaged_arrays(tmp_path: Path, ending: str, content: bytes, says: str) -> None:
    write(tmp_path / "a.tar", {f"1.{ending.split('.')[0]}": content})
    with pytest.raises(DataError, match=says):
        build(tmp_path, {"flux": ending}, arrays={"flux": ARRAY})[0]


@pytest.mark.parametrize(("content", "says"), [(b"[1]", "no text 't'"), (b"{", "json is damaged")])
def test_damaged_json(tmp_path: Path, content: bytes, says: str) -> None:
    write(tmp_path / "a.tar", {"1.json": content})
    with pytest.raises(DataError, match=rf"a.tar, 1: its .*{says}|a.tar, 1: .*{says}"):
        build(tmp_path, {"text": "json.t"})[0]


def test_patterns_and_splits(tmp_path: Path) -> None:
    for number in range(3):
        write(tmp_path / f"s-{number:02d}.tar", TEXTS)
    pattern = f"{tmp_path}/s-{{00..02}}.tar"
    dataset = build(pattern, {"text": "txt"}, val="s-01", test="*2")
    assert [len(dataset.indices(s)) for s in ("train", "val", "test")] == [20, 20, 20]
    assert dataset.table.ids[20] == "s-01/000"
    # no word in the names: by a hash of the id, as of any dataset
    hashed = build(f"{tmp_path}/s-0[01].tar", {"text": "txt"})
    assert {*hashed.splits.tolist()} == {"train", "val", "test"}
    assert hashed.splits[:20].tolist() != hashed.splits[20:].tolist()
    with pytest.raises(DataError, match=r"s-03.tar: no such file"):
        build(f"{tmp_path}/s-{{02..03}}.tar", {"text": "txt"}).ids  # noqa: B018
    with pytest.raises(ConfigError, match="more than 100,000 shards"):
        build(f"{tmp_path}/{{0..9999}}{{0..9999}}.tar", {"text": "txt"}).ids  # noqa: B018
    for remote in ("s3://bucket/a.tar", "https://x/a.tar", "pipe:curl x"):
        # a relative setting comes with the folder that it was given in
        given = f"/here/{Path(remote)}" if remote.startswith("https") else remote
        with pytest.raises(ConfigError, match=rf"root={remote}: .* mount what holds them"):
            build(given, {"text": "txt"}).ids  # noqa: B018


def test_two_samples_of_one_key_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "a.tar", {"1.txt": b"a", "2.txt": b"b", "1.json": b"{}"})
    with pytest.raises(DataError, match=r"a.tar: the key '1' stands more than once"):
        build(tmp_path, {"text": "txt"}).ids  # noqa: B018


def test_what_is_damaged_is_skipped_and_named(tmp_path: Path) -> None:
    write(tmp_path / "a-train.tar", {**TEXTS, "020.jpg": b"x"})
    content = (tmp_path / "a-train.tar").read_bytes()
    (tmp_path / "b-val.tar").write_bytes(content[: content.index(b"011.txt") + 514])
    skipping = build(tmp_path, {"text": "txt"}, on_error="skip")
    assert len(skipping) == 21 + 12
    assert sum("text" in skipping[row] for row in range(33)) == 31
    first, second = skipped_of(skipping)
    assert "a-train.tar, 020: has no member .txt, only jpg." in first.reason
    assert (second.id, second.modality) == ("b-val/rest", None)
    assert "11 samples are whole. Get it anew" in second.reason


def test_what_is_not_asked_for_is_not_decoded(tmp_path: Path) -> None:
    """As of a locked tower whose embeddings are stored, or to learn a vocabulary."""
    write(tmp_path / "a.tar", {"1.png": b"no image", "1.txt": b"a text"})
    dataset = build(tmp_path, {"image": "png", "text": "txt"})
    assert dataset.usable(0, ["text"]) == {"text": "a text"}
    with pytest.raises(DataError, match=r"a.tar, 1: is not a whole"):
        dataset.usable(0, ["text", "image"])


def test_the_index_is_kept_until_the_shard_changes(
    tmp_path: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tar_index, "_WORTH_KEEPING", 5)
    path = tmp_path / "data/a.tar"
    write(path, TEXTS)
    before = tar_index.read_index(path)
    (kept,) = (home / "shards").iterdir()
    monkeypatch.setattr(tar_index, "scan", lambda path: pytest.fail("was read again"))
    again = tar_index.read_index(path)
    assert [again.key(i) for i in range(20)] == [before.key(i) for i in range(20)]
    assert np.array_equal(again.offsets, before.offsets)
    monkeypatch.undo()
    monkeypatch.setenv("ZOO_HOME", str(home))
    # damaged: made anew
    kept.write_bytes(kept.read_bytes()[:-50])
    assert len(tar_index.read_index(path)) == 20
    with kept.open("wb") as file:
        np.savez(file, about=np.frombuffer(b"null", np.uint8))
    assert len(tar_index.read_index(path)) == 20
    write(path, {"new.txt": b"another"})
    assert build(path.parent, {"text": "txt"})[0]["text"] == "another"


def test_files_are_closed_and_opened_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.data.open_files._OPEN", 2)
    files = OpenFiles()
    for number in (0, 1, 2, 0):
        path = tmp_path / str(number)
        path.write_bytes(b"abcd")
        assert files.read(path, state_of(path.stat()), 1, 9) == b"bcd"
    other = pickle.loads(pickle.dumps(files))  # as a process that is spawned gets it
    path = tmp_path / "1"
    assert other.read(path, state_of(path.stat()), 0, 2) == b"ab"


def test_a_shard_that_is_replaced_meanwhile_is_refused(tmp_path: Path) -> None:
    """Its index says where the members of the old one lie."""
    write(tmp_path / "a.tar", {f"{k}.txt": b"hi" for k in range(3)})
    dataset = build(tmp_path, {"text": "txt"})
    assert len(dataset) == 3
    write(tmp_path / "a.tar", {f"{k}.txt": b"other" for k in range(3)})
    with pytest.raises(DataError, match=r"a\.tar: was changed since"):
        dataset[1]


def loader(dataset: Dataset, **settings: Any) -> CountedLoader:
    data = PreparedDataset(
        dataset,
        {"image": ImagePreprocessor(dataset.schemas["image"], image_size=4)},
        in_memory=False,
    )
    data.load(range(4))
    start = settings.pop("start", 0)
    rows = dataset.indices("train")
    return CountedLoader(data, rows, 8, position=lambda: (1, start), seed=3, **settings)


def test_two_ranks_read_their_own_shards_and_a_resumed_one_goes_on(tmp_path: Path) -> None:
    for number in range(4):
        write(tmp_path / f"train-{number}.tar", IMAGES)
    dataset = build(tmp_path, {"image": "png"}, lanes=2, shuffle_window=10)
    joint = [b.rows.tolist() for b in loader(dataset)]
    parts = [loader(dataset, rank=rank, world_size=2) for rank in (0, 1)]
    ranks = [[b.rows.tolist() for b in part] for part in parts]
    assert [a + b for a, b in zip(*ranks, strict=True)] == joint
    assert sorted(chain(*joint)) == list(range(80))
    shards = [{row // 20 for row in chain(*rank)} for rank in ranks]
    assert [len(s) for s in shards] == [2, 2]
    assert not shards[0] & shards[1]
    assert [b.rows.tolist() for b in loader(dataset, start=4)] == joint[4:]


@pytest.mark.parametrize("workers", [0, pytest.param(1, marks=pytest.mark.slow)])
def test_an_error_in_the_middle_of_an_epoch_is_one_message(tmp_path: Path, workers: int) -> None:
    damaged = {f"{n:03d}.png": b"x" for n in range(15, 20)}  # four are in no whole batch
    write(tmp_path / "train.tar", IMAGES | damaged)
    with pytest.raises(DataError, match=r"train.tar, 01.: is not a whole") as caught:
        list(loader(build(tmp_path, {"image": "png"}), num_workers=workers))
    assert "Traceback" not in str(caught.value)


def test_a_hundred_thousand_samples_cost_some_bytes_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = WebDataset(str(tmp_path), {"text": "txt"})
    made = tar_index.ShardIndex(
        keys=np.frombuffer(b"123456" * 100_000, np.uint8),
        key_ends=np.arange(6, 600_001, 6),
        member_ends=np.arange(1, 100_001),
        offsets=np.arange(100_000) * 1024,
        sizes=np.full(100_000, 9),
        endings=np.zeros(100_000, np.int64),
        names=("txt",),
        problems={},
    )
    write(tmp_path / "train.tar", TEXTS)
    monkeypatch.setattr("shared.data.shard_index.read_index", lambda path: made)
    arrays = [index.index.shards, index.index.keys, index.index.key_ends]
    arrays += [*index.index.places["text"]]
    assert sum(a.nbytes for a in arrays) < 40 * 100_000
    assert index.table.ids[99_999] == "train/123456"
