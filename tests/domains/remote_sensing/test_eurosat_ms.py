"""EuroSAT in 13 bands, in fakes of its layout: as it is, in true colour, and trained on."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import zoo
from domains.remote_sensing.bands import SENTINEL2
from domains.remote_sensing.datasets.eurosat_ms import BANDS
from shared.data.image_files import IMAGE
from shared.errors import DataError
from shared.model import Model
from shared.model_config import ModelConfig
from zoo.plugins import plugins

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")


def write(path: Path, stored: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = stored.shape
    size = {"height": height, "width": width, "count": count, "dtype": stored.dtype}
    with rasterio.open(path, "w", driver="GTiff", **size) as file:
        file.write(np.moveaxis(stored, -1, 0))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Scenes of 16 × 16 pixels in which band b of image i is 1000 b + i."""
    for number in range(12):
        name = ("AnnualCrop", "Forest", "River")[number % 3]
        stored = np.broadcast_to(1000 * np.arange(13) + number, (16, 16, 13)).astype(np.uint16)
        folder = tmp_path / "ds/images/remote_sensing/otherDatasets/sentinel_2/tif"
        write(folder / name / f"{name}_{number}.tif", stored)
    return tmp_path


def test_bands_by_name(root: Path) -> None:
    data = zoo.dataset("eurosat_ms", root=str(root))
    assert data.classes == ("AnnualCrop", "Forest", "River")
    assert data.evaluator == "eurosat"
    channels = data.schemas["image"].channels
    assert [c.name for c in channels] == [SENTINEL2[band] for band in BANDS]
    assert len(set(SENTINEL2.values())) == 13
    assert {c.unit for c in channels} == {"reflectance"}
    image = data[0]["image"]
    assert image.shape == (16, 16, 13)
    assert image.dtype == np.float32
    np.testing.assert_allclose(image[3, 4], 0.1 * np.arange(13), atol=1e-6)
    assert data[0]["image"][0, 0, data.schemas["image"].names.index("nir08")] > 1
    some = zoo.dataset("eurosat_ms", root=str(root), use=["red", "nir08"], split="test")
    np.testing.assert_allclose(some[1]["image"][0, 0], [0.3003, 1.2003], atol=1e-6)
    assert set(some.splits) == {"test"}
    assert some.fingerprint != data.fingerprint


def test_true_colour_is_what_models_of_rgb_take(root: Path) -> None:
    data = zoo.dataset("eurosat_ms", root=str(root), adapters={"image": "true_colour"})
    assert data.schemas["image"] == IMAGE
    assert data[0]["image"][5, 5].tolist() == [255, 170, 85]


def test_a_file_of_other_bands(root: Path) -> None:
    path = next(root.rglob("AnnualCrop_0.tif"))
    write(path, np.zeros((16, 16, 12), np.uint16))
    with pytest.raises(DataError, match=r"AnnualCrop_0\.tif.*holds 12 bands of uint16, .* 13"):
        zoo.dataset("eurosat_ms", root=str(root))[0]
    write(path, np.zeros((16, 16, 13), np.float32) + 3e5)
    with pytest.raises(DataError, match=r"coastal \[reflectance\] is 30 .*<= 7"):
        zoo.dataset("eurosat_ms", root=str(root))[0]
    write(
        root / "ds/images/remote_sensing/otherDatasets/sentinel_2/tif/Sea/1.tif", np.ones((1, 1, 1))
    )
    with pytest.raises(DataError, match="'Sea' is no class"):
        len(zoo.dataset("eurosat_ms", root=str(root)))


def test_an_encoder_of_13_bands_trains(root: Path, tmp_path: Path) -> None:
    data = zoo.dataset("eurosat_ms", root=str(root))
    bands = data.schemas["image"].names
    encoder = {"name": "clip_vision", "patch_size": 8, "dim": 16, "depth": 1, "num_heads": 2}
    means, stds = [0.1 * n for n in range(13)], [0.1] * 13
    prepare = {"name": "image", "image_size": 16, "mean": means, "std": stds, "scale": 1}
    parts = {"image": {"preprocess": prepare, "encoder": encoder}}
    config = ModelConfig.from_dict({"name": "bands", "embed_dim": 3, "modalities": parts})
    torch.manual_seed(0)
    model = Model.build(config, data.schemas, plugins().registries, {})
    preprocessor = model.preprocessors["image"]
    prepared = [preprocessor(data[i]["image"]) for i in range(len(data))]
    inputs = preprocessor.collate(prepared)
    assert inputs["values"].shape == (12, 13, 16, 16)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    losses = []
    for _ in range(10):
        logits = model.project("image", model.encode("image", inputs).pooled)
        loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < losses[0]
    model.save(tmp_path / "saved", "")
    path = next(root.rglob("AnnualCrop_0.tif"))
    scene = zoo.read_geotiff(path, bands, scale=1e-4)
    np.testing.assert_allclose(
        zoo.load(tmp_path / "saved").embed(image=scene),
        model.embed(image=data[0]["image"]),
        atol=1e-6,
    )
    with pytest.raises(DataError, match=r"blue \[reflectance\] is 1000"):
        model.embed(image=zoo.read_geotiff(path, bands))
