"""What a protocol is: a name, a version, the tasks it finds in embeddings, and how one is run."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import unit_mean
from shared.evaluation.outcomes.base import Outcome

if TYPE_CHECKING:
    from shared.evaluation.pictures.kinds import OwnPictures

Setting = str | int | float | bool | None | list[str] | list[int] | list[float]
Settings = Mapping[str, Any]
ALL = "all"


@dataclass(frozen=True)
class Task:
    """One question to a set of embeddings.

    Attributes:
        modalities: What is judged; for retrieval, query then candidate.
        target: `label`, `tags`, the name of a regression target, or empty where none is used.
        variant: What else tells tasks of one protocol apart, such as `shots=5`.
        inputs: The modalities in a word: `photometry`, `photometry->spectra`, `all`.
    """

    modalities: tuple[str, ...]
    target: str = ""
    variant: str = ""
    inputs: str = ""


@dataclass(frozen=True)
class Output:
    """What a protocol found of one task.

    Attributes:
        rows: (n,) index into the set of the test rows judged.
        outcome: Of these rows in their order; None where `missing` says why.
        missing: Why it could not run; None when it ran.
        metrics: Names of the metrics that are missing then.
        trivial: The same rows by a baseline without a model: most frequent class, mean of the
            training rows, random ranking.
        trivial_name: What that is.
        chance: By metric, expected value of a uniform guess.
        settings: What was chosen on the way (the L2 strength, the temperature).
        seeds: Of what was random in the protocol; empty where nothing was.
    """

    rows: NDArray[np.int64]
    outcome: Outcome | None
    missing: str | None = None
    metrics: tuple[str, ...] = ()
    trivial: Outcome | None = None
    trivial_name: str = ""
    chance: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)
    seeds: tuple[int, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """A protocol as data; every file in `shared.evaluation.protocols` ends with one.

    Attributes:
        name: In tables, configs and results.
        version: A higher one may give other numbers.
        title: One line, for the page of a run.
        tasks: The tasks it finds in a set, in the order of the table. Where it finds none, one
            task whose `run` says why.
        run: A task's output. Never an exception for what the data do not allow: `missing`.
        settings: What a user can choose, with the defaults.
        baselines: Whether it is run on simple features, too.
        applies: Whether it has anything to say of a set; where not, it is left out unless it was
            asked for by name, and then says why.
        pictures: What it draws beside the pictures that its kind of outcome has; None: nothing.
    """

    name: str
    version: int
    title: str
    tasks: Callable[[EmbeddingSet, Settings], Sequence[Task]]
    run: Callable[[Task, EmbeddingSet, Settings], Output]
    settings: Settings = field(default_factory=dict)
    baselines: bool = True
    applies: Callable[[EmbeddingSet], bool] = lambda embeddings: True
    pictures: "OwnPictures | None" = None


@dataclass(frozen=True)
class Rows:
    """Embeddings of one split with what is to be predicted.

    Attributes:
        vectors: (n, d) floats, finite.
        targets: (n,) class indices, (n, L) tags of 0, 1 and NaN (unknown), or (n,) numbers.
        groups: (n,) unit of resampling.
        index: (n,) row of each in the set of embeddings.
    """

    vectors: NDArray[np.floating[Any]]
    targets: NDArray[Any]
    groups: NDArray[np.str_]
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, rows: NDArray[np.int64]) -> "Rows":
        """Some of the rows."""
        return Rows(self.vectors[rows], self.targets[rows], self.groups[rows], self.index[rows])


def each_and_all(embeddings: EmbeddingSet, *targets: str) -> list[Task]:
    """Each modality alone and, with several, all of them together, for each target."""
    found: list[tuple[str, ...]] = [(m,) for m in embeddings.modalities]
    if len(found) > 1:
        found.append(embeddings.modalities)
    return [
        Task(modalities, target, inputs=modalities[0] if len(modalities) == 1 else ALL)
        for target in targets
        for modalities in found
    ]


def labelled(embeddings: EmbeddingSet) -> bool:
    """Whether any row has a class."""
    return bool(embeddings.known(LABEL).any())


def class_tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    """Each modality and all of them, to predict the class."""
    return each_and_all(embeddings, LABEL)


def rows_of(
    task: Task, embeddings: EmbeddingSet, split: str = SPLIT, *, concatenate: bool = False
) -> Rows:
    """The rows of a split that have all modalities of the task and its target; several
    modalities side by side (`concatenate`) or as mean of unit vectors. One modality: as it is when
    concatenated, else its unit vectors."""
    index = embeddings.rows(split, *task.modalities, target=task.target or None)
    parts = [embeddings.vectors[modality][index] for modality in task.modalities]
    vectors: NDArray[np.floating[Any]]
    vectors = np.concatenate(parts, axis=1) if concatenate else unit_mean(parts)
    targets = embeddings.truth(task.target)[index] if task.target else np.empty(len(index))
    return Rows(vectors, targets, embeddings.groups[index], index)


def widths_differ(task: Task, embeddings: EmbeddingSet) -> str | None:
    """Why the modalities of a task cannot be averaged; None where they can."""
    widths = {m: embeddings.vectors[m].shape[1] for m in task.modalities}
    if len(set(widths.values())) == 1:
        return None
    return f"embeddings differ in width ({', '.join(f'{m} {w}' for m, w in widths.items())})"


def missing(task: Task, embeddings: EmbeddingSet, metrics: Sequence[str], reason: str) -> Output:
    """An output that says why there is none."""
    rows = embeddings.rows(SPLIT, *task.modalities, target=task.target or None)
    return Output(rows, None, missing=reason, metrics=tuple(metrics))
