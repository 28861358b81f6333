"""What is wrong with the data of an evaluation, and what to keep in mind when reading it."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from shared.data.splits import SPLITS
from shared.evaluation.embeddings.content import UNKNOWN_CONTENT
from shared.evaluation.embeddings.embedding_set import SPLIT, UNKNOWN, EmbeddingSet
from shared.evaluation.hygiene.duplicates import (
    NEAR_EMBEDDING,
    PAIRS_OF_SPLITS,
    SAME_CONTENT,
    SAME_EMBEDDING,
    TRAIN,
    Duplicate,
    find_duplicates,
    too_many_to_search,
)
from shared.evaluation.protocols.embedding_health import effective_rank

Level = Literal["warning", "note", "fine"]

FEW_GROUPS = 30
"""Fewer test groups: an interval from resampling them is too narrow (Cameron, Gelbach & Miller
2008, Bootstrap-based improvements for inference with clustered errors, abstract: "few (five to
thirty) clusters")."""
FEW_ROWS = 5
"""Of a class in the test split: fewer decide 1/num_classes of balanced accuracy."""
MANY_CLASSES, FEW_A_CLASS = 20, 3
"""So many classes with fewer samples each are likely something else; ours."""
IMBALANCE = 10
"""Largest over smallest class of the training split."""
COLLAPSED, NARROW = 2.0, 4
"""Effective rank below which rows have little but one direction; ours. Embeddings of this width or
less have few directions to begin with."""


@dataclass(frozen=True)
class Finding:
    """What one check says.

    Attributes:
        check: What was looked at.
        level: `warning`: scores do not mean what they say; `note`: to keep in mind; `fine`.
        text: A sentence without full stop.
    """

    check: str
    level: Level
    text: str


@dataclass(frozen=True)
class Hygiene:
    """Outcome of all checks.

    Attributes:
        findings: One or several a check.
        duplicates: Pairs across splits that may be one sample.
    """

    findings: tuple[Finding, ...]
    duplicates: tuple[Duplicate, ...]

    @cached_property
    def warnings(self) -> list[str]:
        """What makes scores other than they should be."""
        return [f.text for f in self.findings if f.level == "warning"]

    @cached_property
    def notes(self) -> list[str]:
        """What to keep in mind."""
        return [f.text for f in self.findings if f.level == "note"]


def check_hygiene(embeddings: EmbeddingSet, judged: NDArray[np.int64] | None = None) -> Hygiene:
    """Groups, duplicates, labels and sizes of the splits, and embeddings that have collapsed.

    Args:
        embeddings: Of all splits.
        judged: Rows that scores are of, where folds take the place of the splits (whose classes
            are not counted then); None: those of the test split.
    """
    duplicates = tuple(find_duplicates(embeddings))
    findings = [
        *_groups(embeddings),
        *_duplicates(embeddings, duplicates),
        *_contradictions(embeddings),
        *(_classes(embeddings) if judged is None else ()),
        *_zeros(embeddings),
        *_sizes(embeddings, embeddings.rows(SPLIT) if judged is None else judged),
        *_collapse(embeddings),
    ]
    return Hygiene(tuple(findings), duplicates)


def _groups(embeddings: EmbeddingSet) -> Iterator[Finding]:
    check, several = "groups across splits", False
    for first, second in PAIRS_OF_SPLITS:
        in_both = np.intersect1d(
            *(embeddings.groups[embeddings.splits == split] for split in (second, first))
        )
        if in_both.size:
            several = True
            what = "tested" if first == SPLIT else "validated"
            yield Finding(
                check,
                "warning",
                f"{in_both.size} groups stand in both the {second} and the {first} split, such as "
                f"{str(in_both[0])!r}: what was learned of them is {what} on them",
            )
    if not several:
        yield Finding(check, "fine", "no group stands in two splits")


def _duplicates(embeddings: EmbeddingSet, found: tuple[Duplicate, ...]) -> Iterator[Finding]:
    says = {
        SAME_CONTENT: "have the content of one",
        SAME_EMBEDDING: "have the embedding of one",
        NEAR_EMBEDDING: "have nearly the embedding of one",
    }
    ends = {
        SAME_CONTENT: ", byte for byte",
        SAME_EMBEDDING: ": the same sample twice, or a model that does not tell them apart",
        NEAR_EMBEDDING: ", much nearer than other neighbours: the same sample in two versions?",
    }
    for kind, words in says.items():
        check, several = f"duplicates by {kind}", False
        for first, second in PAIRS_OF_SPLITS:
            pairs = [
                p
                for p in found
                if p.kind == kind
                and (embeddings.splits[p.first], embeddings.splits[p.second]) == (first, second)
            ]
            if pairs:
                several = True
                a, b = (str(embeddings.ids[row]) for row in (pairs[0].first, pairs[0].second))
                tested = len(embeddings.rows(first))
                every = "" if kind == SAME_CONTENT else " in every modality"
                yield Finding(
                    check,
                    "warning",
                    f"{len(pairs)} of {tested} samples of the {first} split {words} of the "
                    f"{second} split{every}, such as {a!r} that of {b!r}{ends[kind]}",
                )
        if not several:
            yield Finding(check, *_no_duplicates(embeddings, kind))


def _no_duplicates(embeddings: EmbeddingSet, kind: str) -> tuple[Level, str]:
    if kind == SAME_CONTENT and embeddings.content is None:
        return "note", "not looked for: the content of the samples is not known"
    sizes = (len(embeddings.rows(split)) for split in (SPLIT, TRAIN))
    if kind == NEAR_EMBEDDING and too_many_to_search(embeddings, *sizes):
        return "note", "not looked for: the splits are too large to compare every pair"
    return "fine", "none found"


def _contradictions(embeddings: EmbeddingSet) -> Iterator[Finding]:
    """Samples of the same content and another class."""
    check = "equal samples of several classes"
    if embeddings.content is None or (embeddings.labels == UNKNOWN).all():
        return
    known = (embeddings.content != UNKNOWN_CONTENT) & (embeddings.labels != UNKNOWN)
    pairs = np.unique(
        np.stack([embeddings.content[known], embeddings.labels[known].astype(np.str_)]), axis=1
    )
    contents, counts = np.unique(pairs[0], return_counts=True)
    torn = contents[counts > 1]
    if not torn.size:
        yield Finding(check, "fine", "none found")
        return
    rows = np.flatnonzero(known & np.isin(embeddings.content, torn))
    alike = rows[embeddings.content[rows] == embeddings.content[rows[0]]]
    other = alike[embeddings.labels[alike] != embeddings.labels[alike[0]]][0]
    a, b = (
        f"{str(embeddings.ids[r])!r} ({embeddings.classes[embeddings.labels[r]]})"
        for r in (alike[0], other)
    )
    yield Finding(
        check,
        "warning",
        f"{len(rows)} samples hold the same as one of another class, such as {a} and {b}: one of "
        "the labels is wrong, or the data do not hold what tells them apart",
    )


def _classes(embeddings: EmbeddingSet) -> Iterator[Finding]:
    if (embeddings.labels == UNKNOWN).all():
        return
    counts = {split: _counts(embeddings, split) for split in (TRAIN, SPLIT)}
    train, test = counts[TRAIN], counts[SPLIT]
    names = np.asarray(embeddings.classes, dtype=np.str_)
    if train.any() and (unseen := names[(train == 0) & (test > 0)]).size:
        rows = int(test[(train == 0)].sum())
        yield Finding(
            "classes without training rows",
            "warning",
            f"{unseen.size} classes of the {SPLIT} split, such as {str(unseen[0])!r}, have no "
            f"labelled row in the {TRAIN} split: their {rows} rows cannot be got right",
        )
    if train.any() and (untested := names[(train > 0) & (test == 0)]).size:
        yield Finding(
            "classes without test rows",
            "note",
            f"{untested.size} classes of the {TRAIN} split, such as {str(untested[0])!r}, are "
            "not tested",
        )
    if (few := np.flatnonzero((test > 0) & (test < FEW_ROWS))).size:
        smallest = few[test[few].argmin()]
        yield Finding(
            "small classes",
            "note",
            f"{few.size} of {(test > 0).sum()} classes have fewer than {FEW_ROWS} test rows, such "
            f"as {str(names[smallest])!r} with {test[smallest]}: these few decide 1/"
            f"{(test > 0).sum()} of balanced accuracy each",
        )
    if (there := np.flatnonzero(train)).size > 1:
        large, small = there[train[there].argmax()], there[train[there].argmin()]
        level: Level = "note" if train[large] >= IMBALANCE * train[small] else "fine"
        yield Finding(
            "class imbalance",
            level,
            f"the largest class of the {TRAIN} split, {str(names[large])!r}, has {train[large]} "
            f"rows, the smallest, {str(names[small])!r}, {train[small]}",
        )


def _counts(embeddings: EmbeddingSet, split: str) -> np.ndarray:  # type: ignore[type-arg]
    """(num_classes,) labelled rows."""
    labels = embeddings.labels[embeddings.rows(split, target="label")]
    return np.bincount(labels, minlength=len(embeddings.classes))


def _zeros(embeddings: EmbeddingSet) -> Iterator[Finding]:
    """Rows of zeros, by which missing values are often filled."""
    for modality in embeddings.modalities:
        rows = np.flatnonzero(embeddings.present[modality])
        zero = rows[~embeddings.vectors[modality][rows].any(axis=1)]
        if zero.size:
            yield Finding(
                "embeddings of zeros",
                "warning",
                f"{zero.size} embeddings of {modality}, such as that of "
                f"{str(embeddings.ids[zero[0]])!r}, are all zeros: if they stand for samples "
                f"without {modality}, mark it as absent there",
            )


def _sizes(embeddings: EmbeddingSet, judged: NDArray[np.int64]) -> Iterator[Finding]:
    n_classes, labelled = len(np.unique(embeddings.labels)), embeddings.known("label").sum()
    if n_classes >= MANY_CLASSES and labelled < FEW_A_CLASS * n_classes:
        yield Finding(
            "labels that may be numbers",
            "warning",
            f"{labelled} labelled samples are of {n_classes} classes: if the labels are numbers to "
            "predict, name the column target.<name>; if they are ids or groups, id or group",
        )
    unlabelled = int((embeddings.labels == UNKNOWN).sum())
    if 0 < unlabelled < len(embeddings):
        yield Finding(
            "labels",
            "note",
            f"{unlabelled} of {len(embeddings)} samples have no label: classes are neither learned "
            "from nor tested on them",
        )
    for split in SPLITS:
        if not len(embeddings.rows(split)):
            yield Finding("splits", "note", f"the {split} split is empty")
    groups = len(np.unique(embeddings.groups[judged]))
    if 0 < groups < FEW_GROUPS:
        yield Finding(
            "size",
            "note",
            f"what is judged has {groups} groups: below {FEW_GROUPS}, intervals are narrower "
            "than they should be",
        )


def _collapse(embeddings: EmbeddingSet) -> Iterator[Finding]:
    for modality in embeddings.modalities:
        vectors = embeddings.vectors[modality][embeddings.rows(SPLIT, modality)]
        if min(vectors.shape) <= NARROW or not vectors.any():
            continue
        if (rank := effective_rank(vectors)) < COLLAPSED:
            yield Finding(
                "collapse",
                "warning",
                f"the embeddings of {modality} have collapsed: their effective rank is {rank:.2f} "
                f"of {min(vectors.shape)}, so that little tells the samples apart",
            )
