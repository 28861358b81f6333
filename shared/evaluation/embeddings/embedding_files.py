"""Embedding files: what `EmbeddingSet` writes, and what people bring of their own.

Columns, the same in `.npz` (arrays) and `.parquet`; a trailing `s` is accepted (`embeddings`):

| column | content |
| --- | --- |
| `embedding` or `embedding.<modality>` | (n, d) numbers; in Parquet a list a row, null = absent |
| `label` | (n,) names or integers; -1, an empty name or null = unknown |
| `tag.<name>` | (n,) 1 = has it, 0 = has it not, NaN or null = unknown; any number of columns |
| `target.<name>` | (n,) numbers to predict, NaN or null = unknown; any number of columns |
| `subgroup.<name>` | (n,) texts by which scores are told apart, empty or null = unknown |
| `annotation.<name>` | (n,) texts that one protocol reads, empty or null = none |
| `id` | (n,) unique names; default: the row number |
| `split` | (n,) `train`, `val`, `test`; default: stratified by hash of the group |
| `group` | (n,) unit of resampling, never divided by a split; default: the id |
| `content` | (n,) hash of each sample, equal for equal ones; default: none, nothing is compared |
| `present.<modality>` | (n,) booleans, `.npz` only; default: all |
| `class` | class names in order, `.npz` only; default: the sorted labels |
| `prompt` | (classes, d) or (classes, templates, d) embeddings of class texts, `.npz` only |

One column of labels, tags or targets is needed. The JSON text in `zoo` (Parquet: in the metadata of
the schema) holds names, fingerprints and what was skipped and, in Parquet, `class` and `prompt` of
what `EmbeddingSet` wrote. The output of a model's own classifier is not kept.

Nothing is ever unpickled: an array of Python objects is an error.
"""

import base64
import hashlib
import json
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.data.skipping import Skipped
from shared.data.splits import assign_splits
from shared.errors import DataError, EvaluationError
from shared.evaluation.embeddings.embedding_columns import (
    TEXTS,
    Columns,
    kind_of,
    labels_of,
    names_of,
    note_unused,
    number_of_samples,
    numbers_of,
    presence_of,
    prompts_of,
    singular,
    texts_of,
    vectors_of,
)
from shared.evaluation.embeddings.embedding_set import UNKNOWN, EmbeddingSet
from shared.files import atomic_path
from shared.untrusted import check_growth, check_zip

if TYPE_CHECKING:
    import pyarrow as pa

SUFFIXES = (".npz", ".parquet")
_META = "zoo"
# What numpy, zipfile and pyarrow raise on bytes that are not what they should be.
_DAMAGE = (
    OSError,
    EOFError,
    ValueError,
    NotImplementedError,
    RuntimeError,
    MemoryError,
    zipfile.BadZipFile,
    zlib.error,
)
_LARGEST_PROMPTS = 16 * 2**20
"""Bytes of prompts in the metadata of a Parquet file, whose readers take little more."""


def save_embeddings(embeddings: EmbeddingSet, path: Path) -> None:
    """Write `.npz` or `.parquet`, by the suffix; atomically.

    Raises:
        EvaluationError: Another suffix.
    """
    _check_suffix(path)
    with atomic_path(path) as temporary:
        if path.suffix == ".npz":
            _write_npz(embeddings, temporary)
        else:
            _write_parquet(embeddings, temporary)


def load_embeddings(path: Path) -> EmbeddingSet:
    """Read embeddings with their labels (columns: see the head of this module).

    Raises:
        EvaluationError: The file is missing, damaged, or lacks a column.
    """
    _check_suffix(path)
    if not path.is_file():
        raise EvaluationError(f"{path}: there is no such file.")
    try:
        columns, meta = _read_npz(path) if path.suffix == ".npz" else _read_parquet(path)
    except DataError as error:
        raise EvaluationError(str(error)) from error
    except _DAMAGE as error:
        if "allow_pickle" in str(error):
            raise EvaluationError(
                f"{path}: an array of Python objects, or no .npz file at all; these are never "
                "unpickled. Save numbers and strings (for names: numpy.asarray(names, dtype=str))."
            ) from error
        raise EvaluationError(f"{path}: damaged or truncated ({error}).") from error
    columns = singular(columns, path)
    note_unused(columns, path)
    n = number_of_samples(columns, path)
    vectors = vectors_of(columns, path)
    ids = names_of(columns, "id", path)
    ids = np.arange(n).astype(np.str_) if ids is None else ids
    groups = names_of(columns, "group", path)
    groups = ids if groups is None else groups
    labels, classes = labels_of(columns, n, path)
    splits = names_of(columns, "split", path)
    splits = assign_splits(groups, labels) if splits is None else splits
    everywhere = np.ones(n, dtype=np.bool_)
    present = presence_of(columns, vectors, path)
    return EmbeddingSet(
        ids=ids,
        vectors=vectors,
        present={m: present.get(m, everywhere) for m in vectors},
        labels=labels,
        classes=classes,
        splits=splits,
        groups=groups,
        dataset=str(meta.get("dataset", path.stem)),
        model=str(meta.get("model", path.name)),
        synthetic=bool(meta.get("synthetic", False)),
        fingerprint=str(meta.get("fingerprint") or _hash(path)),
        skipped=_skipped(meta.get("skipped", []), path),
        tags=numbers_of(columns, "tag", path),
        targets=numbers_of(columns, "target", path),
        subgroups=texts_of(columns, "subgroup", path),
        annotations=texts_of(columns, "annotation", path),
        content=names_of(columns, "content", path),
        prompts=prompts_of(columns, path),
        revision=str(meta.get("revision", "")),
    )


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise EvaluationError(
            f"{path}: embeddings are kept in {' or '.join(SUFFIXES)}, not {path.suffix!r}."
        )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _skipped(entries: Any, path: Path) -> tuple[Skipped, ...]:
    try:
        return tuple(Skipped(**entry) for entry in entries)
    except TypeError as error:
        raise EvaluationError(f"{path}: the entry {_META!r} is damaged ({error}).") from error


def _meta(embeddings: EmbeddingSet) -> dict[str, Any]:
    return {
        "dataset": embeddings.dataset,
        "model": embeddings.model,
        "synthetic": embeddings.synthetic,
        "fingerprint": embeddings.fingerprint,
        "revision": embeddings.revision,
        "skipped": [asdict(entry) for entry in embeddings.skipped],
    }


def _named_columns(embeddings: EmbeddingSet) -> Columns:
    """What both formats hold of the samples in the same way."""
    columns: Columns = {
        "id": embeddings.ids.astype(np.str_),
        "split": embeddings.splits.astype(np.str_),
        "group": embeddings.groups.astype(np.str_),
        **{f"subgroup.{name}": c.astype(np.str_) for name, c in embeddings.subgroups.items()},
        **{f"annotation.{name}": c.astype(np.str_) for name, c in embeddings.annotations.items()},
        **{f"tag.{name}": values for name, values in embeddings.tags.items()},
        **{f"target.{name}": values for name, values in embeddings.targets.items()},
    }
    if embeddings.content is not None:
        columns["content"] = embeddings.content.astype(np.str_)
    return columns


def _write_npz(embeddings: EmbeddingSet, path: Path) -> None:
    columns: dict[str, Any] = {
        **_named_columns(embeddings),
        "label": embeddings.labels,
        "class": np.asarray(embeddings.classes, dtype=np.str_),
        _META: np.asarray(json.dumps(_meta(embeddings))),
    }
    for modality in embeddings.modalities:
        columns[f"embedding.{modality}"] = embeddings.vectors[modality]
        columns[f"present.{modality}"] = embeddings.present[modality]
    if embeddings.prompts is not None:
        columns["prompt"] = embeddings.prompts
    with path.open("wb") as file:
        np.savez(file, **columns)


def _read_npz(path: Path) -> tuple[Columns, Mapping[str, object]]:
    if zipfile.is_zipfile(path):
        check_zip(path)
    archive = np.load(path, allow_pickle=False)
    if not isinstance(archive, np.lib.npyio.NpzFile):
        raise EvaluationError(
            f"{path}: one bare array; expected an .npz archive with 'embeddings' and 'labels' "
            "(numpy.savez)."
        )
    with archive:
        # numpy reads no further than a header says, and then nobody compares the check sum
        if archive.zip is not None and (damaged := archive.zip.testzip()):
            raise EvaluationError(f"{path}: damaged: the check sum of {damaged} does not fit.")
        columns = {name: archive[name] for name in archive.files}
    meta = columns.pop(_META, None)
    return columns, {} if meta is None else _parse_meta(str(meta), path)


def _parse_meta(text: str, path: Path) -> Mapping[str, object]:
    try:
        meta = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{path}: the entry {_META!r} is not JSON ({error}).") from error
    if not isinstance(meta, dict):
        raise EvaluationError(f"{path}: the entry {_META!r} is not a JSON object.")
    return meta


def _write_parquet(embeddings: EmbeddingSet, path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = np.asarray([*embeddings.classes, ""], dtype=np.str_)
    labels = [name or None for name in names[embeddings.labels].tolist()]
    columns = {
        name: pa.array(c.tolist() if c.dtype.kind == "U" else c, from_pandas=True)
        for name, c in _named_columns(embeddings).items()
    }
    columns["label"] = pa.array(labels, type=pa.string())
    for modality in embeddings.modalities:
        columns[f"embedding.{modality}"] = _list_array(
            embeddings.vectors[modality], embeddings.present[modality]
        )
    meta = _meta(embeddings) | {"classes": embeddings.classes} | _prompts_meta(embeddings, path)
    table = pa.table(columns).replace_schema_metadata({_META: json.dumps(meta)})
    pq.write_table(table, path, write_page_checksum=True)


def _prompts_meta(embeddings: EmbeddingSet, path: Path) -> dict[str, Any]:
    """Shape and base64 of the float32 values."""
    prompts = embeddings.prompts
    if prompts is None:
        return {}
    if prompts.size * 4 > _LARGEST_PROMPTS:
        raise EvaluationError(
            f"{path}: {prompts.shape[0]} × {prompts.shape[1]} prompts are more than a Parquet file "
            "can hold beside its columns. Save as .npz."
        )
    values = base64.b64encode(prompts.astype("<f4").tobytes()).decode()
    return {"prompts": {"shape": prompts.shape, "values": values}}


def _read_prompts(entry: Any, path: Path) -> NDArray[np.float32]:
    try:
        values = np.frombuffer(base64.b64decode(entry["values"]), dtype="<f4")
        return values.reshape(entry["shape"]).astype(np.float32)
    except (KeyError, TypeError, ValueError) as error:
        raise EvaluationError(f"{path}: the entry {_META!r} is damaged ({error}).") from error


def _list_array(vectors: NDArray[np.float32], present: NDArray[np.bool_]) -> "pa.Array":
    """One list a row, null where absent."""
    import pyarrow as pa

    n, width = vectors.shape
    offsets = pa.array(np.arange(n + 1, dtype=np.int64) * width)
    values = pa.array(np.ascontiguousarray(vectors).ravel())
    return pa.LargeListArray.from_arrays(offsets, values, mask=pa.array(~present))


def _read_parquet(path: Path) -> tuple[Columns, Mapping[str, object]]:
    import pyarrow.parquet as pq

    metadata = pq.read_metadata(path)
    # 8 bytes a value: a run of one value may stand for any number of rows
    check_growth(path, 8 * metadata.num_rows * metadata.num_columns)
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    check_growth(path, sum(group.total_byte_size for group in groups))
    table = pq.read_table(path, page_checksum_verification=True)
    columns: Columns = {}
    for name in table.column_names:
        column = table[name].combine_chunks()
        kind, modality = kind_of(name)
        if kind == "embedding":
            columns[name], columns[f"present.{modality or 'embedding'}"] = _rows(column, name, path)
        else:
            columns[name] = _flat(column, name, path)
    text = (table.schema.metadata or {}).get(_META.encode())
    meta = {} if text is None else dict(_parse_meta(text.decode(), path))
    if "classes" in meta:
        columns["class"] = np.asarray(meta["classes"], dtype=np.str_)
    if "prompts" in meta:
        columns["prompt"] = _read_prompts(meta["prompts"], path)
    return columns, meta


def _rows(column: "pa.Array", name: str, path: Path) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """(n, d) numbers, NaN where the list is null, and which rows are not null."""
    import pyarrow as pa
    import pyarrow.compute as pc

    types = pa.types
    is_list = (
        types.is_list(column.type)
        or types.is_large_list(column.type)
        or types.is_fixed_size_list(column.type)
    )
    if not is_list:
        raise EvaluationError(
            f"{path}: column {name!r} is of type {column.type}; expected a list of numbers a row."
        )
    present = np.asarray(column.is_valid())
    lengths = np.asarray(pc.list_value_length(column.drop_null()))
    if lengths.size == 0:
        raise EvaluationError(f"{path}: column {name!r} has no row that is not null.")
    if (wrong := np.flatnonzero(lengths != lengths[0])).size:
        row = np.flatnonzero(present)[wrong[0]]
        raise EvaluationError(
            f"{path}: column {name!r}, row {row}: {lengths[wrong[0]]} values, but the first row "
            f"has {lengths[0]}."
        )
    values = column.drop_null().flatten().to_numpy(zero_copy_only=False)
    rows = np.full((len(column), int(lengths[0])), np.nan, dtype=np.float32)
    if values.dtype.kind not in "fiu":
        raise EvaluationError(f"{path}: column {name!r} holds {column.type}, not numbers.")
    rows[present] = values.reshape(-1, int(lengths[0]))
    return rows, present


def _flat(column: "pa.Array", name: str, path: Path) -> NDArray[Any]:
    """A plain column; nulls are unknown labels, tags, targets or subgroups, and an error anywhere
    else."""
    import pyarrow as pa

    kind, _ = kind_of(name)
    if kind in ("tag", "target") and (
        pa.types.is_integer(column.type) or pa.types.is_boolean(column.type)
    ):
        column = column.cast(pa.int64()).cast(pa.float64())
    if column.null_count and kind not in ("label", "tag", "target", *TEXTS):
        row = np.flatnonzero(~np.asarray(column.is_valid()))[0]
        raise EvaluationError(f"{path}: column {name!r} is empty at row {row}.")
    if pa.types.is_integer(column.type):
        return np.asarray(column.cast(pa.int64()).fill_null(UNKNOWN))
    if pa.types.is_floating(column.type):
        unknown = float(UNKNOWN) if kind == "label" else np.nan
        return np.asarray(column.fill_null(unknown))
    return np.asarray(["" if v is None else str(v) for v in column.to_pylist()], dtype=np.str_)
