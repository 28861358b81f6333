"""Embeddings with their ids, labels, groups and splits: what every protocol reads."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.data.skipping import Skipped
from shared.data.splits import SPLITS
from shared.errors import EvaluationError, UnknownNameError, suggest

if TYPE_CHECKING:
    from shared.evaluation.protocols.classifier import ClassifierOutput

UNKNOWN = -1
LABEL, TAGS = "label", "tags"
"""Targets of every set: one class a sample, several tags a sample. Others are named by the data."""
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
        tags: By name, (n,) 0, 1 or NaN where unknown: a sample may have several or none.
        targets: By name, (n,) numbers to predict, NaN where unknown.
        subgroups: By name (`hospital`, `telescope`), (n,) what each sample belongs to, empty where
            unknown; scores are told for each.
        annotations: By name, (n,) texts that one protocol reads, empty where a sample has none.
        content: (n,) hash of what each sample holds; None where that is not known.
        prompts: (num_classes, n_templates, d) text embeddings of the classes, in the space of the
            other modalities; classes after the last one that a sample has may lack. None without.
        classified: What the model's own classifier says of the samples; None without.
        revision: Hash of the model behind the vectors; empty where it cannot be known.
        copies: By modality in which rows repeat an input (an image, once a caption), (n,) the first
            row with it; see `shared.evaluation.embeddings.copies`. It is not written to files.

    Raises:
        EvaluationError: A part is of another type, the parts do not fit each other, or a present
            row is not finite.
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
    tags: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    targets: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    subgroups: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    annotations: Mapping[str, NDArray[np.str_]] = field(default_factory=dict)
    content: NDArray[np.str_] | None = None
    prompts: NDArray[np.float32] | None = None
    classified: "ClassifierOutput | None" = None
    revision: str = ""
    copies: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._check_types()
        self._check_lengths()
        self._check_names()
        self._check_ids()
        self._check_labels()
        self._check_truths()
        self._check_prompts()
        for modality in self.vectors:
            self._check_vectors(modality)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.vectors)

    def truth(self, target: str) -> NDArray[Any]:
        """What is to be predicted: (n,) class indices, (n, L) tags or (n,) numbers.

        Raises:
            UnknownNameError: There is no such target.
        """
        if target == LABEL:
            return self.labels
        if target == TAGS:
            return (
                np.stack([*self.tags.values()], axis=1) if self.tags else np.empty((len(self), 0))
            )
        if target not in self.targets:
            raise UnknownNameError(
                f"{self.dataset} has no target {target!r}. "
                f"{suggest(target, (LABEL, TAGS, *self.targets))}"
            )
        return self.targets[target]

    def known(self, target: str) -> NDArray[np.bool_]:
        """(n,) whether the target of a row is known; of tags, any of them."""
        truth = self.truth(target)
        if target == LABEL:
            known: NDArray[np.bool_] = truth != UNKNOWN
        else:
            known = np.isfinite(truth).any(axis=1) if target == TAGS else np.isfinite(truth)
        return known

    def rows(self, split: str, *modalities: str, target: str | None = None) -> NDArray[np.int64]:
        """Indices of the rows of a split that have all the modalities, and the target where one is
        named. Of one modality, rows that repeat an input with the same target count once."""
        keep = self.splits == split
        for modality in modalities:
            keep = keep & self.present[modality]
        rows = np.flatnonzero(keep if target is None else keep & self.known(target))
        read = modalities or self.modalities
        if len(read) > 1 or read[0] not in self.copies:
            return rows
        columns = [self.copies[read[0]][rows]]
        if target is not None:
            truth = np.nan_to_num(self.truth(target)[rows], nan=UNKNOWN)
            columns += [*np.atleast_2d(truth.T)]
        return rows[np.sort(np.unique(np.stack(columns), axis=1, return_index=True)[1])]

    @cached_property
    def split_fingerprint(self) -> str:
        """Hash of which id and group is in which split, in any order; 16 hex digits."""
        lines = sorted(map("\x1f".join, zip(self.ids, self.groups, self.splits, strict=True)))
        return hashlib.sha256("\x1e".join(lines).encode()).hexdigest()[:16]

    def array_hash(self, modalities: Sequence[str], target: str) -> bytes:
        """Hash of what a protocol reads for these modalities and this target, row by row and name
        by name. Labels always count: folds are spread over the classes."""
        columns: list[tuple[str, NDArray[Any]]] = [
            ("ids", self.ids),
            ("groups", self.groups),
            ("splits", self.splits),
            ("labels", self.labels),
            *((f"vectors {m}", self.vectors[m]) for m in modalities),
            *((f"present {m}", self.present[m]) for m in modalities),
            *((f"copies {m}", self.copies[m]) for m in modalities if m in self.copies),
            *((f"subgroups {name}", column) for name, column in self.subgroups.items()),
            *((f"annotations {name}", column) for name, column in self.annotations.items()),
        ]
        if target:
            named = list(self.tags) if target == TAGS else target
            columns.append((f"target {named}", self.truth(target)))
        if self.prompts is not None:
            columns.append(("prompts", self.prompts))
        if self.classified is not None:
            said, names = self.classified.probabilities, self.classified.classes
            columns += [(f"classifier {names} {subset}", table) for subset, table in said.items()]
        digest = hashlib.sha256()
        for name, array in columns:
            digest.update(f"{name} {array.dtype}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.digest()

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
        from shared.evaluation.embeddings.embedding_files import save_embeddings

        save_embeddings(self, Path(path))

    @staticmethod
    def load(path: str | Path) -> "EmbeddingSet":
        """Read what `save` wrote, or a file of one's own (columns: see
        `shared.evaluation.embeddings.embedding_columns`).

        Raises:
            EvaluationError: The file is missing, damaged, or lacks what the protocols need.
        """
        from shared.evaluation.embeddings.embedding_files import load_embeddings

        return load_embeddings(Path(path))

    def _check_types(self) -> None:
        """Arrays of another type would be counted, indexed or compared as something else: presence
        of 0 and 1 as two rows, complex numbers by their real part."""
        for kinds, words, arrays in (
            ("U", "text (dtype str)", {"ids": self.ids, "splits": self.splits}),
            ("U", "text (dtype str)", {"groups": self.groups, "content": self.content}),
            ("U", "text (dtype str)", _named("subgroups", self.subgroups)),
            ("U", "text (dtype str)", _named("annotations", self.annotations)),
            ("iu", "whole numbers", {"labels": self.labels}),
            ("b", "booleans", _named("presence of", self.present)),
            ("f", "real numbers (dtype float)", _named("vectors of", self.vectors)),
            ("f", "real numbers (dtype float)", _named("tag", self.tags)),
            ("f", "real numbers (dtype float)", _named("target", self.targets)),
            ("f", "real numbers (dtype float)", {"prompts": self.prompts}),
        ):
            for name, array in arrays.items():
                if array is None and name in ("content", "prompts"):
                    continue
                dtype = getattr(array, "dtype", type(array).__name__)
                if not isinstance(array, np.ndarray) or array.dtype.kind not in kinds:
                    raise EvaluationError(
                        f"{self.dataset}: {name}: type {dtype}; expected an array of {words}."
                    )
                flat = not name.startswith(("vectors", "prompts"))
                if flat and array.ndim != 1:
                    raise EvaluationError(
                        f"{self.dataset}: {name}: shape {array.shape}; expected one value a sample."
                    )

    def _check_names(self) -> None:
        """Classes that can be told apart, and texts that can be written to a file."""
        classes = self.classes
        if not isinstance(classes, tuple) or not all(isinstance(c, str) and c for c in classes):
            raise EvaluationError(
                f"{self.dataset}: classes are {classes!r}; expected a tuple of names, none empty."
            )
        if len(set(classes)) < len(classes):
            twice = next(name for name in classes if classes.count(name) > 1)
            raise EvaluationError(f"{self.dataset}: the class {twice!r} stands more than once.")
        columns: dict[str, Iterable[str]]
        columns = {"id": self.ids, "group": self.groups, "class": classes, **self.subgroups}
        columns |= _named("annotations", self.annotations)
        columns |= {"dataset": (self.dataset,), "model": (self.model,)}
        for name, texts in columns.items():
            check_unicode(texts, f"{self.dataset}: {name!r}")

    def _check_lengths(self) -> None:
        if not self.vectors:
            raise EvaluationError(f"{self.dataset}: no modality has embeddings.")
        if set(self.vectors) != set(self.present):
            raise EvaluationError(
                f"{self.dataset}: vectors are of {sorted(self.vectors)}, presence masks of "
                f"{sorted(self.present)}; they must be of the same modalities."
            )
        columns: dict[str, NDArray[Any]] = {
            "labels": self.labels,
            "splits": self.splits,
            "groups": self.groups,
            **_named("vectors of", self.vectors),
            **_named("presence of", self.present),
            **_named("tag", self.tags),
            **_named("target", self.targets),
            **_named("subgroups", self.subgroups),
            **_named("annotations", self.annotations),
        }
        if self.content is not None:
            columns["content"] = self.content
        if self.classified is not None:
            said = self.classified.probabilities.items()
            columns |= {f"classifier on {'+'.join(m)}": values for m, values in said}
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

    def _check_truths(self) -> None:
        for name in self.targets:
            if name in ("", LABEL, TAGS):
                raise EvaluationError(
                    f"{self.dataset}: a target cannot be named {name!r}, which stands for the "
                    "classes, for the tags or for none. Rename it."
                )
        for kind, numbers in (("tag", self.tags), ("target", self.targets)):
            for name, values in numbers.items():
                right = np.isin(values, (0, 1)) if kind == "tag" else np.isfinite(values)
                wrong = np.flatnonzero(~(right | np.isnan(values)))
                if wrong.size:
                    takes = "0, 1 or NaN" if kind == "tag" else "a finite number or NaN"
                    raise EvaluationError(
                        f"{self.dataset}: {kind} {name!r} of {str(self.ids[wrong[0]])!r} is "
                        f"{values[wrong[0]]}; it takes {takes} (unknown)."
                    )

    def _check_prompts(self) -> None:
        if self.prompts is None:
            return
        shape = self.prompts.shape
        # classes that only a classifier knows follow those of the data, and have none
        fits = len(shape) == 3 and int(self.labels.max()) < shape[0] <= len(self.classes)
        if not fits or 0 in shape:
            raise EvaluationError(
                f"{self.dataset}: prompts have shape {shape}; expected ({len(self.classes)} "
                "classes, templates, width)."
            )
        if not np.isfinite(self.prompts).all():
            raise EvaluationError(f"{self.dataset}: an embedding of the prompts is not finite.")
        zero = ~self.prompts.any(axis=2)
        if zero.any():
            name = self.classes[int(np.argwhere(zero)[0, 0])]
            raise EvaluationError(
                f"{self.dataset}: an embedding of the prompts of {name!r} is all zeros: nothing is "
                "near to it or far from it."
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
                f"{wrong[0]}) holds NaN or infinity ({wrong.size} such rows). Drop these "
                "samples or mark the modality as absent there."
            )


def check_unicode(texts: Iterable[str], where: str) -> None:
    """Raise an EvaluationError where a text cannot be written to a file."""
    try:
        "".join(texts).encode()
    except UnicodeEncodeError as error:
        raise EvaluationError(
            f"{where} holds a text that is not valid Unicode ({error.reason})."
        ) from error


def _named(kind: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{kind} {name!r}": array for name, array in arrays.items()}
