"""A CSV file of images and texts, such as those GeoRSCLIP's retrieval is evaluated on."""

from collections import defaultdict
from functools import cached_property
from pathlib import Path
from typing import Literal

from domains.remote_sensing.datasets.captioned import Captioned, CaptionedImages, without_blanks
from shared.data.csv_table import read_csv
from shared.data.dataset import SPLITS, hash_files
from shared.errors import ConfigError, DataError


class CaptionCsv(CaptionedImages):
    """A CSV file (a header line, a row a caption) beside a folder of images.

    The rows of one image are one sample, with its captions in the order of the file; the images
    stand in the order of their sorted names, as in GeoRSCLIP's evaluation, whose file of RSICD is
    `encoding=gb18030`. Blank captions are left out, and their number is logged.

    Args:
        root: The file.
        images: Folder of the images.
        image_column: Column of paths below that folder.
        text_column: Column of captions.
        encoding: Of the file.
        split: Column of `train`, `val`, `test`; or one of these words, where all images are of that
            split; None: by a hash of the group.
        label: Column of scene classes, empty where unknown.
        group: Column of what must not straddle splits; None: the image.

    Raises:
        ConfigError: There is no such folder.
        DataError: The file is missing or damaged, a column is not there, an image has no name, or
            the rows of an image disagree on its split, label or group.
    """

    name = "caption_csv"
    paths = ("root", "images")

    def __init__(
        self,
        root: str,
        images: str,
        image_column: str = "filename",
        text_column: str = "title",
        encoding: Literal["utf-8", "gb18030"] = "utf-8",
        split: str | None = None,
        label: str | None = None,
        group: str | None = None,
    ) -> None:
        self.path = Path(root).expanduser()
        folder = Path(images).expanduser()
        if not folder.is_dir():
            raise ConfigError(f"data.images={images}: there is no such folder.")
        super().__init__(self.path, folder)
        self._image_column, self._text_column = image_column, text_column
        self._encoding = "utf-8-sig" if encoding == "utf-8" else encoding
        self._split, self._label, self._group = split, label, group

    @cached_property
    def entries(self) -> list[Captioned]:
        table = read_csv(self.path, encoding=self._encoding)
        files = table.texts(self._image_column, "image_column=COLUMN")
        texts = table.cells(self._text_column, "text_column=COLUMN")
        about = {"split": [""] * len(files), "label": [""] * len(files), "group": [""] * len(files)}
        if self._split in SPLITS and self._split not in table.header:
            about["split"] = [str(self._split)] * len(files)
        elif self._split:
            about["split"] = table.choices(self._split, "split=COLUMN", SPLITS)
        if self._label:
            about["label"] = table.texts(self._label, "label=COLUMN", required=False)
        if self._group:
            about["group"] = table.texts(self._group, "group=COLUMN")
        rows = defaultdict(list)
        for row, file in enumerate(files):
            rows[file].append(row)
        entries = [
            Captioned(
                file=file,
                captions=tuple(texts[row] for row in rows[file]),
                **{key: self._agreed(key, column, rows[file]) for key, column in about.items()},
            )
            for file in sorted(rows)
        ]
        return without_blanks(entries, self.path)

    def _agreed(self, key: str, column: list[str], rows: list[int]) -> str:
        """What all rows of an image say of it."""
        for row in rows:
            if column[row] != column[rows[0]]:
                raise DataError(
                    f"{self.path}: rows {rows[0] + 1} and {row + 1} are of one image, but their "
                    f"{key} is {column[rows[0]]!r} and {column[row]!r}."
                )
        return column[rows[0]]

    def content_fingerprint(self) -> str:
        return f"{super().content_fingerprint()}|{hash_files([self.path])}"
