"""Images with captions in the JSON of Karpathy's splits: RSICD, RSITMD, UCM-Captions."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import ClassVar

from domains.remote_sensing.datasets.captioned import (
    Captioned,
    CaptionedImages,
    check_names,
    field,
    find,
    read_records,
    scene_of,
    text,
    with_validation,
    without_blanks,
)
from shared.data.dataset import SPLITS
from shared.errors import ConfigError, DataError
from shared.files import inside

ENGLISH = "en"
_SPLITS = {split: split for split in SPLITS} | {"restval": "train"}


class CaptionJson(CaptionedImages):
    """A folder with the images and one JSON file of the layout

        {"images": [{"filename": "airport_1.jpg", "split": "train",
                     "sentences": [{"raw": "…"}, …]}, …]}

    Other keys (`imgid`, `tokens`, `sentids`, …) are ignored. Splits are the file's; `restval`
    counts as `train`, and where there is no `val`, some images of `train` are (`with_validation`).
    Blank captions are left out, and their number is logged.

    Captions in other languages lie beside the file as `<name>_<language>.json`
    (`dataset_rsicd_pt.json`), of the same layout, with the same file names. This layout is ours:
    no translated set was published as files.

    Args:
        root: The folder.
        annotations: Path of the JSON file below it; None: the published name.
        images: Path of the folder of the images below it; None: the published name.
        languages: Codes of the languages of the captions, `en` being those of the file itself.
        scene_labels: Whether an image's class is the word in its file name (`airport_1.jpg`).

    Raises:
        ConfigError: No language.
        DataError: A file is missing, damaged or of another layout.
    """

    annotation_names: ClassVar[tuple[str, ...]]
    image_folders: ClassVar[tuple[str, ...]]

    def __init__(
        self,
        root: str,
        annotations: str | None = None,
        images: str | None = None,
        languages: Sequence[str] = (ENGLISH,),
        scene_labels: bool = True,
    ) -> None:
        if not languages or len(set(languages)) < len(languages):
            raise ConfigError(
                f"data.languages={list(languages)}: name at least one, each once (languages=[en])."
            )
        folder = Path(root).expanduser()
        self._annotations = find(folder, self.annotation_names, annotations, "annotations")
        super().__init__(self._annotations, find(folder, self.image_folders, images, "images"))
        self._languages, self._scene_labels = tuple(languages), scene_labels

    @cached_property
    def entries(self) -> list[Captioned]:
        entries = self._read(self._annotations)
        captions: dict[str, tuple[str, ...]] = {entry.file: () for entry in entries}
        for language in self._languages:
            path = self._path(language)
            for entry in entries if language == ENGLISH else self._read(path):
                if entry.file not in captions:
                    raise DataError(
                        f"{path}: names {entry.file!r}, which {self._annotations} does not."
                    )
                captions[entry.file] += entry.captions
        merged = [replace(entry, captions=captions[entry.file]) for entry in entries]
        return with_validation(without_blanks(merged, self._annotations))

    def _path(self, language: str) -> Path:
        if language == ENGLISH:
            return self._annotations
        path = self._annotations.parent / f"{self._annotations.stem}_{language}.json"
        if not path.exists():
            raise DataError(f"data.languages: there is no {path} with the captions in {language}.")
        return inside(self._annotations.parent, path)

    def _read(self, path: Path) -> list[Captioned]:
        records = read_records(path, "images")
        entries = [
            self._entry(record, f"{path}: images[{number}]")
            for number, record in enumerate(records)
        ]
        check_names(entries, path)
        if any(entry.split for entry in entries) and not all(entry.split for entry in entries):
            bare = next(entry.file for entry in entries if not entry.split)
            raise DataError(f"{path}: {bare!r} has no split, others have. Give it one.")
        return entries

    def _entry(self, record: dict[str, object], where: str) -> Captioned:
        file = text(record, "filename", where)
        split = text(record, "split", where) if record.get("split") else ""
        if split and split not in _SPLITS:
            raise DataError(f"{where}: split {split!r} is none of {', '.join(_SPLITS)}.")
        sentences = field(record, "sentences", list, where)
        return Captioned(
            file=file,
            captions=tuple(
                text(sentence, "raw", f"{where}: sentences[{number}]")
                for number, sentence in enumerate(sentences)
            ),
            split=_SPLITS[split] if split else "",
            label=scene_of(file) if self._scene_labels else "",
        )


class Rsicd(CaptionJson):
    """RSICD (Lu et al. 2017, arXiv 1712.07835): 10,921 images of 224 pixels, five captions each;
    30 classes in the file names, of which some are numbers only. Read as `CaptionJson` says."""

    name = "rsicd"
    annotation_names = ("dataset_rsicd.json", "annotations_rsicd/dataset_rsicd.json")
    image_folders = ("RSICD_images", "images")


class Rsitmd(CaptionJson):
    """RSITMD (Yuan et al. 2021, doi:10.1109/TGRS.2021.3078451): 4,743 images, five captions each.
    Read as `CaptionJson` says."""

    name = "rsitmd"
    annotation_names = ("dataset_RSITMD.json", "dataset_rsitmd.json")
    image_folders = ("images", "RSITMD_images")


class UcmCaptions(CaptionJson):
    """UCM-Captions (Qu et al. 2016, doi:10.1109/CITS.2016.7546397): 2,100 images, five captions
    each; their names are numbers, so that they have no class. Read as `CaptionJson` says."""

    name = "ucm_captions"
    annotation_names = ("dataset.json",)
    image_folders = ("imgs", "images")
