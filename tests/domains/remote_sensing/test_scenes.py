"""Published sets of scenes, in fakes of their layouts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import zoo
from domains.remote_sensing.datasets import scenes
from shared.errors import ConfigError, DataError
from zoo.plugins import plugins

REAL = Path(__file__).parents[3] / "../shared/data/remote_sensing/rsscn7"
RNG = np.random.default_rng(0)
LAYOUTS = {  # a folder of each archive, and names of files in it
    "eurosat": ("2750", ["AnnualCrop/AnnualCrop_1.jpg", "SeaLake/SeaLake_3000.jpg"]),
    "resisc45": ("NWPU-RESISC45", ["airplane/airplane_001.jpg", "sea_ice/sea_ice_700.jpg"]),
    "aid": ("AID", ["BareLand/bareland_1.jpg", "Viaduct/viaduct_420.jpg"]),
    "rsscn7": ("RSSCN7", ["aGrass/a001.jpg", "dRiverLake/d400.jpg"]),
}


def save(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(RNG.integers(0, 256, (8, 6, 3), dtype=np.uint8)).save(path)


@pytest.mark.parametrize("name", LAYOUTS)
def test_layouts(tmp_path: Path, name: str) -> None:
    inner, files = LAYOUTS[name]
    for file in files:
        save(tmp_path / inner / file)
    for root in (tmp_path, tmp_path / inner):
        data = zoo.dataset(name, root=str(root))
        assert data.ids.tolist() == files
        assert data.labels.tolist() == [0, 1]
        assert data[0]["image"].shape == (8, 6, 3)
        assert data.evaluator == name
        assert data.table.splits is None
        # as the protocol of zero-shot classification counts
        whole = zoo.dataset(name, root=str(root), split="test")
        assert set(whole.splits) == {"test"}
        assert whole.fingerprint != data.fingerprint


@pytest.mark.parametrize(
    ("name", "number"), [("eurosat", 10), ("resisc45", 45), ("aid", 30), ("rsscn7", 7)]
)
def test_every_class_is_known(tmp_path: Path, name: str, number: int) -> None:
    """As many as published, in the order of the sorted folders (GeoRSCLIP's evaluation)."""
    folders = plugins().registries.datasets.get(name).folders
    assert len(set(folders)) == number
    assert list(folders) == sorted(folders)
    for folder in folders:
        save(tmp_path / folder / "1.jpg")
    cut = 1 if name == "rsscn7" else 0
    assert zoo.dataset(name, root=str(tmp_path)).classes == tuple(
        sorted(folder[cut:] for folder in folders)
    )


def test_a_folder_that_is_no_class(tmp_path: Path) -> None:
    save(tmp_path / "SeaLake" / "1.jpg")
    save(tmp_path / "Sea Lake" / "2.jpg")
    with pytest.raises(DataError, match=r"'Sea Lake' is no class.*mean 'SeaLake'.*image_folder"):
        len(zoo.dataset("eurosat", root=str(tmp_path)))
    with pytest.raises(DataError, match="no such folder"):
        len(zoo.dataset("aid", root=str(tmp_path / "none")))
    with pytest.raises(ConfigError, match="split='val'"):
        zoo.dataset("aid", root=str(tmp_path), split="val")


def test_scales_of_rsscn7(tmp_path: Path) -> None:
    for number in (1, 100, 101, 201, 400):
        save(tmp_path / "bField" / f"b{number:03d}.jpg")
    save(tmp_path / "bField" / "new.jpg")
    data = zoo.dataset("rsscn7", root=str(tmp_path))
    assert data.classes == ("Field",)
    assert data.subgroups["scale"].tolist() == ["1", "1", "2", "3", "4", ""]


@pytest.mark.skipif(not REAL.is_dir(), reason="the shared data are not here")
def test_real_rsscn7() -> None:
    data: Any = zoo.dataset("rsscn7", root=str(REAL))
    assert isinstance(data, scenes.RSSCN7)
    assert len(data) == 154
    assert data.classes == (
        *("Field", "Forest", "Grass", "Industry", "Parking", "Resident", "RiverLake"),
    )
    assert np.bincount(data.labels).tolist() == [22] * 7
    scales, counts = np.unique(data.subgroups["scale"], return_counts=True)
    assert scales.tolist() == ["1", "2", "3", "4"]
    assert counts.tolist() == [42, 49, 42, 21]  # of every 16th file of each class
    assert data[3]["image"].shape == (400, 400, 3)
