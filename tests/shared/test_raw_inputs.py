"""Images and texts as users have them."""

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from shared.data.generic import TEXT
from shared.data.image_files import IMAGE, read_image
from shared.errors import DataError, SchemaError
from shared.raw_inputs import as_array, as_list
from shared.schema import Channel, Schema

PICTURE = np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)
AXES = IMAGE.axes


def read(value: Any, schema: Schema = IMAGE) -> Any:
    return as_array(value, schema, "input 3")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two images, a hidden one, a file of another kind and a folder with an image."""
    (tmp_path / "inner").mkdir()
    for name in ("b.png", "a.PNG", ".hidden.png", "inner/c.png"):
        Image.fromarray(PICTURE).save(tmp_path / name, format="png")
    (tmp_path / "notes.txt").write_text("none")
    return tmp_path


def test_an_image_may_come_in_many_ways(folder: Path) -> None:
    ways = [
        PICTURE,
        PICTURE.tolist(),
        PICTURE.astype(np.int64),
        PICTURE.astype(np.float32),
        torch.from_numpy(PICTURE),
        folder / "b.png",
        str(folder / "b.png"),
        Image.fromarray(PICTURE),
        Image.open(folder / "b.png"),
        {"nir": PICTURE[..., 0], **dict(zip(IMAGE.names, np.moveaxis(PICTURE, 2, 0), strict=True))},
    ]
    for way in ways:
        found = read(way)
        assert found.dtype == np.uint8
        np.testing.assert_array_equal(found, PICTURE)


@settings(max_examples=40)
@given(st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"]), st.integers(0, 99))
def test_an_image_of_pillow_is_what_its_file_is(mode: str, seed: int) -> None:
    """In the formats that keep its mode."""
    pixels = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), dtype=np.uint8)
    picture = Image.fromarray(pixels).convert(mode)
    content = io.BytesIO()
    picture.save(content, format="TIFF")
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "picture.tif"
        path.write_bytes(content.getvalue())
        np.testing.assert_array_equal(read(picture), read_image(path))


def test_the_images_of_a_folder(folder: Path) -> None:
    assert as_list(str(folder), IMAGE) == [folder / "a.PNG", folder / "b.png"]
    assert as_list(folder / "b.png", IMAGE) == [folder / "b.png"]
    assert as_list((PICTURE, "x.png"), IMAGE)[1] == "x.png"
    assert as_list(str(folder), TEXT) == [str(folder)]
    with pytest.raises(DataError, match=r"input 3: .* is a folder: give it alone"):
        read(folder)
    with pytest.raises(DataError, match="holds no image"):
        as_list(make(folder / "empty"), IMAGE)
    (folder / "inner" / "out.png").symlink_to(folder / "b.png")
    with pytest.raises(DataError, match="leads out of"):
        as_list(folder / "inner", IMAGE)


def make(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (PICTURE / 255, r"numbers from 0 to 0.9.*, and the model takes whole ones"),
        (PICTURE * 40.0, r"numbers from .* a choice, made for data by an adapter"),
        (np.eye(9)[..., None].repeat(3, 2), r"float64 with numbers up to 1, .* red, green, blue"),
        (PICTURE.astype(np.uint16), r"uint16 with numbers up to 249, .* uint8 from 0 to 255"),
        (np.moveaxis(PICTURE, 2, 0), r"shape \(3, 9, 7\).* Put the channels last"),
        (np.zeros((2, 9, 7, 3), dtype=np.uint8), r"shape \(2, 9, 7, 3\).* list\(images\)"),
        (np.zeros((9, 7, 13), dtype=np.uint8), r"shape \(9, 7, 13\).* zoo.read_geotiff"),
        (PICTURE[..., 0], r"shape \(9, 7\), and the model takes \(height, width, channel\)"),
        (np.full((9, 7, 3), np.nan), "Fill what is no number first"),
        (Path("nowhere.png"), r"input 3: nowhere.png: no such file"),
    ],
)
def test_what_is_no_image_of_bytes_is_refused(wrong: Any, message: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        read(wrong)
    assert str(caught.value).startswith("input 3")


def test_black_is_no_question_of_scale() -> None:
    assert not read(np.zeros((2, 2, 3))).any()
    assert read(np.ones((2, 2, 3), dtype=np.uint8)).all()


def test_modes_of_more_than_bytes_are_refused(tmp_path: Path) -> None:
    deep = Image.fromarray(np.arange(48, dtype=np.uint16).reshape(6, 8))
    with pytest.raises(DataError, match=r"input 3: image: is an image of mode I;16"):
        read(deep)
    deep.save(tmp_path / "deep.tif")
    with pytest.raises(DataError, match=r"input 3: .*deep.tif: .* Bands of an image come by name"):
        read(tmp_path / "deep.tif")
    reflectance = Schema("image", AXES, (Channel("B04"), Channel("B08")), "float32")
    with pytest.raises(DataError, match=r"a file of colours.* B04 \[dimensionless\], .* float32"):
        read(tmp_path / "deep.tif", reflectance)
    with pytest.raises(SchemaError, match=r"input 3: image: the input lacks channel red"):
        read({"nir": PICTURE[..., 0]})
    assert read({"B04": np.ones((2, 2)), "B08": np.ones((2, 2))}, reflectance).shape == (2, 2, 2)


def test_texts_stay_texts() -> None:
    assert as_list("a field", TEXT) == ["a field"]
    assert as_list(["a field", "a road"], TEXT) == ["a field", "a road"]
    assert read("a field", TEXT) == "a field"
