"""Multispectral images: GeoTIFF files in a folder, or in one a class."""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from domains.remote_sensing.bands import REFLECTANCE, channels
from shared.data.dataset import Raw
from shared.data.generic import ImageFile, ImageFolder, find_images
from shared.data.geotiff import NoData, band_names, read_geotiff
from shared.errors import ConfigError, DataError, suggest
from shared.files import inside
from shared.schema import Schema


class GeotiffFolder(ImageFolder):
    """GeoTIFF files: `root/<file>` without classes, `root/<class>/<file>` or
    `root/{train,val,test}/<class>/<file>`.

    Gives the modality `image`: float32 (height, width, channel) in `unit`; the files may differ in
    size. Only the values are read: neither where on Earth nor in what projection they lie.

    Args:
        root: The folder.
        bands: Name of every band, in the order of the files; None: as each file names its own.
        use: Names of those that are the channels, in this order; None: all.
        scale: Value = scale · stored number + offset; None: what the file states, else 1 and 0.
        offset: The same.
        unit: Of the values. `reflectance` goes with a range (`bands.REFLECTANCE_RANGE`) that tells
            values which were not scaled; any other unit has none.
        nodata: Which stored number is no data: `file`, what the file states; a number; None: none.
        fill: Value where there is no data, in `unit`. None: NaN, and what reads the image takes it
            or refuses it.
        metadata: A CSV file that says more of the images, as in `ImageFolder`.
        group: Column of it: what must not straddle splits (scene, tile).
        targets: Columns of numbers to predict, empty where unknown.
        tags: Columns of 1 (yes) and 0 (no), empty where unknown.
        subgroups: Columns by which scores are told apart (sensor), empty where unknown.

    Raises:
        ConfigError: No band, or `use` repeats one or names one that is not in `bands`.
        DataError: No file, or none that names its bands where `bands` is None.
    """

    name = "geotiff_folder"
    evaluator = "remote_sensing"
    suffixes = (".tif", ".tiff")

    def __init__(
        self,
        root: str,
        bands: Sequence[str] | None = None,
        use: Sequence[str] | None = None,
        scale: float | None = None,
        offset: float | None = None,
        unit: str = REFLECTANCE,
        nodata: NoData = "file",
        fill: float | None = None,
        metadata: str | None = None,
        group: str | None = None,
        targets: Sequence[str] = (),
        tags: Sequence[str] = (),
        subgroups: Sequence[str] = (),
    ) -> None:
        super().__init__(root, metadata, group, targets, tags, subgroups)
        self._bands, self._fill = bands, fill
        self._values = {"scale": scale, "offset": offset}
        self._nodata: NoData = nodata
        known = tuple(bands) if bands is not None else self._stated_bands()
        chosen = known if use is None else tuple(use)
        if not chosen:
            raise ConfigError("data.bands and data.use: name at least one band, or give null.")
        for name in chosen:
            if name not in known:
                raise ConfigError(f"data.use: there is no band {name!r}. {suggest(name, known)}")
            if chosen.count(name) > 1:
                raise ConfigError(f"data.use names {name!r} more than once.")
        made = channels(chosen, unit, allow_missing=fill is None)
        self.schemas = {"image": Schema("image", ("height", "width", "channel"), made, "float32")}

    @cached_property
    def _files(self) -> list[ImageFile]:
        entries = self.root.iterdir() if self.root.is_dir() else ()
        if any(p.is_file() and p.suffix.lower() in self.suffixes for p in entries):
            images = find_images(self.root, self.suffixes)
            return [ImageFile(None, None, path) for path in images]
        return super()._files

    def _stated_bands(self) -> tuple[str, ...]:
        """Those of the first file that can be read."""
        first: DataError | None = None
        for file in self._files:
            try:
                return band_names(inside(self.root, file.path))
            except DataError as error:
                first = first or error
        raise first or DataError(f"{self.root}: holds no GeoTIFF.")

    def read(self, index: int) -> Raw:
        path = inside(self.root, self._files[index].path)
        given = read_geotiff(path, self._bands, nodata=self._nodata, **self._values)
        wanted = self.schemas["image"].names
        for name in wanted:
            if name not in given:
                raise DataError(
                    f"{path}: has no band {name!r}, which the first file has; it has "
                    f"{', '.join(given)}. Name the bands by data.bands=[…], or leave it out of "
                    "data.use=[…]."
                )
        image = np.stack([given[name] for name in wanted], axis=-1)
        if self._fill is not None:
            image[np.isnan(image)] = self._fill
        return {"image": image}

    def content_fingerprint(self) -> str:
        schema = self.schemas["image"]
        read_as = (self._bands and list(self._bands), schema.names, schema.channels[0].unit)
        how = (*read_as, *self._values.values(), self._nodata, self._fill)
        return f"{super().content_fingerprint()}, {how}"
