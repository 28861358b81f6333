"""GeoTIFF files by band: names, numbers, no data, and files that cannot be read."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zoo
from shared.errors import DataError, DependencyError
from shared.preprocessors.image import ImagePreprocessor
from shared.schema import Channel, Schema

rasterio = pytest.importorskip("rasterio")

REAL = Path(__file__).parents[3] / "../shared/data/remote_sensing"
RNG = np.random.default_rng(0)
COLOURS = RNG.integers(0, 256, (3, 5, 7), dtype=np.uint8)
NAMES = ["red", "green", "blue"]

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write(path: Path, bands: Any, names: Any = (), **options: Any) -> Path:
    """(bands, height, width) → a GeoTIFF, with GDAL's defaults but for options."""
    count, height, width = bands.shape
    size = {"count": count, "height": height, "width": width, "dtype": bands.dtype}
    attributes = {k: options.pop(k) for k in ("scales", "offsets", "mask") if k in options}
    with rasterio.open(path, "w", driver="GTiff", **size, **options) as file:
        file.write(bands)
        for number, name in enumerate(names, start=1):
            file.set_band_description(number, name)
        if "mask" in attributes:
            file.write_mask(attributes.pop("mask"))
        for name, value in attributes.items():
            setattr(file, name, value)
    return path


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "float32", "float64"])
@pytest.mark.parametrize("layout", ["pixel", "band"])
def test_numbers_come_back(tmp_path: Path, dtype: str, layout: str) -> None:
    stored = RNG.integers(-9 if dtype[0] != "u" else 0, 200, (4, 5, 7)).astype(dtype)
    path = write(tmp_path / "x.tif", stored, "abcd", interleave=layout, compress="deflate")
    given = zoo.read_geotiff(path)
    assert list(given) == ["a", "b", "c", "d"]
    for band, expected in zip(given.values(), stored, strict=True):
        assert band.dtype == np.float32
        np.testing.assert_array_equal(band, expected)


def test_colours_have_names_of_their_own(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", COLOURS, photometric="RGB")
    assert list(zoo.read_geotiff(path)) == NAMES
    alpha = np.full((1, 5, 7), 255, np.uint8)
    alpha[0, 2, 3] = 0
    path = write(
        tmp_path / "y.tif", np.concatenate([COLOURS, alpha]), photometric="RGB", alpha="yes"
    )
    given = zoo.read_geotiff(path)
    assert list(given) == [*NAMES, "alpha"]
    assert np.argwhere(np.isnan(given["green"])).tolist() == [[2, 3]]


def test_bands_are_named_in_the_order_of_the_file(tmp_path: Path) -> None:
    stored = RNG.normal(size=(3, 5, 7)).astype(np.float32)
    unnamed = write(tmp_path / "x.tif", stored)
    given = zoo.read_geotiff(unnamed, ["nir", "red", "green"])
    np.testing.assert_array_equal(given["red"], stored[1])
    named = write(tmp_path / "y.tif", stored, ["nir", "red", "green"])
    assert list(zoo.read_geotiff(named, ["B08", "B04", "B03"])) == ["B08", "B04", "B03"]


@pytest.mark.parametrize(
    ("names", "bands", "words"),
    [
        ((), None, ["x.tif: holds 3 bands of float32", "bands=["]),
        ((), ["red", "green"], ["3 bands of float32", "bands names 2: red, green"]),
        ((), ["red", "green", "red"], ["'red' more than once"]),
        (("nir", "red", ""), None, ["does not name them"]),
        (NAMES, ["blue", "green", "red"], ["(red, green, blue)", "'blue' is band 3", "says 1"]),
    ],
)
def test_bands_that_are_not_those_of_the_file(
    tmp_path: Path, names: Any, bands: Any, words: list[str]
) -> None:
    path = write(tmp_path / "x.tif", COLOURS.astype(np.float32), names)
    with pytest.raises(DataError) as caught:
        zoo.read_geotiff(path, bands)
    assert all(word in str(caught.value) for word in words), caught.value


@pytest.mark.parametrize(
    "settings", [{"bands": "nir"}, {"scale": 0.0}, {"scale": np.nan}, {"offset": np.inf}]
)
def test_settings_that_make_no_numbers(tmp_path: Path, settings: dict[str, Any]) -> None:
    path = write(tmp_path / "x.tif", COLOURS)
    with pytest.raises(DataError, match=r"give a list of names|finite numbers"):
        zoo.read_geotiff(path, **{"bands": NAMES} | settings)


def test_scale_and_offset(tmp_path: Path) -> None:
    stored = np.array([[[0, 1000, 65535]]], np.uint16)
    path = write(tmp_path / "x.tif", stored, ["red"], scales=(1e-4,), offsets=(-0.1,))
    stated = zoo.read_geotiff(path)["red"]
    np.testing.assert_allclose(stated, [[-0.1, 0.0, 6.4535]], atol=1e-6)
    asked = zoo.read_geotiff(path, scale=0.5, offset=1)["red"]
    np.testing.assert_array_equal(asked, [[1, 501, 32768.5]])


def test_no_data_is_nan(tmp_path: Path) -> None:
    stored = np.array([[[-9999, 0, 5]], [[7, -9999, 5]]], np.int16)
    path = write(tmp_path / "x.tif", stored, "ab", nodata=-9999)
    given = zoo.read_geotiff(path, scale=1e-4)
    np.testing.assert_allclose(given["a"], [[np.nan, 0, 5e-4]])
    np.testing.assert_allclose(given["b"], [[7e-4, np.nan, 5e-4]])
    assert zoo.read_geotiff(path, nodata=None)["a"].tolist() == [[-9999, 0, 5]]
    np.testing.assert_array_equal(zoo.read_geotiff(path, nodata=5)["b"], [[7, -9999, np.nan]])
    mask = np.array([[0, 255, 255]], np.uint8)
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        path = write(tmp_path / "y.tif", stored, "ab", mask=mask)
    assert np.isnan(zoo.read_geotiff(path)["b"]).tolist() == [[True, False, False]]


@pytest.mark.parametrize("compress", ["none", "lzw", "deflate"])
@pytest.mark.parametrize("kept", [0, 6, 0.3, 0.9])
def test_a_truncated_file_is_named(tmp_path: Path, compress: str, kept: float) -> None:
    noise = RNG.normal(size=(2, 64, 64)).astype(np.float32)
    path = write(tmp_path / "cut.tif", noise, "ab", compress=compress)
    whole = path.read_bytes()
    path.write_bytes(whole[: kept if kept > 1 else int(kept * len(whole))])
    with pytest.raises(DataError, match=r"cut\.tif: is not a whole GeoTIFF") as caught:
        zoo.read_geotiff(path)
    assert "vsimem" not in str(caught.value)


def test_other_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(tmp_path / "whole.tif", COLOURS)
    virtual = tmp_path / "x.tif"
    virtual.write_text(
        '<VRTDataset rasterXSize="7" rasterYSize="5"><VRTRasterBand dataType="Byte" band="1">'
        f"<SimpleSource><SourceFilename>{whole}</SourceFilename></SimpleSource>"
        "</VRTRasterBand></VRTDataset>"
    )
    with pytest.raises(DataError, match=r"x\.tif: is not a whole GeoTIFF \(it not recognized"):
        zoo.read_geotiff(virtual)
    phase = write(tmp_path / "phase.tif", np.ones((1, 2, 2), np.complex64))
    with pytest.raises(DataError, match=r"phase\.tif: holds complex numbers \(complex64\)"):
        zoo.read_geotiff(phase, ["vv"])
    with pytest.raises(DataError, match="no such file"):
        zoo.read_geotiff("/vsicurl/http://localhost/x.tif")
    with pytest.raises(DataError, match="it is a folder"):
        zoo.read_geotiff(tmp_path)
    os.mkfifo(tmp_path / "pipe.tif")
    with pytest.raises(DataError, match="a pipe"):
        zoo.read_geotiff(tmp_path / "pipe.tif")
    two = tmp_path / "two.tif"
    write(two, COLOURS)
    with rasterio.open(two, "w", driver="GTiff", width=2, height=2, count=1, dtype="uint8") as file:
        file.write(np.ones((1, 2, 2), np.uint8))
    with rasterio.open(
        two, "w", driver="GTiff", width=2, height=2, count=1, dtype="uint8", APPEND_SUBDATASET="YES"
    ) as file:
        file.write(np.ones((1, 2, 2), np.uint8))
    with pytest.raises(DataError, match=r"two\.tif: holds 2 images"):
        zoo.read_geotiff(two, ["a"])
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(DependencyError, match="pip install"):
        zoo.read_geotiff(whole)


def test_files_beside_it_do_not_count(tmp_path: Path) -> None:
    path = write(tmp_path / "x.tif", COLOURS[:1])
    (tmp_path / "x.tif.aux.xml").write_text(
        '<PAMDataset><PAMRasterBand band="1"><Description>spoofed</Description>'
        "<NoDataValue>0</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    with rasterio.open(path) as file:
        assert file.descriptions == ("spoofed",)
    before = set(tmp_path.iterdir())
    with pytest.raises(DataError, match="does not name them"):
        zoo.read_geotiff(path)
    assert not np.isnan(zoo.read_geotiff(path, ["a"])["a"]).any()
    assert set(tmp_path.iterdir()) == before


def test_a_decompression_bomb_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "bomb.tif"
    size: dict[str, Any] = {"width": 30_000, "height": 30_000, "count": 1, "dtype": "uint8"}
    with rasterio.open(path, "w", driver="GTiff", sparse_ok=True, tiled=True, **size):
        pass
    with pytest.raises(DataError, match=r"bomb\.tif, decoded|decompression bomb"):
        zoo.read_geotiff(path, ["a"])


def test_a_fourth_band_by_another_name_is_no_transparency(tmp_path: Path) -> None:
    """GDAL takes it for that: water, dark in the infrared, would be without data."""
    stored = np.full((4, 3, 3), 7, dtype=np.uint8)
    stored[3, 0] = 0
    path = write(tmp_path / "nir.tif", stored)
    given = zoo.read_geotiff(path, ["blue", "green", "red", "nir"])
    assert all(np.isfinite(band).all() for band in given.values())
    assert np.isnan(zoo.read_geotiff(path, [*NAMES, "alpha"])["red"][0]).all()


def test_too_many_bands_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.data.geotiff.MAX_BANDS", 3)
    path = write(tmp_path / "many.tif", RNG.integers(0, 9, (4, 5, 7)).astype("uint8"), "abcd")
    with pytest.raises(DataError, match=r"many\.tif: holds 4 bands; at most 3"):
        zoo.read_geotiff(path)


def test_images_with_missing_values_are_refused_by_the_preprocessor() -> None:
    channel = Channel("nir", "reflectance", allow_missing=True)
    prepare = ImagePreprocessor(
        Schema("image", ("height", "width", "channel"), (channel,), "float32"), 4, [0.0], [1.0], 1
    )
    image = np.ones((5, 6, 1), np.float32)
    assert prepare(image)["values"].shape == (1, 4, 4)
    image[2, 2] = np.nan
    with pytest.raises(DataError, match="1 of 30 values are missing"):
        prepare(image)


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data are not here")
def test_real_files() -> None:
    bands = [f"band{n}" for n in range(1, 11)]
    path = REAL / "multispectral_geotiff" / "regression_test_0_input.tif"
    scene = np.stack(list(zoo.read_geotiff(path, bands, scale=1e-4).values()))
    assert scene.shape == (10, 224, 224)
    np.testing.assert_allclose([scene.min(), scene.max()], [-0.1597, 1.1317], atol=1e-6)
    path = path.with_name("regression_test_0_label.tif")
    heights = zoo.read_geotiff(path, ["height"], nodata=-1)["height"]
    assert round(float(np.isnan(heights).mean()), 3) == 0.995
    for name in ("OSBS_029.tif", "2018_SJER_3_252000_4107000_image_477.tif"):
        aerial = zoo.read_geotiff(REAL / "neon_aerial" / name, nodata=None)
        assert list(aerial) == NAMES
        assert {band.shape for band in aerial.values()} == {(400, 400)}
        # the file states that 255 is no data, which takes what is white for it
        assert (
            np.isnan(zoo.read_geotiff(REAL / "neon_aerial" / name)["red"]).sum()
            == (aerial["red"] == 255).sum()
        )
