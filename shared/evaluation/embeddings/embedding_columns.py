"""What the columns of an embedding file mean (the table is in the head of `embedding_files`)."""

import logging
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError
from shared.evaluation.embeddings.embedding_set import UNKNOWN, check_unicode

_log = logging.getLogger(__name__)

Columns = dict[str, NDArray[Any]]

FLAT = ("id", "split", "group", "content")
"""One text a sample."""
TEXTS = ("subgroup", "annotation")
"""Any number of columns of texts, empty where unknown."""
OF_CLASSES = ("class", "prompt")
"""One entry a class."""
_PLURALS = {
    "embeddings": "embedding",
    "labels": "label",
    "ids": "id",
    "splits": "split",
    "groups": "group",
    "classes": "class",
    "prompts": "prompt",
    "contents": "content",
    "tags": "tag",
    "targets": "target",
    "subgroups": "subgroup",
    "annotations": "annotation",
}


def kind_of(name: str) -> tuple[str, str]:
    """What a column is, and of what: `embeddings.image` → `embedding`, `image`."""
    head, _, rest = name.partition(".")
    return _PLURALS.get(head, head), rest


def singular(columns: Columns, path: Path) -> Columns:
    """The columns under the names in the table."""
    named: Columns = {}
    for name, column in columns.items():
        kind, rest = kind_of(name)
        known = f"{kind}.{rest}" if rest else kind
        if known in named:
            raise EvaluationError(f"{path}: has two columns {known!r}. Remove one.")
        named[known] = column
    return named


def note_unused(columns: Columns, path: Path) -> None:
    """Log what has no name in the table: a misspelt `group` would be missed by nobody."""
    if unused := [
        name for name in columns if kind_of(name)[0] not in (*_PLURALS.values(), "present")
    ]:
        _log.warning(
            "%s: not used, since no column goes by such a name: %s", path, ", ".join(unused)
        )


def number_of_samples(columns: Columns, path: Path) -> int:
    """Entries of the labels or, without, of the first tag, target or, of several modalities, which
    retrieval needs no more than, embedding; every other column has as many, and is one text each
    where it should be."""
    first = next((c for c in columns if kind_of(c)[0] in ("label", "tag", "target")), None)
    vectors = [c for c in columns if kind_of(c)[0] == "embedding"]
    if first is None and len(vectors) > 1:
        first = vectors[0]
    if first is None:
        raise EvaluationError(
            f"{path}: no column 'label', 'tag.<name>' or 'target.<name>' among {sorted(columns)}. "
            "Add one (labels are names or integers; -1 where it is unknown)."
        )
    n = columns[first].size if first not in vectors else len(columns[first])
    what = "labels" if first == "label" else f"entries in {first!r}"
    for name, column in columns.items():
        if name not in OF_CLASSES and (column.ndim == 0 or len(column) != n):
            raise EvaluationError(
                f"{path}: column {name!r} has shape {column.shape}, but there are {n} {what}; "
                "every column has one entry a sample."
            )
        flat = name in (*FLAT, "class") or kind_of(name)[0] in ("tag", "target", *TEXTS)
        if flat and column.ndim != 1:
            raise EvaluationError(
                f"{path}: column {name!r} has shape {column.shape}; it takes one value each."
            )
    return int(n)


def vectors_of(columns: Columns, path: Path) -> dict[str, NDArray[np.float32]]:
    """By modality; a column that names none is the modality `embedding`."""
    vectors = {}
    for name, column in columns.items():
        kind, modality = kind_of(name)
        if kind == "embedding":
            _check_numbers(column, name, path)
            vectors[modality or "embedding"] = column.astype(np.float32)
    if not vectors:
        raise EvaluationError(
            f"{path}: no column 'embedding' or 'embedding.<modality>' among {sorted(columns)}."
        )
    return vectors


def presence_of(
    columns: Columns, modalities: Collection[str], path: Path
) -> dict[str, NDArray[np.bool_]]:
    """By modality, where a column says it."""
    present = {}
    for name, column in columns.items():
        kind, modality = kind_of(name)
        if kind != "present":
            continue
        if modality not in modalities:
            raise EvaluationError(f"{path}: column {name!r} is of a modality without embeddings.")
        # of texts every one that is not empty would count as true
        if column.ndim != 1 or not np.isin(column, (0, 1)).all():
            raise EvaluationError(f"{path}: column {name!r} holds something but true and false.")
        present[modality] = column.astype(np.bool_)
    return present


def labels_of(columns: Columns, n: int, path: Path) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    """(n,) index into the classes, and the classes: those of the file, else the sorted labels."""
    labels = columns.get("label", np.full(n, UNKNOWN))
    if np.issubdtype(labels.dtype, np.floating) and np.array_equal(labels, np.rint(labels)):
        labels = _whole(labels, path)
    if labels.ndim != 1 or labels.dtype.kind not in "iuU":
        raise EvaluationError(
            f"{path}: column 'label' holds {labels.dtype} of shape {labels.shape}; expected one "
            "name or integer a sample. Numbers to predict are a column 'target.<name>'."
        )
    if twice := [
        n for n, k in Counter(columns.get("class", np.array([])).tolist()).items() if k > 1
    ]:
        raise EvaluationError(f"{path}: the class {twice[0]!r} stands more than once. Rename one.")
    if labels.dtype.kind in "iu":
        labels = _whole(labels, path)
        if "class" in columns:
            return labels, tuple(columns["class"].astype(np.str_).tolist())
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


def _whole(labels: NDArray[Any], path: Path) -> NDArray[np.int64]:
    """Labels as int64. What does not fit would come out as a negative number, and so as unknown."""
    limit = np.iinfo(np.int64).max
    if (wrong := np.flatnonzero((labels < UNKNOWN) | (labels >= limit))).size:
        raise EvaluationError(
            f"{path}: the label {labels[wrong[0]]} of row {wrong[0]} cannot be a class: write "
            f"numbers from 0 to {limit - 1}, names, or {UNKNOWN} where it is unknown."
        )
    return labels.astype(np.int64)


def names_of(columns: Columns, kind: str, path: Path) -> NDArray[np.str_] | None:
    """(n,) ids, groups, splits or hashes as text; None without the column.

    Raises:
        EvaluationError: An id or group is empty or NaN, which would join all such rows.
    """
    if (column := columns.get(kind)) is None:
        return None
    unknown = column == "" if column.dtype.kind == "U" else column != column
    if kind in ("id", "group") and np.any(unknown):
        raise EvaluationError(
            f"{path}: column {kind!r} is empty at row {int(np.argmax(unknown))}. Where it is "
            "unknown, give the row one of its own, or leave the column out."
        )
    check_unicode(names := column.astype(np.str_), f"{path}: column {kind!r}")
    return names


def numbers_of(columns: Columns, kind: str, path: Path) -> dict[str, NDArray[np.float64]]:
    """Tags or targets by name: (n,) numbers, NaN where unknown."""
    return _named(columns, kind, lambda column, name: _numbers(column, name, path), path)


def texts_of(columns: Columns, kind: str, path: Path) -> dict[str, NDArray[np.str_]]:
    """Subgroups or annotations by name: (n,) texts, empty where unknown."""
    return _named(columns, kind, lambda column, name: column.astype(np.str_), path)


def prompts_of(columns: Columns, path: Path) -> NDArray[np.float32] | None:
    """(num_classes, n_templates, d), or None; (num_classes, d) is one template."""
    if (prompts := columns.get("prompt")) is None:
        return None
    _check_numbers(prompts, "prompt", path)
    if "class" not in columns:
        raise EvaluationError(f"{path}: the column 'prompt' needs a column 'class', in its order.")
    return (prompts[:, None] if prompts.ndim == 2 else prompts).astype(np.float32)


def _named(
    columns: Columns, kind: str, read: Callable[[NDArray[Any], str], NDArray[Any]], path: Path
) -> dict[str, NDArray[Any]]:
    found = {}
    for name, column in columns.items():
        what, rest = kind_of(name)
        if what == kind:
            if not rest:
                raise EvaluationError(f"{path}: column {name!r} has no name: write {kind}.<name>.")
            found[rest] = read(column, name)
    return found


def _numbers(column: NDArray[Any], name: str, path: Path) -> NDArray[np.float64]:
    if column.dtype.kind != "b":
        _check_numbers(column, name, path)
    return column.astype(np.float64)


def _check_numbers(column: NDArray[Any], name: str, path: Path) -> None:
    if not (np.issubdtype(column.dtype, np.floating) or column.dtype.kind in "iu"):
        raise EvaluationError(f"{path}: column {name!r} holds {column.dtype}, not numbers.")
