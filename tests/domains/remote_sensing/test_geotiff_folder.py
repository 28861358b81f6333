"""A folder of GeoTIFF files: layouts, bands, units, no data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

import zoo
from shared.errors import ConfigError, DataError
from zoo.cli.main import main

REAL = Path(__file__).parents[3] / "../shared/data/remote_sensing/multispectral_geotiff"
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write(path: Path, stored: Any, names: Any = (), **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    count, height, width = stored.shape
    size = {"height": height, "width": width, "count": count, "dtype": stored.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size, **options) as file:
        file.write(stored)
        for number, name in enumerate(names, start=1):
            file.set_band_description(number, name)


SMALL = np.arange(3 * 2 * 4, dtype=np.int16).reshape(3, 2, 4) * 100


def folder(root: Path, **settings: Any) -> zoo.Dataset:
    return zoo.dataset("geotiff_folder", root=str(root), **settings)


def test_files_without_classes(tmp_path: Path) -> None:
    write(tmp_path / "b.tif", SMALL, "xyz")
    write(tmp_path / "a.tiff", SMALL[:, :1], "xyz")
    (tmp_path / "readme.txt").write_text("of no account")
    data = folder(tmp_path, scale=1e-4)
    assert data.ids.tolist() == ["a.tiff", "b.tif"]
    assert data.classes == ()
    assert data.labels.tolist() == [-1, -1]
    assert data.schemas["image"].names == ("x", "y", "z")
    assert data[0]["image"].shape == (1, 4, 3)
    np.testing.assert_allclose(data[1]["image"], np.moveaxis(SMALL, 0, -1) * 1e-4, atol=1e-7)


def test_files_by_class_and_split(tmp_path: Path) -> None:
    for file in ("train/crop/1.tif", "test/crop/2.tif", "test/wood/3.tif"):
        write(tmp_path / file, SMALL)
    data = folder(tmp_path, bands=["nir", "red", "swir"], use=["red", "nir"], scale=1e-4)
    assert data.classes == ("crop", "wood")
    assert dict(zip(data.ids, data.splits, strict=True))["train/crop/1.tif"] == "train"
    np.testing.assert_allclose(data[0]["image"][0, 1], [0.09, 0.01], atol=1e-7)


def test_a_table_says_groups_and_targets(tmp_path: Path) -> None:
    for name in ("a.tif", "b.tif"):
        write(tmp_path / "scenes" / name, SMALL, "xyz")
    table = tmp_path / "t.csv"
    table.write_text("file,tile,cover\na.tif,t1,0.5\nb.tif,t1,\n")
    known = {"metadata": str(table), "group": "tile", "targets": ["cover"]}
    data = folder(tmp_path / "scenes", scale=1e-4, **known)
    assert data.groups.tolist() == ["t1", "t1"]
    np.testing.assert_array_equal(data.targets["cover"], [0.5, np.nan])


def test_no_data(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", SMALL, "xyz", nodata=0)
    image = folder(tmp_path, scale=1e-4)[0]["image"]
    assert np.argwhere(np.isnan(image)).tolist() == [[0, 0, 0]]
    assert folder(tmp_path, scale=1e-4, fill=-0.5)[0]["image"][0, 0, 0] == -0.5
    assert folder(tmp_path, scale=1e-4, nodata=None, fill=1.0)[0]["image"][0, 0, 0] == 0
    assert folder(tmp_path, scale=1e-4, nodata=100)[0]["image"][0, 0, 0] == 0
    made = folder(tmp_path, scale=1e-4, fill=0.0)
    assert made.fingerprint != folder(tmp_path, scale=1e-4).fingerprint
    write(tmp_path / "a.tif", np.full((3, 2, 4), np.inf, np.float32), "xyz")
    with pytest.raises(DataError, match="'x' is inf"):
        folder(tmp_path)[0]


def test_values_that_were_not_scaled_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", SMALL, "xyz")
    with pytest.raises(DataError, match=r"a\.tif\).*channel x \[reflectance\] is 100.*<= 7"):
        folder(tmp_path)[0]
    assert folder(tmp_path, unit="dB")[0]["image"].max() == 2300


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"bands": ["x", "y"]}, ["a.tif: holds 3 bands of int16 (x, y, z), bands names 2"]),
        ({"bands": ["y", "x", "z"]}, ["'y' is band 2 there"]),
    ],
)
def test_bands_that_are_not_those_of_the_files(
    tmp_path: Path, settings: dict[str, Any], words: list[str]
) -> None:
    write(tmp_path / "a.tif", SMALL, "xyz")
    with pytest.raises(DataError) as caught:
        folder(tmp_path, **settings)[0]
    assert all(word in str(caught.value) for word in words), caught.value


def test_mistakes_in_settings_are_told(tmp_path: Path) -> None:
    write(tmp_path / "a.tif", SMALL, "xyz")
    with pytest.raises(ConfigError, match=r"no band 'X'\. .*x, y, z"):
        folder(tmp_path, use=["X"])
    for none in ({"use": []}, {"bands": []}):
        with pytest.raises(ConfigError, match="at least one band"):
            folder(tmp_path, **none)
    with pytest.raises(ConfigError, match="'x' more than once"):
        folder(tmp_path, use=["x", "x"])
    with pytest.raises(ConfigError, match="nodata='none'"):
        folder(tmp_path, nodata="none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no folder"):
        folder(tmp_path / "empty")


def test_files_that_name_their_bands_otherwise(tmp_path: Path) -> None:
    """The first that can be read says which channels there are; others are told, or left out."""
    (tmp_path / "a.tif").write_bytes(b"II*\0")
    write(tmp_path / "b.tif", SMALL, "xyz")
    write(tmp_path / "c.tif", SMALL, "zyx")
    write(tmp_path / "d.tif", SMALL, "xyw")
    data = folder(tmp_path, scale=1e-4)
    np.testing.assert_array_equal(data[1]["image"], data[2]["image"][..., ::-1])
    with pytest.raises(DataError, match=r"d\.tif: has no band 'z'.*it has x, y, w"):
        data[3]
    with pytest.raises(DataError, match=r"a\.tif: is not a whole GeoTIFF"):
        data[0]
    skipping: Any = folder(tmp_path, scale=1e-4, on_error="skip")
    assert [sorted(skipping[i]) for i in range(4)] == [[], ["image"], ["image"], []]
    assert [entry.id for entry in skipping.skipped] == ["a.tif", "d.tif"]


def test_links_out_of_the_root_are_refused(tmp_path: Path) -> None:
    write(tmp_path / "elsewhere.tif", SMALL, "xyz")
    write(tmp_path / "root" / "a.tif", SMALL, "xyz")
    (tmp_path / "root" / "b.tif").symlink_to("../elsewhere.tif")
    with pytest.raises(DataError, match="leads out of"):
        folder(tmp_path / "root", scale=1e-4)[1]


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data are not here")
def test_the_real_scene() -> None:
    bands = [f"band{n}" for n in range(1, 11)]
    path = REAL / "regression_test_0_input.tif"
    data = folder(REAL, bands=bands, use=["band3", "band1"], scale=1e-4)
    row = data.ids.tolist().index(path.name)
    image = data[row]["image"]
    assert image.shape == (224, 224, 2)
    assert round(float(image[..., 1].min()), 4) == -0.1597
    with pytest.raises(DataError, match="holds 1 bands of float32"):
        data[1 - row]


def test_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    Path("mine.py").write_text(
        "def embed(images):\n    return [image.mean(axis=(0, 1)) for image in images]\n"
    )
    for name in ("a/1.tif", "b/2.tif"):
        write(Path("root") / name, SMALL)
    data = ["data=geotiff_folder", "data.root=root", "data.scale=9.7e-5", "modalities=[image]"]
    colours = "data.bands=[red,green,blue]"
    command = ["embed", "model=python:mine:embed", "out=e.npz", *data]
    assert main([*command, colours, "data.adapters.image=true_colour"]) == 0
    vectors = zoo.EmbeddingSet.load(Path("e.npz")).vectors["image"]
    stored = np.clip(np.moveaxis(SMALL, 0, -1) * 9.7e-5 / 0.3, 0, 1) * 255
    np.testing.assert_allclose(vectors[0], stored.round().mean(axis=(0, 1)), rtol=1e-6)
    capsys.readouterr()
    assert main([*command, "data.bands=[red,green]"]) == 2
    said = "".join(capsys.readouterr())
    assert "holds 3 bands of int16" in " ".join(said.split())
    assert "Traceback" not in said
