"""RSVQA-LR (Lobry et al. 2020, doi:10.1109/TGRS.2020.2988782): images, questions and answers."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from domains.remote_sensing.datasets.captioned import (
    Captioned,
    CaptionedImages,
    field,
    find,
    read_records,
    text,
)
from shared.data.dataset import SPLITS
from shared.errors import ConfigError, DataError, suggest

_SCENE = "rural_urban"  # the type of the question whose answer is the scene class

Record = Mapping[str, Any]


class Rsvqa(CaptionedImages):
    """Sentinel-2 images (10 m, 256 × 256 pixels, RGB) with questions and answers.

    The layout is `LR_split_{train,val,test}_{images,questions,answers}.json` and
    `Images_LR/<id>.tif`. A caption is a question with its first answer ("Is a road present? yes").
    The class is the answer to "Is it a rural or an urban area". What is marked as not active is
    left out: such an image has no file.

    Args:
        root: The folder.
        question_types: `presence`, `comp`, `count`, `rural_urban`; None: all of them.

    Raises:
        ConfigError: No such type.
        DataError: A file is missing or damaged, or names an entry that is not there.
    """

    name = "rsvqa"

    def __init__(self, root: str, question_types: Sequence[str] | None = None) -> None:
        self._root = Path(root).expanduser()
        self._types = question_types
        super().__init__(self._root, find(self._root, ("Images_LR",), None, "root"))

    @cached_property
    def entries(self) -> list[Captioned]:
        asked: set[str] = set()
        entries = [entry for split in SPLITS for entry in self._of_split(split, asked)]
        for kind in self._types or ():
            if kind not in asked:
                raise ConfigError(f"data.question_types: {kind!r}. {suggest(kind, asked)}")
        return entries

    def _of_split(self, split: str, asked: set[str]) -> list[Captioned]:
        """Images of one split; the types of questions met are added to `asked`."""
        questions, answers = (self._active(split, kind) for kind in ("questions", "answers"))
        entries = []
        for number, image in self._active(split, "images").items():
            where = f"{self._path(split, 'images')}, image {number}"
            captions, scene = [], ""
            for question in _linked(image, "questions_ids", questions, where):
                kind = text(question, "type", where)
                asked.add(kind)
                found = _linked(question, "answers_ids", answers, where)
                if not found:
                    continue
                answer = text(found[0], "answer", where)
                scene = answer if kind == _SCENE else scene
                if self._types is None or kind in self._types:
                    captions.append(f"{text(question, 'question', where)} {answer}")
            entries.append(Captioned(f"{number}.tif", tuple(captions), split, scene))
        return entries

    def _path(self, split: str, kind: str) -> Path:
        return find(self._root, (f"LR_split_{split}_{kind}.json",), None, "root")

    def _active(self, split: str, kind: str) -> dict[int, Record]:
        path = self._path(split, kind)
        active: dict[int, Record] = {}
        for position, record in enumerate(read_records(path, kind)):
            where = f"{path}: {kind}[{position}]"
            if field(record, "active", bool, where):
                number = field(record, "id", int, where)
                if number in active:
                    raise DataError(f"{where}: the id {number} stands more than once.")
                active[number] = record
        return active


def _linked(record: Record, key: str, others: Mapping[int, Record], where: str) -> list[Record]:
    """The active entries that an entry names by their ids.

    Raises:
        DataError: An id is no number.
    """
    numbers = field(record, key, list, where)
    if not all(isinstance(number, int) for number in numbers):
        raise DataError(f"{where}: {key!r} holds what is no id.")
    return [others[number] for number in numbers if number in others]
