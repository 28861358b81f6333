"""One way from the columns of a published table to a set of embeddings."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import hash_files
from shared.data.splits import assign_splits
from shared.evaluation.embeddings.embedding_set import UNKNOWN, EmbeddingSet
from shared.evaluation.embeddings.vectors import standardisation


def make_set(
    name: str,
    files: Sequence[Path],
    ids: Sequence[str],
    vectors: Mapping[str, NDArray[Any]],
    *,
    labels: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    splits: NDArray[np.str_] | None = None,
    present: Mapping[str, NDArray[np.bool_]] | None = None,
    tags: Mapping[str, NDArray[np.float64]] | None = None,
    targets: Mapping[str, NDArray[np.float64]] | None = None,
    subgroups: Mapping[str, Sequence[str]] | None = None,
    content: Sequence[str] | None = None,
    standardised: Sequence[str] = (),
) -> EmbeddingSet:
    """Simple features as a set of embeddings.

    Args:
        name: Of the data.
        files: What was read, for the fingerprint.
        ids: (n,) unique names.
        vectors: By modality, (n, d) features; NaN in rows without it.
        labels: (n,) class names, empty where unknown; None without classes.
        groups: (n,) unit of resampling; None: the sample.
        splits: (n,) as published; None: 70/15/15 by `assign_splits`.
        present: By modality, (n,); those not named are there in every row.
        tags: As in `EmbeddingSet`.
        targets: As in `EmbeddingSet`.
        subgroups: As in `EmbeddingSet`.
        content: (n,) what each sample holds, to be hashed; None where that is not known.
        standardised: Modalities whose columns are of different units: they are brought to unit
            variance over all rows, without labels.
    """
    classes = tuple(sorted({label for label in labels or () if label}))
    index = {label: number for number, label in enumerate(classes)}
    labels_ = np.array([index.get(label, UNKNOWN) for label in labels or [""] * len(ids)])
    vectors = {m: _standardised(v) if m in standardised else v for m, v in vectors.items()}
    groups_ = np.asarray(ids if groups is None else groups, np.str_)
    return EmbeddingSet(
        ids=np.asarray(ids, np.str_),
        vectors={m: np.asarray(v, np.float32) for m, v in vectors.items()},
        present={m: (present or {}).get(m, np.ones(len(ids), bool)) for m in vectors},
        labels=labels_.astype(np.int64),
        classes=classes,
        splits=assign_splits(groups_, labels_) if splits is None else np.asarray(splits, np.str_),
        groups=groups_,
        dataset=name,
        model="simple features",
        synthetic=False,
        fingerprint=hash_files(files)[:16],
        tags=tags or {},
        targets=targets or {},
        subgroups={k: np.asarray(v, np.str_) for k, v in (subgroups or {}).items()},
        content=None if content is None else np.array([*map(_hash, content)], np.str_),
    )


def train_and_val(groups: Sequence[str], seed: int = 0) -> NDArray[np.str_]:
    """(n,) `train` or `val` (15 of 85) for published training files without validation rows."""
    splits = assign_splits(groups, np.zeros(len(groups), np.int64), seed)
    return np.where(splits == "val", "val", "train")


def _standardised(vectors: NDArray[Any]) -> NDArray[np.float64]:
    """(n, d) columns of mean 0 and variance 1 over the rows without NaN."""
    mean, scale = standardisation(vectors[np.isfinite(vectors).all(axis=1)])
    return np.asarray((vectors - mean) / scale)


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
