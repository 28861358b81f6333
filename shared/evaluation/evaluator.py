"""An evaluator: the protocols and the simple-feature baseline of one kind of data."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.schema import Schema

SimpleFeatures = Callable[[Schema, Any], NDArray[np.float64]]
"""(schema of the dataset, raw input) → (d,) features that need no training."""


@dataclass(frozen=True)
class Evaluator:
    """What `zoo eval` does with the embeddings of a domain.

    Attributes:
        protocols: Names of protocols in `shared.evaluation`.
        simple_features: By modality, the features a careful person would try first; the same
            protocols run on them and stand beside every score.
    """

    protocols: tuple[str, ...]
    simple_features: Mapping[str, SimpleFeatures]


DEFAULT = Evaluator(("linear_probe", "nearest_centroid", "retrieval"), {})
"""Every protocol, without simple features."""
