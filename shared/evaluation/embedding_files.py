"""Embedding files: what `EmbeddingSet` writes, and what people bring of their own.

Columns, the same in `.npz` (arrays) and `.parquet`; a trailing `s` is accepted (`embeddings`):

| column | content |
| --- | --- |
| `embedding` or `embedding.<modality>` | (n, d) numbers; in Parquet a list a row, null = absent |
| `label` | (n,) names or integers; -1, an empty name or null = unknown |
| `id` | (n,) unique names; default: the row number |
| `split` | (n,) `train`, `val`, `test`; default: stratified by hash of the group |
| `group` | (n,) unit of resampling, never divided by a split; default: the id |
| `present.<modality>` | (n,) booleans, `.npz` only; default: all |
| `class` | class names in order, `.npz` only; default: the sorted labels |

Nothing is ever unpickled: an array of Python objects is an error.
"""

import hashlib
import json
import zipfile
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.data.skipping import Skipped
from shared.data.splits import assign_splits
from shared.errors import DataError, EvaluationError
from shared.evaluation.embedding_set import UNKNOWN, EmbeddingSet
from shared.files import atomic_path
from shared.untrusted import check_growth, check_zip

if TYPE_CHECKING:
    import pyarrow as pa

Columns = dict[str, NDArray[Any]]
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
_FLAT = ("id", "split", "group", "class")
_PLURALS = {
    "embeddings": "embedding",
    "labels": "label",
    "ids": "id",
    "splits": "split",
    "groups": "group",
    "classes": "class",
}


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
    columns = _singular(columns, path)
    if "label" not in columns:
        raise EvaluationError(
            f"{path}: no column 'label' among {sorted(columns)}. Add one (names or integers; -1 "
            "where it is unknown)."
        )
    n = columns["label"].size
    for name, column in columns.items():
        if name != "class" and (column.ndim == 0 or len(column) != n):
            raise EvaluationError(
                f"{path}: column {name!r} has shape {column.shape}, but there are {n} labels; "
                "every column has one entry a sample."
            )
        if name in _FLAT and column.ndim != 1:
            raise EvaluationError(
                f"{path}: column {name!r} has shape {column.shape}; it takes one text each."
            )
    vectors = _vectors(columns, path)
    ids = columns["id"].astype(np.str_) if "id" in columns else np.arange(n).astype(np.str_)
    groups = columns["group"].astype(np.str_) if "group" in columns else ids
    labels, classes = _labels(columns, path)
    splits = (
        columns["split"].astype(np.str_) if "split" in columns else assign_splits(groups, labels)
    )
    everywhere = np.ones(n, dtype=np.bool_)
    present = _presence(columns, vectors, path)
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
    )


def _check_suffix(path: Path) -> None:
    if path.suffix not in SUFFIXES:
        raise EvaluationError(
            f"{path}: embeddings are kept in {' or '.join(SUFFIXES)}, not {path.suffix!r}."
        )


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:16]


def _vectors(columns: Columns, path: Path) -> dict[str, NDArray[np.float32]]:
    """By modality; a column that names none is the modality `embedding`."""
    vectors = {}
    for name, column in columns.items():
        head, _, modality = name.partition(".")
        if _PLURALS.get(head, head) != "embedding":
            continue
        if not (np.issubdtype(column.dtype, np.floating) or column.dtype.kind in "iu"):
            raise EvaluationError(f"{path}: column {name!r} holds {column.dtype}, not numbers.")
        vectors[modality or "embedding"] = column.astype(np.float32)
    if not vectors:
        raise EvaluationError(
            f"{path}: no column 'embedding' or 'embedding.<modality>' among {sorted(columns)}."
        )
    return vectors


def _singular(columns: Columns, path: Path) -> Columns:
    """The columns under the names in the head of this module."""
    named: Columns = {}
    for name, column in columns.items():
        head, dot, modality = name.partition(".")
        known = _PLURALS.get(head, head) + dot + modality
        if known in named:
            raise EvaluationError(f"{path}: has two columns {known!r}. Remove one.")
        named[known] = column
    return named


def _presence(
    columns: Columns, vectors: Collection[str], path: Path
) -> dict[str, NDArray[np.bool_]]:
    """By modality, where a column says it."""
    present = {}
    for name, column in columns.items():
        head, _, modality = name.partition(".")
        if head != "present":
            continue
        if modality not in vectors:
            raise EvaluationError(f"{path}: column {name!r} is of a modality without embeddings.")
        # of texts every one that is not empty would count as true
        if column.ndim != 1 or not np.isin(column, (0, 1)).all():
            raise EvaluationError(f"{path}: column {name!r} holds something but true and false.")
        present[modality] = column.astype(np.bool_)
    return present


def _labels(columns: Columns, path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """Index into the classes, and the classes: those of the file, else the sorted labels."""
    labels = columns["label"]
    if np.issubdtype(labels.dtype, np.floating) and np.array_equal(labels, np.rint(labels)):
        labels = labels.astype(np.int64)
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise EvaluationError(
            f"{path}: column 'label' holds {labels.dtype} of shape {labels.shape}; expected one "
            "name or integer a sample."
        )
    if twice := [
        n for n, k in Counter(columns.get("class", np.array([])).tolist()).items() if k > 1
    ]:
        raise EvaluationError(f"{path}: the class {twice[0]!r} stands more than once. Rename one.")
    if "class" in columns and labels.dtype.kind in "iu":
        return labels.astype(np.int64), tuple(columns["class"].astype(np.str_).tolist())
    unknown = labels == "" if labels.dtype.kind == "U" else labels < 0
    if "class" in columns:
        names = columns["class"].astype(np.str_)
        strange = np.setdiff1d(labels[~unknown], names)
        if strange.size:
            raise EvaluationError(
                f"{path}: the label {str(strange[0])!r} is not among the classes {names.tolist()}."
            )
    else:
        names = np.unique(labels[~unknown])
    index = {name: i for i, name in enumerate(names.tolist())}
    indices = [index.get(label, UNKNOWN) for label in labels.tolist()]
    return np.asarray(indices, dtype=np.int64), tuple(str(name) for name in names.tolist())


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
        "skipped": [asdict(entry) for entry in embeddings.skipped],
    }


def _write_npz(embeddings: EmbeddingSet, path: Path) -> None:
    columns: dict[str, Any] = {
        "id": embeddings.ids.astype(np.str_),
        "label": embeddings.labels,
        "class": np.asarray(embeddings.classes, dtype=np.str_),
        "split": embeddings.splits.astype(np.str_),
        "group": embeddings.groups.astype(np.str_),
        _META: np.asarray(json.dumps(_meta(embeddings))),
    }
    for modality in embeddings.modalities:
        columns[f"embedding.{modality}"] = embeddings.vectors[modality]
        columns[f"present.{modality}"] = embeddings.present[modality]
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
    columns = {
        "id": pa.array(embeddings.ids.tolist()),
        "label": pa.array(
            [name or None for name in names[embeddings.labels].tolist()], type=pa.string()
        ),
        "split": pa.array(embeddings.splits.tolist()),
        "group": pa.array(embeddings.groups.tolist()),
    }
    for modality in embeddings.modalities:
        columns[f"embedding.{modality}"] = _list_array(
            embeddings.vectors[modality], embeddings.present[modality]
        )
    meta = json.dumps(_meta(embeddings) | {"classes": embeddings.classes})
    table = pa.table(columns).replace_schema_metadata({_META: meta})
    pq.write_table(table, path, write_page_checksum=True)


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
        head, _, modality = name.partition(".")
        if _PLURALS.get(head, head) == "embedding":
            columns[name], columns[f"present.{modality or 'embedding'}"] = _rows(column, name, path)
        else:
            columns[name] = _flat(column, name, path)
    text = (table.schema.metadata or {}).get(_META.encode())
    meta = {} if text is None else dict(_parse_meta(text.decode(), path))
    if "classes" in meta:
        columns["class"] = np.asarray(meta["classes"], dtype=np.str_)
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
    """A plain column; nulls are unknown labels and an error anywhere else."""
    import pyarrow as pa

    if column.null_count and _PLURALS.get(name, name) != "label":
        row = np.flatnonzero(~np.asarray(column.is_valid()))[0]
        raise EvaluationError(f"{path}: column {name!r} is empty at row {row}.")
    if pa.types.is_integer(column.type):
        return np.asarray(column.cast(pa.int64()).fill_null(UNKNOWN))
    if pa.types.is_floating(column.type):
        return np.asarray(column.fill_null(float(UNKNOWN)))
    return np.asarray(["" if v is None else str(v) for v in column.to_pylist()], dtype=np.str_)
