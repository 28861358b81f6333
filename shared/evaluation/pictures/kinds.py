"""The kinds of pictures, their order on a page, and how each is read."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from shared.data.dataset import Dataset
    from shared.evaluation.embeddings.embedding_set import EmbeddingSet
    from shared.evaluation.run import Run


@dataclass(frozen=True)
class Kind:
    """One kind of picture: the files `<name>.png` and `<name>_<of what>.png`.

    Attributes:
        name: How its files begin.
        title: Above its pictures on a page.
        reading: How it is read, in a sentence or two.
    """

    name: str
    title: str
    reading: str


@dataclass(frozen=True)
class OwnPictures:
    """Pictures of a protocol that no other has.

    Attributes:
        kind: How its files begin, and how they are read.
        draw: From a run of the protocol with an outcome, the embeddings and the samples behind
            them, in the same order: names that begin with that of the kind, and figures.
    """

    kind: Kind
    draw: "Callable[[Run, EmbeddingSet, Dataset], Iterator[tuple[str, Figure]]]"


KINDS = (
    Kind(
        "confusion",
        "Confusion",
        "Each line is a true class, each column what was predicted; a perfect model has 100 on "
        "the diagonal. Only test rows are counted.",
    ),
    Kind(
        "reliability",
        "Reliability",
        "Predictions sorted by how sure they are. On the dashed line, of those with 80 % "
        "confidence 80 % are right; below it the model is too sure. Bars are 95 % Wilson "
        "intervals of a bin; the lower panel says how many rows it holds.",
    ),
    Kind(
        "few_shot",
        "Few-shot",
        "Score against the number of labelled examples of each class. The band is the confidence "
        "interval over draws of the examples and of the test rows.",
    ),
    Kind(
        "values",
        "Predicted values",
        "A point is a test row; on the dashed line prediction and truth are equal. A model that "
        "knows nothing lies on the dotted one.",
    ),
    Kind(
        "tags",
        "Tags",
        "How well each tag is told from its absence: 1 is perfect, 0.5 is a guess. The tags with "
        "few rows are the ones whose numbers mean least.",
    ),
    Kind(
        "recall",
        "Retrieval",
        "Share of the queries that find a match among their first k candidates, against a random "
        "order (grey).",
    ),
    Kind(
        "retrieval",
        "Retrieval, looked at",
        "A few queries (black frame) and the first candidates found for each. The right one has a "
        "thick green frame; queries are drawn at random, not chosen for looking good.",
    ),
    Kind(
        "subgroups",
        "Subgroups",
        "The same score on parts of the test rows, with intervals. A filled dot has an interval "
        "that excludes the score of all rows; with many subgroups some do by chance.",
    ),
    Kind(
        "embedding_map",
        "Map of the embeddings",
        "Near points have similar embeddings. Distances between far groups and the sizes of "
        "groups mean nothing on such a map.",
    ),
    Kind(
        "thumbnails_map",
        "Map with samples",
        "The same with some samples drawn, one of each class first.",
    ),
    Kind(
        "similarity",
        "Similar samples",
        "Test samples (black frame) and the most similar ones of all splits. Green: the same "
        "class; red: another.",
    ),
    Kind(
        "outliers",
        "Outliers",
        "Test samples farthest from the centre of their class: a wrong label, a rare object or a "
        "poor measurement.",
    ),
)


def kind_of(stem: str, kinds: Sequence[Kind] = KINDS) -> Kind | None:
    """The kind of a picture by the name of its file, without suffix."""
    fitting = (k for k in kinds if stem == k.name or stem.startswith(f"{k.name}_"))
    return max(fitting, key=lambda kind: len(kind.name), default=None)
