"""Embeddings with their ids, labels, groups and splits: what every protocol reads."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.data.skipping import Skipped
from shared.data.splits import SPLITS
from shared.errors import EvaluationError, UnknownNameError, suggest

UNKNOWN = -1
SPLIT = "test"
"""The one that is judged."""


@dataclass(frozen=True)
class EmbeddingSet:
    """Embeddings of one dataset by one model.

    Attributes:
        ids: (n,) unique names of the samples.
        vectors: By modality, (n, d_modality) float32. Rows of samples without the modality hold
            NaN.
        present: By modality, (n,) whether the sample has it.
        labels: (n,) index into `classes`, -1 where unknown.
        classes: Class names.
        splits: (n,) `train`, `val` or `test`.
        groups: (n,) unit of resampling (star, patient, scene).
        dataset: Name of the data.
        model: Name of what embedded them.
        synthetic: Whether the data are simulated.
        fingerprint: Data fingerprint.
        skipped: What was left out of the data, and why.

    Raises:
        EvaluationError: The parts do not fit each other, or a present row is not finite.
    """

    ids: NDArray[np.str_]
    vectors: Mapping[str, NDArray[np.float32]]
    present: Mapping[str, NDArray[np.bool_]]
    labels: NDArray[np.int64]
    classes: tuple[str, ...]
    splits: NDArray[np.str_]
    groups: NDArray[np.str_]
    dataset: str
    model: str
    synthetic: bool
    fingerprint: str
    skipped: tuple[Skipped, ...] = ()

    def __post_init__(self) -> None:
        self._check_lengths()
        self._check_ids()
        self._check_labels()
        for modality in self.vectors:
            self._check_vectors(modality)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.vectors)

    def rows(self, split: str, *modalities: str, labelled: bool = False) -> NDArray[np.int64]:
        """Indices of the rows of a split that have all the modalities (and a label)."""
        keep = self.splits == split
        for modality in modalities:
            keep = keep & self.present[modality]
        return np.flatnonzero(keep & (self.labels != UNKNOWN) if labelled else keep)

    def select(self, modalities: Sequence[str] | None) -> "EmbeddingSet":
        """Only these modalities; None: all.

        Raises:
            UnknownNameError: There is no such modality.
        """
        if modalities is None:
            return self
        for modality in modalities:
            if modality not in self.vectors:
                raise UnknownNameError(
                    f"{self.dataset} has no embeddings of {modality!r}. "
                    f"{suggest(modality, self.vectors)}"
                )
        return replace(
            self,
            vectors={m: self.vectors[m] for m in modalities},
            present={m: self.present[m] for m in modalities},
        )

    def save(self, path: str | Path) -> None:
        """Write `.npz` or `.parquet`, by the suffix; atomically.

        Raises:
            EvaluationError: Another suffix.
        """
        from shared.evaluation.embedding_files import save_embeddings

        save_embeddings(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> "EmbeddingSet":
        """Read what `save` wrote, or a file of one's own (see `shared.evaluation.embedding_files`).

        Raises:
            EvaluationError: The file is missing, damaged, or lacks what the protocols need.
        """
        from shared.evaluation.embedding_files import load_embeddings

        return load_embeddings(Path(path))

    def _check_lengths(self) -> None:
        if not self.vectors:
            raise EvaluationError(f"{self.dataset}: no modality has embeddings.")
        if set(self.vectors) != set(self.present):
            raise EvaluationError(
                f"{self.dataset}: vectors are of {sorted(self.vectors)}, presence masks of "
                f"{sorted(self.present)}; they must be of the same modalities."
            )
        columns = {"labels": self.labels, "splits": self.splits, "groups": self.groups}
        columns |= {f"vectors of {m!r}": v for m, v in self.vectors.items()}
        columns |= {f"presence of {m!r}": v for m, v in self.present.items()}
        for name, column in columns.items():
            if len(column) != len(self.ids):
                raise EvaluationError(
                    f"{self.dataset}: {name}: {len(column)} rows, but there are "
                    f"{len(self.ids)} ids; every column has one entry a sample."
                )

    def _check_ids(self) -> None:
        if len(self.ids) == 0:
            raise EvaluationError(f"{self.dataset}: the set of embeddings is empty.")
        names, counts = np.unique(self.ids, return_counts=True)
        if len(names) != len(self.ids):
            raise EvaluationError(
                f"{self.dataset}: the id {str(names[counts > 1][0])!r} stands more than once; "
                "ids are unique. Repeated measures of one object share a group, not an id."
            )

    def _check_labels(self) -> None:
        wrong = np.flatnonzero((self.labels < UNKNOWN) | (self.labels >= len(self.classes)))
        if wrong.size:
            row = wrong[0]
            raise EvaluationError(
                f"{self.dataset}: label {self.labels[row]} of {str(self.ids[row])!r} is not an "
                f"index into the {len(self.classes)} classes (-1 stands for unknown)."
            )
        wrong = np.flatnonzero(~np.isin(self.splits, SPLITS))
        if wrong.size:
            row = wrong[0]
            raise EvaluationError(
                f"{self.dataset}: split {str(self.splits[row])!r} of {str(self.ids[row])!r}; "
                f"write one of {', '.join(SPLITS)}."
            )

    def _check_vectors(self, modality: str) -> None:
        vectors, present = self.vectors[modality], self.present[modality]
        if vectors.ndim != 2 or vectors.shape[1] == 0:
            raise EvaluationError(
                f"{self.dataset}: embeddings of {modality!r} have shape {vectors.shape}; "
                "expected (samples, width)."
            )
        wrong = np.flatnonzero(present & ~np.isfinite(vectors).all(axis=1))
        if wrong.size:
            raise EvaluationError(
                f"{self.dataset}: the {modality!r} embedding of {str(self.ids[wrong[0]])!r} (row "
                f"{wrong[0]}) holds NaN or infinity, as do {wrong.size - 1} others. Drop these "
                "samples or mark the modality as absent there."
            )
