"""GeoTIFF files as named bands.

A file is read whole and opened from memory by GDAL's GTiff driver alone, so that nothing beside it
counts: no sidecar file, no virtual raster, no address.
"""

import logging
import re
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from shared.errors import DataError, first_line
from shared.optional import import_optional
from shared.untrusted import check_growth, check_size, read_bytes

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

NoData = float | None | Literal["file"]
"""What marks a pixel without data: a number; None: nothing does; `file`: what the file states."""

_OPTIONS = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",  # no statistics or names from .aux.xml
    "GDAL_GEOREF_SOURCES": "INTERNAL",
    "GDAL_NUM_THREADS": "1",
    "GTIFF_IGNORE_READ_ERRORS": "NO",
}
_COLOURS = ("red", "green", "blue", "alpha")
MAX_BANDS = 4096
"""More are refused: spectrometers have some hundred, and GDAL's time grows with the square."""
_FLOAT_BYTES = 4
_IN_MEMORY = re.compile(r"'?/vsimem/[^\s',:]*'?")
# what GDAL logs of a broken file is in the error that it raises, too
logging.getLogger("rasterio").addHandler(logging.NullHandler())


def read_geotiff(
    path: str | Path,
    bands: Sequence[str] | None = None,
    *,
    scale: float | None = None,
    offset: float | None = None,
    nodata: NoData = "file",
) -> dict[str, NDArray[np.float32]]:
    """The bands of a GeoTIFF by name, as `Model.embed` takes an image of several channels.

        zoo.read_geotiff("scene.tif", bands=["blue", "green", "red", "nir"], scale=1e-4)

    Args:
        path: Of a file of one image with real numbers of any width.
        bands: Name of every band, in the order of the file. None: the file's descriptions of its
            bands or, where it says that they are colours, `red`, `green`, `blue`, `alpha`.
        scale: Value = scale · stored number + offset. None: what the file states for the band,
            1 where it states nothing.
        offset: The same; None: 0 where the file states nothing.
        nodata: Which stored number is no data. `file`: what the file states, with its mask and
            pixels that are fully transparent.

    Returns:
        By name, in the order of the file, (height, width) float32; NaN where there is no data.

    Raises:
        DataError: No whole GeoTIFF, several images, complex numbers, more than is read of a file,
            or bands that are not named, or otherwise than the file does.
        DependencyError: rasterio is not installed.
    """
    path = Path(path).expanduser()
    if isinstance(bands, str):
        raise DataError(f"bands={bands!r} is one text: give a list of names, such as [{bands!r}].")
    if scale == 0 or not np.isfinite([scale or 1, offset or 0]).all():
        raise DataError(f"scale={scale}, offset={offset}: give finite numbers, and no scale of 0.")
    with _opened(path) as file:
        names = _names(file, bands, path)
        stored: NDArray[Any] = file.read()
        scales = _by_band(scale, file.scales)
        offsets = _by_band(offset, file.offsets)
        with np.errstate(over="ignore"):  # beyond float32 they become infinite, which is refused
            values = (stored * scales + offsets).astype(np.float32)
        if nodata == "file":
            values[_masks(file, names) == 0] = np.nan
        elif nodata is not None:
            values[stored == nodata] = np.nan
        return dict(zip(names, values, strict=True))


def _masks(file: "DatasetReader", names: Sequence[str]) -> NDArray[np.uint8]:
    """(bands, height, width), 0 where there is no data. GDAL takes the fourth of four bands of 8
    bits for transparency where the file does not say what it is; by any other name it is none."""
    masks: NDArray[np.uint8] = file.read_masks()
    if "alpha" not in names:
        for number, flags in enumerate(file.mask_flag_enums):
            if any(flag.name == "alpha" for flag in flags):
                masks[number] = 255
    return masks


def _by_band(given: float | None, stated: Sequence[float]) -> NDArray[np.float64]:
    """(bands, 1, 1), the number given for all of them or those that the file states."""
    numbers = stated if given is None else [given] * len(stated)
    return np.array(numbers, dtype=np.float64)[:, None, None]


def band_names(path: Path, bands: Sequence[str] | None = None) -> tuple[str, ...]:
    """The names that `read_geotiff` gives the bands of a file; only its header is decoded.

    Raises:
        DataError, DependencyError: As there.
    """
    with _opened(path) as file:
        return _names(file, bands, path)


@contextmanager
def _opened(path: Path) -> Iterator["DatasetReader"]:
    """The file, its header checked; what its decoder raises becomes a DataError."""
    rasterio = import_optional("rasterio", "geotiff", f"{path}: a GeoTIFF")
    content = read_bytes(path)
    if not content:
        raise DataError(f"{path}: is not a whole GeoTIFF (it is empty). Get it anew, or remove it.")
    try:
        with (
            warnings.catch_warnings(),
            rasterio.Env(**_OPTIONS),
            rasterio.MemoryFile(content, filename="it.tif") as memory,
        ):
            warnings.simplefilter("ignore")  # of files without a place on Earth
            with memory.open(driver="GTiff") as file:
                _check_header(file, path)
                yield file
    except DataError:
        raise
    except Exception as error:  # the decoders of GDAL raise many kinds on broken files
        why = _IN_MEMORY.sub("it", first_line(error))
        raise DataError(
            f"{path}: is not a whole GeoTIFF ({why}). Get it anew, or remove it."
        ) from error


def _check_header(file: "DatasetReader", path: Path) -> None:
    if file.count > MAX_BANDS:
        raise DataError(
            f"{path}: holds {file.count:,} bands; at most {MAX_BANDS:,} are read. Save the ones "
            "that are needed."
        )
    if file.dtypes[0].startswith("complex"):  # all bands of a TIFF are of one type
        raise DataError(
            f"{path}: holds complex numbers ({file.dtypes[0]}). Save amplitude, phase or both as "
            "bands of real numbers."
        )
    if file.subdatasets:
        raise DataError(
            f"{path}: holds {len(file.subdatasets)} images. Save each one as a file of its own."
        )
    size = (
        file.width * file.height * file.count * max(np.dtype(file.dtypes[0]).itemsize, _FLOAT_BYTES)
    )
    check_growth(path, size)
    check_size(size, f"{path}, decoded")


def _names(file: "DatasetReader", bands: Sequence[str] | None, path: Path) -> tuple[str, ...]:
    stated = _stated_names(file)
    holds = f"{path}: holds {file.count} bands of {file.dtypes[0]}"
    if bands is None:
        if not stated:
            raise DataError(f"{holds} and does not name them. Give bands=[…], in their order.")
        return stated
    if len(bands) != file.count:
        raise DataError(
            f"{holds}{_listed(stated)}, bands names {len(bands)}: {', '.join(bands)}. Name each "
            "band of the file, in its order."
        )
    if twice := [name for name, times in Counter(bands).items() if times > 1]:
        raise DataError(f"bands names {twice[0]!r} more than once. Give each band its own name.")
    described = file.descriptions  # colours may be no more than GDAL's guess
    for number, name in enumerate(bands):
        if name in described and described[number] != name:
            raise DataError(
                f"{holds}{_listed(stated)}: {name!r} is band {described.index(name) + 1} there, "
                f"and bands says {number + 1}. Name them in the order of the file."
            )
    return tuple(bands)


def _listed(stated: Sequence[str]) -> str:
    return f" ({', '.join(stated)})" if stated else ""


def _stated_names(file: "DatasetReader") -> tuple[str, ...]:
    """What the file calls its bands; nothing where it names some only, or two alike."""
    described = tuple(name or "" for name in file.descriptions)
    colours = tuple(colour.name for colour in file.colorinterp)
    for names in (described, colours if set(colours) <= set(_COLOURS) else ()):
        if names and all(names) and len(set(names)) == len(names):
            return names
    return ()
