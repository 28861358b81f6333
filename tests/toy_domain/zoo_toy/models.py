"""The model that `zoo.load` knows by name, and how it is judged."""

import numpy as np
from numpy.typing import NDArray

from zoo import Evaluator, ModelEntry, Schema


def raw_numbers(schema: Schema, raw: NDArray[np.float64]) -> NDArray[np.float64]:
    """The channels themselves: what the embeddings have to beat."""
    return raw


QUADRANTS = Evaluator(
    protocols=("linear_probe", "nearest_centroid", "retrieval"),
    simple_features={"position": raw_numbers, "bearing": raw_numbers},
)

TOY_MODEL = ModelEntry(
    variants={"small": "toy-model/small"},
    dataset="noisy_circle",
    train="zoo train domain=toy",
    hub={},
)
