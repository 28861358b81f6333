import csv
import json
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from shared.data.generic import ImageFolder, TextTable
from shared.data.skipping import SkippingDataset, save_skipped
from shared.errors import ConfigError, DataError

PIXELS = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)


def save(path, pixels=PIXELS, mode=None, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels, mode).save(path, **options)
    return path


def only_image(path):
    """The one image of a folder of one class, read through the dataset."""
    return ImageFolder(str(path.parent.parent))[0]["image"]


def png_rgb16(path):
    """A 2 × 1 PNG of 16-bit colour, which Pillow cannot write."""

    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0))
    pixels = chunk(b"IDAT", zlib.compress(b"\0" + struct.pack(">6H", *range(1000, 7000, 1000))))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + pixels + chunk(b"IEND", b""))


def tiff_rgb16(path):
    """A 2 × 1 TIFF of 16-bit colour, which Pillow cannot write."""
    tags = [  # tag, type (3: 16-bit, 4: 32-bit), count, value or offset
        (256, 3, 1, 2),
        (257, 3, 1, 1),
        (258, 3, 3, 122),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 128),
        (277, 3, 1, 3),
        (278, 3, 1, 1),
        (279, 4, 1, 12),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    directory = struct.pack("<H", len(tags)) + entries + struct.pack("<I", 0)
    assert 8 + len(directory) == 122
    bits = struct.pack("<3H", 16, 16, 16)
    path.write_bytes(b"II*\0\x08\0\0\0" + directory + bits + struct.pack("<6H", *range(6)))


@pytest.fixture
def folder(tmp_path):
    for name in ("spiral/b.png", "spiral/a.PNG", "elliptical/c.tif", "spiral/notes.txt"):
        path = tmp_path / name
        if path.suffix == ".txt":
            path.write_text("x")
        else:
            save(path)
    save(tmp_path / "spiral" / "._a.png")
    (tmp_path / ".cache").mkdir()
    return tmp_path


def test_classes_and_ids_are_the_folders(folder):
    data = ImageFolder(str(folder))
    assert data.ids.tolist() == ["elliptical/c.tif", "spiral/a.PNG", "spiral/b.png"]
    assert data.classes == ("elliptical", "spiral")
    assert data.labels.tolist() == [0, 1, 1]
    assert set(data.splits) <= {"train", "val", "test"}
    for index in range(3):
        image = data[index]["image"]
        assert image.dtype == np.uint8
        assert np.array_equal(image, PIXELS)


def test_splits_are_the_folders(tmp_path):
    for name in ("test/b/1.bmp", "train/a/1.webp", "train/b/2.png", "val/a/3.png"):
        save(tmp_path / name, **({"lossless": True} if name.endswith("webp") else {}))
    data = ImageFolder(str(tmp_path))
    assert dict(zip(data.ids, data.splits, strict=True)) == {
        "train/a/1.webp": "train",
        "train/b/2.png": "train",
        "val/a/3.png": "val",
        "test/b/1.bmp": "test",
    }
    assert [data.classes[i] for i in data.labels] == [str(i).split("/")[1] for i in data.ids]
    assert all(np.array_equal(data[i]["image"], PIXELS) for i in range(4))


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda root: None, ["no such folder"]),
        (lambda root: root.mkdir(), ["holds no folder", "<class>"]),
        (lambda root: save(root / "x.png"), ["holds no folder"]),
        (lambda root: (root / "a").mkdir(parents=True), ["a: holds no image", ".webp"]),
        (lambda root: save(root / "a" / "b" / "x.png"), ["a: is taken for a class", "folder b"]),
        (
            lambda root: [save(root / s / "a" / "x.png") for s in ("train", "valid")],
            ["train beside valid", "Rename valid"],
        ),
    ],
)
def test_another_layout_is_told(tmp_path, make, words):
    make(tmp_path / "root")
    with pytest.raises(DataError) as caught:
        len(ImageFolder(str(tmp_path / "root")))
    assert all(word in str(caught.value) for word in words), caught.value


def test_a_name_that_is_not_utf8(tmp_path):
    """It is read, and everything that is told of it can be written."""
    save(tmp_path / os.fsdecode(b"caf\xe9") / os.fsdecode(b"\xff.png"))
    dataset = SkippingDataset(ImageFolder(str(tmp_path)))
    assert dataset[0]["image"].shape == PIXELS.shape
    assert len(dataset.fingerprint) == 16
    assert (dataset.ids.tolist(), dataset.classes) == (["caf\ufffd/\ufffd.png"], ("caf\ufffd",))
    dataset.refuse(0, "image", DataError(dataset.file(0, "image")))
    save_skipped(tmp_path / "skipped.json", dataset.skipped)
    entry = json.loads((tmp_path / "skipped.json").read_text(encoding="utf-8"))[0]
    assert entry["reason"] == dataset.file(0, "image")


def test_the_fingerprint_follows_the_pixels(folder):
    before = ImageFolder(str(folder)).fingerprint
    assert ImageFolder(str(folder)).fingerprint == before
    save(folder / "spiral" / "b.png", 255 - PIXELS)
    assert ImageFolder(str(folder)).fingerprint != before


def test_grey_palette_and_transparency_become_rgb(tmp_path):
    grey = PIXELS[..., 0]
    assert np.array_equal(only_image(save(tmp_path / "1/a/x.png", grey))[..., 1], grey)
    bits = save(tmp_path / "2/a/x.png", grey > 99)
    assert np.array_equal(only_image(bits)[..., 2], 255 * (grey > 99))
    rgba = np.dstack([PIXELS, np.arange(35, dtype=np.uint8).reshape(5, 7)])
    assert np.array_equal(only_image(save(tmp_path / "3/a/x.png", rgba)), PIXELS)
    palette = Image.fromarray(grey % 4).convert("P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90, 100, 110, 120])
    path = tmp_path / "4" / "a" / "x.png"
    path.parent.mkdir(parents=True)
    palette.save(path, transparency=bytes([0, 255, 9, 255]))
    colours = np.array([[10, 20, 30], [40, 50, 60], [70, 80, 90], [100, 110, 120]])
    assert np.array_equal(only_image(path), colours[grey % 4])


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90° clockwise for viewing
    path = save(tmp_path / "a" / "x.png", exif=exif)
    assert np.array_equal(only_image(path), np.rot90(PIXELS, -1))


@pytest.mark.parametrize(
    ("suffix", "write"),
    [
        (".png", lambda p: save(p, PIXELS[..., 0].astype(np.uint16) * 200)),
        (".tif", lambda p: save(p, PIXELS[..., 0].astype(np.uint16) * 200)),
        (".tif", lambda p: save(p, PIXELS[..., 0].astype(np.float32))),
        (".tif", lambda p: save(p, PIXELS[..., 0].astype(np.int32))),
        (".png", png_rgb16),
        (".tiff", tiff_rgb16),
    ],
)
def test_deep_images_are_refused_not_squeezed(tmp_path, suffix, write):
    path = tmp_path / "a" / f"deep{suffix}"
    path.parent.mkdir()
    write(path)
    with Image.open(path) as image:
        image.load()  # a whole image to Pillow
    with pytest.raises(DataError, match=rf"deep\{suffix}.*more than 8 bits.*is a choice"):
        only_image(path)


def test_several_pages_are_refused(tmp_path):
    more = [Image.fromarray(255 - PIXELS)]
    path = save(tmp_path / "a" / "x.tif", save_all=True, append_images=more)
    with pytest.raises(DataError, match=r"x\.tif: holds 2 pages"):
        only_image(path)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp", ".bmp"])
@pytest.mark.parametrize("kept", [0, 10, 0.5])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
def test_a_truncated_file_is_named(tmp_path, suffix, kept):
    large = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = save(tmp_path / "a" / f"cut{suffix}", large)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if kept > 1 else int(kept * len(whole))])
    with pytest.raises(DataError, match=rf"cut\{suffix}: is not a whole"):
        only_image(path)


def test_other_formats_are_not_opened(tmp_path):
    path = tmp_path / "a" / "x.png"
    save(path.with_suffix(".gif"))
    os.replace(path.with_suffix(".gif"), path)
    with pytest.raises(DataError, match=r"x\.png: is not a whole PNG"):
        only_image(path)


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    path = save(tmp_path / "a" / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    with pytest.raises(DataError, match=r"bomb\.png.*exceeds limit"):
        only_image(path)


ROWS = [
    {"text": "a star", "label": "bright", "name": "s1", "split": "train", "who": "p"},
    {"text": 'a "dust", \n cloud', "label": "", "name": "s2", "split": "test", "who": "p"},
    {"text": "größer", "label": "dim", "name": "s3", "split": "val", "who": "q"},
]


@pytest.fixture
def write_table(tmp_path):
    def write(rows, encoding="utf-8"):
        path = tmp_path / "t.csv"
        with path.open("w", newline="", encoding=encoding) as file:
            writer = csv.DictWriter(file, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return str(path)

    return write


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_texts_and_columns(write_table, encoding):
    data = TextTable(write_table(ROWS, encoding), id="name", split="split", group="who")
    assert [data[i]["text"] for i in range(3)] == [row["text"] for row in ROWS]
    assert data.classes == ("bright", "dim")
    assert data.labels.tolist() == [0, -1, 1]
    assert data.ids.tolist() == ["s1", "s2", "s3"]
    assert data.splits.tolist() == ["train", "test", "val"]
    assert data.groups.tolist() == ["p", "p", "q"]


def test_without_optional_columns(write_table):
    data = TextTable(write_table(ROWS), label=None)
    assert data.ids.tolist() == ["1", "2", "3"]
    assert data.labels.tolist() == [-1, -1, -1]
    assert data.classes == ()
    assert data.groups.tolist() == data.ids.tolist()


def test_a_long_text_is_read_and_the_limit_put_back(write_table):
    limit = csv.field_size_limit()
    genome = "ACGT" * 100_000
    assert TextTable(write_table([{"text": genome, "label": "x"}]))[0]["text"] == genome
    assert csv.field_size_limit() == limit


@pytest.mark.parametrize(
    ("change", "settings", "words"),
    [
        ({}, {"text": "txt"}, ["column 'txt'", "'text'", "data.text=COLUMN"]),
        ({}, {"label": "class"}, ["column 'class'", "Known: label, name", "data.label=COLUMN"]),
        ({"text": "  "}, {}, ["row 2", "'text' is empty"]),
        ({"who": ""}, {"group": "who"}, ["row 2", "'who' is empty"]),
        ({"split": "dev"}, {"split": "split"}, ["row 2", "'dev'", "train, val, test"]),
        ({"name": "s1"}, {"id": "name"}, ["'s1' stands more than once"]),
    ],
)
def test_mistakes_in_a_table_are_told(write_table, change, settings, words):
    rows = [ROWS[0], {**ROWS[1], **change}, ROWS[2]]
    with pytest.raises(DataError) as caught:
        len(TextTable(write_table(rows), **settings))
    assert all(word in str(caught.value) for word in words), caught.value


def test_targets_tags_and_subgroups_of_texts(write_table):
    more = [
        {"mass": "1.5", "old": "1", "site": "A"},
        {"mass": "", "old": "", "site": ""},
        {"mass": " -2e3", "old": "0", "site": "B "},
    ]
    path = write_table([{**row, **extra} for row, extra in zip(ROWS, more, strict=True)])
    before = TextTable(path).fingerprint
    data = TextTable(path, targets=["mass"], tags=["old"], subgroups=["site"])
    np.testing.assert_array_equal(data.targets["mass"], [1.5, np.nan, -2000])
    np.testing.assert_array_equal(data.tags["old"], [1, np.nan, 0])
    assert data.subgroups["site"].tolist() == ["A", "", "B"]
    chosen = (data, TextTable(path, targets=["mass"]), TextTable(path, tags=["old"]))
    assert len({before, *(d.fingerprint for d in chosen)}) == 4


@pytest.mark.parametrize(
    ("cell", "settings", "words"),
    [
        ("heavy", {"targets": ["mass"]}, ["row 2", "'mass' is 'heavy'", "Leave the cell empty"]),
        ("inf", {"targets": ["mass"]}, ["row 2", "'inf', not a finite number"]),
        ("nan", {"targets": ["mass"]}, ["row 2", "'nan'"]),
        ("2", {"tags": ["mass"]}, ["row 2", "the tag 'mass' is 2", "write 1 for yes"]),
        ("1", {"tags": ["mas"]}, ["column 'mas'", "'mass'", "data.tags=[COLUMN]"]),
        ("1", {"subgroups": ["x"]}, ["column 'x'", "data.subgroups=[COLUMN]"]),
        ("1", {"targets": ["label"]}, ["row 1", "'label' is 'bright'"]),
    ],
)
def test_mistakes_in_targets_and_tags_are_told(write_table, cell, settings, words):
    rows = [{**row, "mass": cell if i == 1 else "1"} for i, row in enumerate(ROWS)]
    with pytest.raises(DataError) as caught:
        len(TextTable(write_table(rows), **settings))
    assert all(word in str(caught.value) for word in words), caught.value


def metadata(tmp_path, text):
    path = tmp_path / "metadata.csv"
    path.write_text(text)
    return str(path)


def test_a_table_says_more_of_images(folder, tmp_path):
    before = ImageFolder(str(folder)).fingerprint
    table = metadata(
        tmp_path,
        "camera,file,scene,cloud,cover\nx,spiral/b.png,s1,1,0.5\ny,elsewhere.png,s9,0,1\n"
        ",spiral/a.PNG,s1,,\ny,elliptical/c.tif,s2,0,0\n",
    )
    assert ImageFolder(str(folder), metadata=table).fingerprint == before
    data = ImageFolder(
        str(folder),
        metadata=table,
        group="scene",
        tags=["cloud"],
        targets=["cover"],
        subgroups=["camera"],
    )
    assert data.ids.tolist() == ["elliptical/c.tif", "spiral/a.PNG", "spiral/b.png"]
    assert data.groups.tolist() == ["s2", "s1", "s1"]
    np.testing.assert_array_equal(data.tags["cloud"], [0, np.nan, 1])
    np.testing.assert_array_equal(data.targets["cover"], [0, np.nan, 0.5])
    assert data.subgroups["camera"].tolist() == ["y", "", "x"]
    assert data.fingerprint != before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("file,scene\nspiral/b.png,s\n", ["does not name 'elliptical/c.tif'"]),
        ("name,scene\nspiral/b.png,s\n", ["column 'file'", "not at all"]),
        ("file,scene\na,s\na,s\n", ["the file 'a' stands more than once"]),
        (None, ["no such file", "data.metadata=FILE.csv"]),
    ],
)
def test_a_table_of_other_images_is_told(folder, tmp_path, text, words):
    table = str(tmp_path / "none.csv") if text is None else metadata(tmp_path, text)
    with pytest.raises(DataError) as caught:
        len(ImageFolder(str(folder), metadata=table, group="scene"))
    assert all(word in str(caught.value) for word in words), caught.value


def test_columns_of_images_need_a_table(folder):
    with pytest.raises(ConfigError, match=r"data\.metadata=FILE\.csv"):
        ImageFolder(str(folder), tags=["cloud"])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, ["no such file", "FILE.csv"]),
        (b"", ["is empty", "names the columns"]),
        (b"text,label\n", ["no sample was found"]),
        (b"text,label\na,b\nc\n", ["row 2 has 1 cells, the header 2"]),
        (b'text,label\na,b\n"c,d', ["not a whole CSV file"]),
        (b"text,label\n\xff\xfe,b\n", ["not a UTF-8 text file"]),
        (b"text,text,label\na,b,c\n", ["'text' stands twice"]),
    ],
)
def test_files_that_are_no_table_are_told(tmp_path, content, words):
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        len(TextTable(str(path)))
    assert all(word in str(caught.value) for word in words), caught.value
    assert content == b"text,label\n" or "t.csv" in str(caught.value)


def test_the_fingerprint_follows_texts_and_columns(write_table):
    path = write_table(ROWS)
    before = TextTable(path).fingerprint
    assert TextTable(path).fingerprint == before
    assert TextTable(path, text="name").fingerprint != before
    assert TextTable(path, group="who").fingerprint != before
    write_table([{**ROWS[0], "text": "a comet"}, *ROWS[1:]])
    assert TextTable(path).fingerprint != before


def test_real_aerial_scenes(data_root):
    data = ImageFolder(str(data_root / "remote_sensing" / "rsscn7"))
    assert len(data) == 154
    assert np.bincount(data.labels).tolist() == [22] * 7
    assert data.classes[0] == "aGrass"
    assert data[153]["image"].shape == (400, 400, 3)


def test_real_molecules_as_texts(data_root):
    path = data_root / "molecules" / "bbbp" / "BBBP.csv"
    data = TextTable(str(path), text="smiles", label="p_np", id="num")
    assert data.ids[0] == "4"
    assert data[0]["text"] == "C1CCN(CC1)Cc1cccc(c1)OCCCNC(=O)C"
    assert data.classes == ("0", "1")
    assert data.labels[0] == 1
