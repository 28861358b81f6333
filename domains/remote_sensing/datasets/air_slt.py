"""AIR-SLT: sentences, and where in large scenes is what they describe (Yuan et al. 2022,
arXiv:2209.06515)."""

import io
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from domains.remote_sensing.datasets.captioned import text
from domains.remote_sensing.selo.indicators import Polygon, check_polygon, fill
from domains.remote_sensing.selo.opencv import Image, crop
from domains.remote_sensing.selo.scenes import REGIONS, WINDOW, to_text
from domains.remote_sensing.selo.windows import windows
from shared.data.dataset import Dataset, Raw, SampleTable, hash_files
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE, read_image
from shared.errors import DataError
from shared.files import inside
from shared.untrusted import read_bytes, read_text

_KEYS = ("jpg_name", "caption", "points")
_ORIENTATION, _TURNED = 274, (5, 6, 7, 8)  # the Exif tag, and its values that swap the sides


@dataclass(frozen=True)
class Query:
    """A sentence about a scene.

    Attributes:
        scene: File name of the image.
        caption: What is to be found.
        polygons: Where it is: outlines of [x, y], pixels.
    """

    scene: str
    caption: str
    polygons: tuple[Polygon, ...]


class AirSlt(Dataset):
    """Windows of scenes and sentences, for the protocol `semantic_localisation`.

    A scene is cut into the windows of `selo.windows`, each a sample with the modality `image`:
    uint8 (256, 256, 3), scaled and compressed as upstream does (`selo.opencv.crop`). A sentence is
    a sample with the modality `text`. All are test samples without a label; the group is the scene.

    The list of annotations is a JSON list of `{"jpg_name": file, "caption": text, "points":
    [polygon, …]}` with polygons of [x, y] in pixels.

    Args:
        root: The folder.
        annotations: The list, below the root.
        images: The folder of the scenes, below the root.
    """

    name = "air_slt"
    evaluator = "air_slt"

    def __init__(
        self, root: str, annotations: str = "annotations/anno.json", images: str = "imgs"
    ) -> None:
        self.root = Path(root).expanduser()
        self._list, self._images = self.root / annotations, self.root / images
        self.source = str(self._list)
        self.schemas = {"image": IMAGE, "text": TEXT}
        self._open: tuple[str, Image] | None = None

    @cached_property
    def _queries(self) -> list[Query]:
        return read_queries(inside(self.root, self._list))

    @cached_property
    def _windows(self) -> list[tuple[str, tuple[int, ...]]]:
        """Scene and [row start, row end, column start, column end] of every window."""
        found: list[tuple[str, tuple[int, ...]]] = []
        for scene in dict.fromkeys(query.scene for query in self._queries):
            path = self._path(scene)
            width, height = _size(path)
            try:
                cut = windows(height, width).tolist()
                for query in self._queries:
                    if query.scene == scene:
                        fill(query.polygons, height, width)
            except DataError as error:
                raise DataError(f"{path}: {error}") from error
            found += ((scene, tuple(window)) for window in cut)
        return found

    def make_table(self) -> SampleTable:
        cut, queries = self._windows, self._queries
        n, none = len(cut) + len(queries), [""] * len(cut)
        return SampleTable(
            ids=[
                *(f"{scene}@{'-'.join(map(str, window))}" for scene, window in cut),
                *(f"query-{number}" for number in range(len(queries))),
            ],
            groups=[*(scene for scene, _ in cut), *(query.scene for query in queries)],
            splits=["test"] * n,
            annotations={
                WINDOW: [*(to_text(window) for _, window in cut), *[""] * len(queries)],
                REGIONS: [*none, *(to_text(query.polygons) for query in queries)],
            },
        )

    def read(self, index: int) -> Raw:
        if index >= len(self._windows):
            return {"text": self._queries[index - len(self._windows)].caption}
        scene, window = self._windows[index]
        # the windows of a scene are read one after the other, and it is large
        if self._open is None or self._open[0] != scene:
            self._open = (scene, read_image(self._path(scene)))
        return {"image": crop(self._open[1], np.asarray(window))}

    def file(self, index: int, modality: str) -> str:
        if index >= len(self._windows):
            return str(self._list)
        return str(self._images / self._windows[index][0])

    def content_fingerprint(self) -> str:
        scenes = {query.scene for query in self._queries}
        return hash_files([self._list, *(self._path(scene) for scene in scenes)])

    def _path(self, scene: str) -> Path:
        return inside(self.root, self._images / scene)


def read_queries(path: Path) -> list[Query]:
    """The list of annotations.

    Raises:
        DataError: No JSON list of at least one entry, or an entry that is not what it should be.
    """
    try:
        entries = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is damaged or no JSON: {error}.") from error
    if not isinstance(entries, list) or not entries:
        raise DataError(f"{path}: holds no list of {{{', '.join(_KEYS)}}}.")
    return [_query(entry, f"{path}, entry {number}") for number, entry in enumerate(entries)]


def _query(entry: Any, where: str) -> Query:
    if not isinstance(entry, dict) or any(key not in entry for key in _KEYS):
        raise DataError(f"{where}: is no mapping with {', '.join(_KEYS)}.")
    scene, caption = (text(entry, key, where).strip() for key in ("jpg_name", "caption"))
    for key, found in (("jpg_name", scene), ("caption", caption)):
        if not found:
            raise DataError(f"{where}: {key} is empty.")
    polygons = entry["points"]
    if not isinstance(polygons, list) or not polygons:
        raise DataError(f"{where}: points holds no polygon.")
    try:
        for polygon in polygons:
            check_polygon(polygon)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return Query(scene, caption, tuple(polygons))


def _size(path: Path) -> tuple[int, int]:
    """Width and height of an image as viewers show it, from its head."""
    from PIL import Image as Pillow

    try:
        with Pillow.open(io.BytesIO(read_bytes(path)), formats=("JPEG", "PNG", "TIFF")) as image:
            width, height = image.size
            turned = image.getexif().get(_ORIENTATION) in _TURNED
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise almost any kind on broken files
        raise DataError(f"{path}: is not a whole image ({error}). Get it anew.") from error
    return (height, width) if turned else (width, height)
