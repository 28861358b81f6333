"""RS5M (Zhang et al. 2024, arXiv 2306.11300): five million images with a text each, in shards."""

from collections.abc import Mapping
from typing import ClassVar

from shared.data.members import Kind
from shared.data.shard_files import split_of_name
from shared.data.shards import WebDataset
from shared.errors import DataError

_IMAGE, _CAPTION = "img_content", "caption"
_SHARDS = "{pub11,rs3}-{train,val}-0000.tar"


class RS5M(WebDataset):
    """The tars of RS5M, `{pub11,rs3}-{train,val}-0000.tar` and so on, read in place.

    A sample has the members `<key>.img_content` (an encoded image), `<key>.caption` (UTF-8) and
    `<key>.img_name` (not read). Gives `image`: uint8 (height, width, 3), red, green, blue, 0–255,
    and `text`: str. The split is in the name of the file.

    The set's other form, `*_intermediate.csv` with the name of an image in the first column and its
    caption in the second, is read by the dataset `caption_csv`.

    Args:
        root: Folder of the tars; any number of those published.
        lanes: As `WebDataset`.
        shuffle_window: As `WebDataset`.

    Raises:
        DataError: There is no tar, one has no split in its name, or holds a link or a device.
    """

    name = "rs5m"
    evaluator = "remote_sensing"
    kinds: ClassVar[Mapping[str, Kind]] = {_IMAGE: "image"}

    def __init__(self, root: str, lanes: int = 8, shuffle_window: int = 10_000) -> None:
        super().__init__(
            root, {"image": _IMAGE, "text": _CAPTION}, lanes=lanes, shuffle_window=shuffle_window
        )

    def splits_of_shards(self, names: list[str]) -> list[str]:
        splits = [split_of_name(name) for name in names]
        for path, split in zip(self.index.paths, splits, strict=True):
            if split not in ("train", "val"):
                raise DataError(f"{path}: has no split in its name. The files are named {_SHARDS}.")
        return splits
