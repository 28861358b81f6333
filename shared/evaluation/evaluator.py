"""An evaluator: the protocols, the simple-feature baseline and the pictures of one kind of data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.embeddings.simple_features import image_statistics, word_counts
from shared.schema import Schema

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from shared.data.dataset import Dataset

SimpleFeatures = Callable[[Schema, Any], NDArray[np.float64]]
"""(schema of the dataset, raw input) → (d,) features that need no training."""

Thumbnail = Callable[["Axes", Mapping[str, Schema], Mapping[str, Any]], None]
"""(axes, schemas of the dataset, raw sample that has the modality): draws the modality, and labels
both axes with units. Raises SchemaError where the schema has not the channels it draws."""


@dataclass(frozen=True)
class Evaluator:
    """What `zoo eval` does with the embeddings of a domain.

    Attributes:
        protocols: Names of protocols, in the order of the table.
        simple_features: By modality, the features a careful person would try first; the same
            protocols run on them and stand beside every score.
        thumbnails: By modality, how one sample is drawn in the galleries.
        templates: Prompts of zero-shot classification, with `{}` for the class.
        class_names: By class of the data, what stands in a prompt for it; others as they are.
        settings: By name of a protocol, what differs from its own settings; the user's go over
            them.
    """

    protocols: tuple[str, ...]
    simple_features: Mapping[str, SimpleFeatures]
    thumbnails: Mapping[str, Thumbnail] = field(default_factory=dict)
    templates: tuple[str, ...] = ()
    class_names: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Drawing:
    """What pictures need beside the embeddings.

    Attributes:
        projection: Method of the maps, one of `shared.evaluation.pictures.projection.PROJECTIONS`.
        dataset: The samples behind the embeddings, in the same order; None: no galleries.
        thumbnails: As in `Evaluator`; a modality that has none is not drawn.
    """

    projection: str = "tsne"
    dataset: "Dataset | None" = None
    thumbnails: Mapping[str, Thumbnail] = field(default_factory=dict)


STANDARD = (
    "classifier",
    "zero_shot",
    "linear_probe",
    "ridge_probe",
    "knn",
    "nearest_centroid",
    "few_shot",
    "retrieval",
    "similarity_search",
    "clustering",
    "embedding_health",
)
"""All but `modality_ablation`, which repeats the probe, `nearest_neighbour`, which is k-NN with
k = 1, and what says in other metrics what others say (`mean_recall`, `class_retrieval`); those that
have nothing to say of the data are left out."""

BRIEF = (
    "classifier",
    "zero_shot",
    "linear_probe",
    "nearest_centroid",
    "nearest_neighbour",
    "retrieval",
    "mean_recall",
)
"""What a training ends with, as far as its evaluator has it."""

DEFAULT = Evaluator(STANDARD, {"image": image_statistics, "text": word_counts})
"""For data of no domain."""
