"""The shards of RS5M, with made-up images; whole and damaged ones."""

import io
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.data.generic import TEXT
from shared.data.skipping import skipped_of
from shared.errors import DataError
from zoo.plugins import plugins

MEMBERS = ("img_content", "img_name", "caption")


def build(root: Path, **settings: Any) -> Dataset:
    return build_dataset({"name": "rs5m", "root": str(root), **settings}, plugins().registries)


def image(value: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((9, 7, 3), value, np.uint8)).save(file, "PNG")
    return file.getvalue()


def sample(key: str, value: int, **changed: bytes | None) -> dict[str, bytes]:
    content = {"img_content": image(value), "img_name": f"{key}.jpg".encode()}
    whole = {**content, "caption": f"the caption of {key}".encode(), **changed}
    return {f"{key}.{name}": given for name, given in whole.items() if given is not None}


def shard(path: Path, members: dict[str, bytes], links: tuple[str, ...] = ()) -> None:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
        for name in links:
            about = tarfile.TarInfo(name)
            about.type, about.linkname = tarfile.SYMTYPE, "/etc/hostname"
            tar.addfile(about)


def three(path: Path, value: int = 0) -> None:
    shard(path, {k: v for n in range(3) for k, v in sample(f"{n:06d}", value + n).items()})


def test_samples_are_read_in_place(tmp_path: Path) -> None:
    three(tmp_path / "pub11-train-0000.tar")
    three(tmp_path / "rs3-val-0031.tar", 10)
    dataset = build(tmp_path)
    assert dataset.ids.tolist() == [
        *(f"pub11-train-0000/{n:06d}" for n in range(3)),
        *(f"rs3-val-0031/{n:06d}" for n in range(3)),
    ]
    assert dataset.splits.tolist() == ["train"] * 3 + ["val"] * 3
    raw = dataset[4]
    assert (raw["image"].shape, int(raw["image"].max())) == ((9, 7, 3), 11)
    assert raw["text"] == "the caption of 000001"
    assert (dataset.schemas["text"], dataset.evaluated()) == (TEXT, dataset)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "pub11-train-0000.tar",
        "rs3-val-0031.tar",
    ]


def test_folders_and_dots_in_names_are_part_of_the_key(tmp_path: Path) -> None:
    members = {f"./a/{k}": v for k, v in sample("1", 1).items()}
    shard(tmp_path / "rs3-train-0000.tar", members | sample("1", 2))
    dataset = build(tmp_path)
    assert dataset.ids.tolist() == ["rs3-train-0000/a/1", "rs3-train-0000/1"]
    assert int(dataset[0]["image"].max()) == 1


@pytest.mark.parametrize(
    ("changed", "modality", "says"),
    [
        ({"caption": None}, "text", r"0000.tar, 000001: has no member .caption, only img_content"),
        ({"img_content": None}, "image", r"000001: has no member .img_content"),
        ({"img_content": image(1)[:60]}, "image", "000001: is not a whole"),
        ({"img_content": b""}, "image", "000001: is not a whole"),
        ({"caption": b"\xff\xfe\xff"}, "text", "its caption is not UTF-8"),
        ({"caption": b" "}, "text", "text is not a non-empty text"),
    ],
)
def test_a_broken_member_is_an_error_of_its_modality(
    tmp_path: Path, changed: dict[str, bytes | None], modality: str, says: str
) -> None:
    members = sample("000000", 0) | sample("000001", 1, **changed) | sample("000002", 2)
    shard(tmp_path / "rs3-train-0000.tar", members)
    with pytest.raises(DataError, match=says):
        build(tmp_path)[1]
    skipping = build(tmp_path, on_error="skip")
    assert [set(skipping[i]) for i in range(3)] == [
        {"image", "text"},
        {"image", "text"} - {modality},
        {"image", "text"},
    ]
    assert [s.modality for s in skipped_of(skipping)] == [modality]


@pytest.mark.parametrize(
    ("member", "after", "whole"),
    [
        ("000002.img_content", 600, 2),  # inside a member
        ("000002.img_content", 100, 2),  # inside a header
        ("000002.img_content", 0, 2),  # between two samples
        ("000001.caption", 512, 1),  # before the content of a sample's last member
        ("000002.caption", 1024, 3),  # before the mark of the end
    ],
)
def test_a_tar_that_is_cut_short_keeps_its_whole_samples(
    tmp_path: Path, member: str, after: int, whole: int
) -> None:
    path = tmp_path / "pub11-train-0000.tar"
    three(path)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(member.encode()) + after])
    keys = [f"{n:06d}" for n in range(whole)]
    skipping = build(tmp_path, on_error="skip")
    assert [name.split("/")[1] for name in skipping.ids] == [*keys, "rest"]
    assert [len(skipping[i]) for i in range(whole + 1)] == [2] * whole + [0]
    with pytest.raises(DataError, match=r"0000.tar: (is cut short|is no whole tar|has a damaged)"):
        build(tmp_path)[whole]


def test_a_damaged_header_is_not_taken_for_the_end(tmp_path: Path) -> None:
    path = tmp_path / "pub11-train-0000.tar"
    three(path)
    content = bytearray(path.read_bytes())
    content[content.index(b"000001.img_content") + 30] ^= 1
    path.write_bytes(content)
    dataset = build(tmp_path)
    assert dataset.ids.tolist() == ["pub11-train-0000/000000", "pub11-train-0000/rest"]
    assert dataset[0]["text"] == "the caption of 000000"
    with pytest.raises(DataError, match=r"has a damaged header at byte 3,072. 1 samples"):
        dataset[1]


def test_a_file_that_is_no_tar_is_one_sample_that_cannot_be_read(tmp_path: Path) -> None:
    three(tmp_path / "rs3-train-0000.tar")
    for number, content in enumerate((b"", b"text" * 300), start=1):
        (tmp_path / f"rs3-train-000{number}.tar").write_bytes(content)
    dataset = build(tmp_path)
    assert len(dataset) == 5
    for row in (3, 4):
        with pytest.raises(DataError, match=r"tar: is no whole tar"):
            dataset[row]


def test_links_are_refused(tmp_path: Path) -> None:
    shard(tmp_path / "rs3-train-0000.tar", sample("1", 1), ("2.img_content",))
    with pytest.raises(DataError, match=r"refused: its member '2.img_content' is no file"):
        build(tmp_path).ids  # noqa: B018
    outside = tmp_path / "outside"
    outside.mkdir()
    three(outside / "rs3-train-0001.tar")
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "rs3-train-0001.tar").symlink_to(outside / "rs3-train-0001.tar")
    with pytest.raises(DataError, match="leads out of"):
        build(folder).ids  # noqa: B018


@pytest.mark.parametrize("size", [-5, -1536, 2**62, 10**12])
def test_impossible_sizes_do_no_harm(tmp_path: Path, size: int) -> None:
    """A header of the right check sum whose size leads back in the file, or far behind its end."""
    header = bytearray(tarfile.TarInfo("1.caption").tobuf(tarfile.GNU_FORMAT))
    header[124:136] = tarfile.itn(size, 12, tarfile.GNU_FORMAT)  # type: ignore[attr-defined]
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    whole = tmp_path / "whole.tar"
    three(whole)
    damaged = tmp_path / "data/rs3-train-0000.tar"
    damaged.parent.mkdir()
    damaged.write_bytes(whole.read_bytes()[:3072] + header + bytes(2048))  # after one sample
    with pytest.raises(DataError, match=r"is refused: its member|is no whole tar"):
        build(damaged.parent)[1]


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no tar"):
        build(tmp_path).ids  # noqa: B018
    with pytest.raises(DataError, match="there is no such folder"):
        build(tmp_path / "absent").ids  # noqa: B018
    three(tmp_path / "mine.tar")
    with pytest.raises(DataError, match=r"mine.tar: has no split in its name"):
        build(tmp_path).ids  # noqa: B018


def test_the_fingerprint_changes_with_the_files(tmp_path: Path) -> None:
    three(tmp_path / "rs3-train-0000.tar")
    before = build(tmp_path).fingerprint
    assert before == build(tmp_path).fingerprint
    three(tmp_path / "rs3-train-0001.tar", 5)
    assert build(tmp_path).fingerprint != before


def test_members_and_tars_that_stand_twice(tmp_path: Path) -> None:
    """Which image goes with which text cannot be told, and a second tar is not left out unseen."""
    path = tmp_path / "rs3-train-0000.tar"
    with tarfile.open(path, "w") as tar:
        for name, content in [*sample("0", 1).items(), *sample("0", 2).items()]:
            about = tarfile.TarInfo(name)
            about.size = len(content)
            tar.addfile(about, io.BytesIO(content))
    with pytest.raises(DataError, match="'0' has two members"):
        build(tmp_path)[0]
    three(path)
    path.write_bytes(2 * path.read_bytes())
    dataset = build(tmp_path, on_error="skip")
    assert [len(dataset[row]) for row in range(4)] == [2, 2, 2, 0]
    assert "goes on behind its end" in skipped_of(dataset)[0].reason
