"""Captions of RSICD as lines of JSON, without the images."""

import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Any

from domains.remote_sensing.datasets.captioned import (
    LARGEST_JSON,
    Captioned,
    check_names,
    field,
    find,
    labels_of,
    scene_of,
    text,
    without_blanks,
)
from shared.data.captions import CAPTIONS
from shared.data.dataset import Dataset, Raw, SampleTable, hash_files
from shared.errors import DataError
from shared.untrusted import read_text

_USUAL = "textaug_valid_rsicd.jsonl"


class RsicdCaptions(Dataset):
    """Texts of RSICD as github.com/arampacha/CLIP-rsicd has them: a line an image,

        {"filename": "rsicd_images/airport_61.jpg", "captions": ["…", …]}

    some of the captions paraphrased by machine translation and back; the file does not say which.

    Gives `text`: a tuple of the captions. The class is the word in the file name; unknown where
    there is only a number. The split is by a hash of the file name. Blank captions are left out.

    Args:
        root: The file, or the folder that holds `textaug_valid_rsicd.jsonl`.

    Raises:
        DataError: The file is missing, or a line is not such an object.
    """

    name = "rsicd_captions"
    evaluator = "captions"

    def __init__(self, root: str) -> None:
        path = Path(root).expanduser()
        self.path = path if path.is_file() else find(path, (_USUAL,), None, "root")
        self.source = str(self.path)
        self.schemas = {"text": CAPTIONS}

    @cached_property
    def entries(self) -> list[Captioned]:
        lines = read_text(self.path, LARGEST_JSON).splitlines()
        entries = [
            self._entry(line, f"{self.path}, line {number}")
            for number, line in enumerate(lines, start=1)
            if line.strip()
        ]
        check_names(entries, self.path)
        return without_blanks(entries, self.path)

    def _entry(self, line: str, where: str) -> Captioned:
        try:
            record: Any = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataError(f"{where}: is no JSON ({error}). Get the file anew.") from error
        captions = field(record, "captions", list, where)
        file = PurePosixPath(text(record, "filename", where))
        return Captioned(
            file=file.name,
            captions=tuple(
                text({"caption": c}, "caption", f"{where}, caption {k}")
                for k, c in enumerate(captions)
            ),
            label=scene_of(file.name),
        )

    @property
    def caption_counts(self) -> Sequence[int]:
        return [max(1, len(entry.captions)) for entry in self.entries]

    def make_table(self) -> SampleTable:
        labels = labels_of([entry.label for entry in self.entries])
        return SampleTable(ids=[entry.file for entry in self.entries], **labels)

    def read(self, index: int) -> Raw:
        return {"text": self.entries[index].captions}

    def file(self, index: int, modality: str) -> str:
        return self.source

    def content_fingerprint(self) -> str:
        return hash_files([self.path])
