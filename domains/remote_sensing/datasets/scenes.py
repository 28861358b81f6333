"""Sets of scenes by class, in the layouts in which they are published: a folder a class."""

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Literal

from shared.data.dataset import SampleTable
from shared.data.generic import ImageFile, ImageFolder
from shared.errors import DataError, suggest

Split = Literal["hash", "test"]
"""`hash`: as the folders `train`, `val` and `test` say or, without them, by a hash of the file's
name. `test`: every image is of the test split, as published zero-shot results count (GeoRSCLIP)."""

EUROSAT = (
    *("AnnualCrop", "Forest", "HerbaceousVegetation", "Highway", "Industrial", "Pasture"),
    *("PermanentCrop", "Residential", "River", "SeaLake"),
)


class Scenes(ImageFolder):
    """A published set of scenes; its classes are those whose folders are there, so a part of a set
    is a set of fewer classes.

    Gives the modality `image`: uint8 (height, width, 3), red, green, blue, 0–255.

    Attributes:
        folders: Of the classes, all that the set has.
        unpacks_to: What the folder of these folders is called where an archive was unpacked.

    Args:
        root: The folder of the classes, or the one in which an archive was unpacked.
        split: See `Split`.

    Raises:
        DataError: A folder that is no class of this set.
    """

    folders: tuple[str, ...]
    unpacks_to: tuple[str, ...] = ()

    def __init__(self, root: str, split: Split = "hash") -> None:
        super().__init__(str(unpacked(root, self.unpacks_to)))
        self._split = split

    @cached_property
    def _files(self) -> list[ImageFile]:
        return as_published(super()._files, self.folders, self._split, self.root)


class EuroSAT(Scenes):
    """EuroSAT in RGB (Helber et al. 2019): 27,000 Sentinel-2 scenes of 64 × 64 pixels, 10 classes,
    `<Class>/<Class>_<n>.jpg`."""

    name = "eurosat"
    evaluator = "eurosat"
    folders = EUROSAT
    unpacks_to = ("EuroSAT_RGB", "2750")


class RESISC45(Scenes):
    """NWPU-RESISC45 (Cheng, Han and Lu 2017): 31,500 scenes of 256 × 256 pixels, 45 classes,
    `<class>/<class>_<nnn>.jpg`."""

    name = "resisc45"
    evaluator = "resisc45"
    folders = (
        *("airplane", "airport", "baseball_diamond", "basketball_court", "beach", "bridge"),
        *("chaparral", "church", "circular_farmland", "cloud", "commercial_area"),
        *("dense_residential", "desert", "forest", "freeway", "golf_course"),
        *("ground_track_field", "harbor", "industrial_area", "intersection", "island"),
        *("lake", "meadow", "medium_residential", "mobile_home_park", "mountain"),
        *("overpass", "palace", "parking_lot", "railway", "railway_station"),
        *("rectangular_farmland", "river", "roundabout", "runway", "sea_ice", "ship"),
        *("snowberg", "sparse_residential", "stadium", "storage_tank", "tennis_court"),
        *("terrace", "thermal_power_station", "wetland"),
    )
    unpacks_to = ("NWPU-RESISC45",)


class AID(Scenes):
    """AID (Xia et al. 2017): 10,000 scenes of 600 × 600 pixels, 30 classes,
    `<Class>/<class>_<n>.jpg`."""

    name = "aid"
    evaluator = "aid"
    folders = (
        *("Airport", "BareLand", "BaseballField", "Beach", "Bridge", "Center", "Church"),
        *("Commercial", "DenseResidential", "Desert", "Farmland", "Forest", "Industrial"),
        *("Meadow", "MediumResidential", "Mountain", "Park", "Parking", "Playground"),
        *("Pond", "Port", "RailwayStation", "Resort", "River", "School"),
        *("SparseResidential", "Square", "Stadium", "StorageTanks", "Viaduct"),
    )
    unpacks_to = ("AID",)


class RSSCN7(Scenes):
    """RSSCN7 (Zou et al. 2015): 2,800 scenes of 400 × 400 pixels, 7 classes, `aGrass/a<nnn>.jpg`;
    the letter is not part of the class.

    Gives the subgroup `scale`: each class was collected at four scales, 100 images each; 1 to 4
    stand for the file numbers 1–100, 101–200, 201–300 and 301–400 (which scale is which is not
    verified).
    """

    name = "rsscn7"
    evaluator = "rsscn7"
    folders = ("aGrass", "bField", "cIndustry", "dRiverLake", "eForest", "fResident", "gParking")
    unpacks_to = ("RSSCN7", "RSSCN7-master")

    @cached_property
    def _files(self) -> list[ImageFile]:
        files = super()._files
        return [file._replace(class_name=file.class_name and file.class_name[1:]) for file in files]

    def make_table(self) -> SampleTable:
        scales = [_scale(file.path) for file in self._files]
        return replace(super().make_table(), subgroups={"scale": scales})


def _scale(path: Path) -> str:
    """1 to 4; empty where the file has another name."""
    number = re.fullmatch(r"[a-g](\d{3})", path.stem)
    return str((int(number[1]) - 1) // 100 + 1) if number else ""


def unpacked(root: str, inside: Sequence[str]) -> Path:
    """The folder of classes: the first of these folders in the root, or the root itself."""
    folder = Path(root).expanduser()
    return next((folder / name for name in inside if (folder / name).is_dir()), folder)


def as_published(
    files: Sequence[ImageFile], folders: Sequence[str], split: Split, root: Path
) -> list[ImageFile]:
    """Files of an image folder, in the chosen split.

    Raises:
        DataError: A folder that is no class of the set.
    """
    for file in files:
        if file.class_name is not None and file.class_name not in folders:
            raise DataError(
                f"{root}: the folder {file.class_name!r} is no class of this set. "
                f"{suggest(file.class_name, folders, limit=len(folders))} For images of your own: "
                "data=image_folder or data=geotiff_folder."
            )
    return [file._replace(split="test") for file in files] if split == "test" else list(files)
