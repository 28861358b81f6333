"""EuroSAT with all bands of Sentinel-2."""

from collections.abc import Sequence
from functools import cached_property

from domains.remote_sensing.bands import SENTINEL2
from domains.remote_sensing.datasets.geotiff_folder import GeotiffFolder
from domains.remote_sensing.datasets.scenes import EUROSAT, Split, as_published, unpacked
from shared.data.generic import ImageFile

BANDS = (
    *("B01", "B02", "B03", "B04", "B05", "B06", "B07", "B08", "B09", "B10", "B11", "B12"),
    "B8A",
)
"""Order in the files, which do not name them (torchgeo/datasets/eurosat.py)."""

QUANTISATION = 1e-4
"""Reflectance a step of Sentinel-2's Level-1C (its product specification)."""


class EuroSATMS(GeotiffFolder):
    """EuroSAT in 13 bands (Helber et al. 2019): top-of-atmosphere reflectance of 27,000 Sentinel-2
    scenes, 64 × 64 pixels of 10 m, to which coarser bands are resampled; `<Class>/<Class>_<n>.tif`.

    Gives the modality `image`: float32 (64, 64, channel) [reflectance]; the channels are called as
    `bands.SENTINEL2` says. Its classes are those whose folders are there.

    Args:
        root: The folder of the classes, or the one in which an archive was unpacked.
        use: Channels, in this order, such as [red, green, blue]; None: all 13.
        split: See `scenes.Split`.

    Raises:
        DataError: A folder that is no class of this set.
    """

    name = "eurosat_ms"
    evaluator = "eurosat"

    def __init__(self, root: str, use: Sequence[str] | None = None, split: Split = "hash") -> None:
        # the latter is the path in the archive of 2018
        inside = ("EuroSAT_MS", "tif", "ds/images/remote_sensing/otherDatasets/sentinel_2/tif")
        names = [SENTINEL2[band] for band in BANDS]
        super().__init__(str(unpacked(root, inside)), names, use, QUANTISATION)
        self._split: Split = split

    @cached_property
    def _files(self) -> list[ImageFile]:
        return as_published(super()._files, EUROSAT, self._split, self.root)
