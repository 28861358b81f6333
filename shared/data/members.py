"""Members of a webdataset's samples: what their endings say they are, and how they are decoded."""

import io
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from shared.data.generic import TEXT
from shared.data.image_files import IMAGE, IMAGE_SUFFIXES, decode_image
from shared.errors import ConfigError, DataError
from shared.schema import DTYPES, Channel, Schema
from shared.settings import check_fields, check_value
from shared.untrusted import check_size

LARGEST = 256 * 2**20
"""Bytes of one member that are read, and of one array in it."""
Kind = Literal["image", "text", "json", "npy", "npz"]
# webdataset's own names of texts (autodecode.py), and those of open_clip and img2dataset
KINDS: Mapping[str, Kind] = {
    **{suffix[1:]: "image" for suffix in IMAGE_SUFFIXES},
    **dict.fromkeys(("txt", "text", "caption", "transcript", "cls", "cls2", "index"), "text"),
    "json": "json",
    "npy": "npy",
    "npz": "npz",
}
_PICKLES = ("pkl", "pickle", "pyd", "pth", "pt", "ten", "mp")


@dataclass(frozen=True)
class Source:
    """Where a modality, or the label, of a sample comes from.

    Attributes:
        endings: Of its member; the first that a sample has.
        kind: What the member is.
        field: Of a JSON object or an npz file; empty for other kinds.
    """

    endings: tuple[str, ...]
    kind: Kind
    field: str = ""

    def decode(self, content: bytes, where: str) -> Any:
        """The value in a member.

        Raises:
            DataError: It is damaged, or lacks the field.
        """
        if self.kind == "image":
            return decode_image(content, where)
        if self.kind == "npy":
            return _decode_npy(content, where)
        if self.kind == "npz":
            return _decode_npz(content, self.field, where)
        try:
            text = content.decode()
        except UnicodeDecodeError as error:
            ending = " or ".join(self.endings)
            raise DataError(f"{where}: its {ending} is not UTF-8 ({error}).") from error
        return text if self.kind == "text" else _decode_field(text, self.field, where)


def parse_source(given: str | Sequence[str], key: str, more: Mapping[str, Kind]) -> Source:
    """What a user writes for a modality: an ending, several of one kind, or, with a field behind
    it, `json.FIELD` or `npz.FIELD`.

    Args:
        given: The setting.
        key: Where it stands, for messages.
        more: Further endings and what they are.

    Raises:
        ConfigError: An ending that is not known, endings of several kinds, or no field.
    """
    kinds = {**KINDS, **more}
    sources = []
    for text in [given] if isinstance(given, str) else given:
        parts = text.lower().lstrip(".").split(".")
        inner = next((i for i, part in enumerate(parts) if part in ("json", "npz")), len(parts) - 1)
        kind, ending = kinds.get(parts[inner]), ".".join(parts[: inner + 1])
        field = text.lstrip(".")[len(ending) + 1 :]
        if kind is None:
            pickled = ": unpickling a file runs what it says" if parts[inner] in _PICKLES else ""
            raise ConfigError(
                f"{key}: members .{ending} are not read{pickled}. Those that are: "
                f"{', '.join(sorted(kinds))}."
            )
        if kind in ("json", "npz") and not field:
            raise ConfigError(f"{key}: which field of .{ending}? Write {ending}.FIELD.")
        sources.append(Source((ending,), kind, field))
    if not sources or len({(s.kind, s.field) for s in sources}) > 1:
        raise ConfigError(f"{key}={given!r} has to be endings of one kind.")
    return replace(sources[0], endings=tuple(s.endings[0] for s in sources))


def make_schema(modality: str, source: Source, arrays: Mapping[str, Mapping[str, Any]]) -> Schema:
    """The schema of a modality: of arrays, the one that the user declares.

    Raises:
        ConfigError: Arrays that are not declared, or not as a schema is.
    """
    if source.kind == "image":
        return replace(IMAGE, modality=modality)
    if source.kind in ("text", "json"):
        return replace(TEXT, modality=modality)
    key = f"data.arrays.{modality}"
    if modality not in arrays:
        raise ConfigError(
            f"{modality} comes from arrays: say what they hold by {key}="
            "{axes: [time, channel], channels: [{name: flux, unit: mJy}], dtype: float32}."
        )
    about = {"dtype": "float64", **arrays[modality]}
    if unknown := about.keys() - {"axes", "channels", "dtype"}:
        raise ConfigError(f"{key} has no setting {sorted(unknown)[0]!r}.")
    check_value(about.get("axes"), list[str], f"{key}: axes")
    check_value(about.setdefault("channels", []), list[dict[str, Any]], f"{key}: channels")
    if about["dtype"] not in DTYPES[:3]:
        raise ConfigError(f"{key}: dtype={about['dtype']!r} is none of {', '.join(DTYPES[:3])}.")
    for channel in about["channels"]:
        check_fields(Channel, channel, f"a channel of {key}")
    channels = tuple(
        Channel(
            channel["name"],
            channel.get("unit", ""),
            tuple(channel.get("valid_range", (None, None))),
            channel.get("allow_missing", False),
        )
        for channel in about["channels"]
    )
    return Schema(modality, tuple(about["axes"]), channels, about["dtype"])


def _decode_field(text: str, field: str, where: str) -> str:
    try:
        data = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: its json is damaged ({error}).") from error
    if not isinstance(data, dict) or not isinstance(data.get(field), str | int):
        raise DataError(f"{where}: its json has no text {field!r}.")
    return str(data[field])


def _decode_npy(content: bytes, where: str) -> NDArray[Any]:
    """An array without pickled objects, whose header states as much as there is."""
    file = io.BytesIO(content)
    try:
        read = (
            npy.read_array_header_1_0
            if npy.read_magic(file) == (1, 0)
            else npy.read_array_header_2_0
        )
        shape, _, dtype = read(file)
        stated = dtype.itemsize * int(np.prod(shape, dtype=object))
        if dtype.hasobject or stated != len(content) - file.tell():
            raise ValueError("its header states other numbers than it holds")
        file.seek(0)
        array: NDArray[Any] = np.load(file, allow_pickle=False)
    except (ValueError, EOFError, OSError, TypeError, MemoryError) as error:
        raise DataError(f"{where}: is no whole array ({error}).") from error
    return array


def _decode_npz(content: bytes, field: str, where: str) -> NDArray[Any]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            member = archive.getinfo(f"{field}.npy")
            check_size(member.file_size, f"{where}, {field}", LARGEST)
            unpacked = archive.read(member)
    except KeyError as error:
        raise DataError(f"{where}: its npz has no array {field!r}.") from error
    except DataError:
        raise
    except Exception as error:  # zipfile raises almost any kind on broken files
        raise DataError(f"{where}: its npz is damaged ({error}).") from error
    return _decode_npy(unpacked, f"{where}, {field}")
