"""A dataset from its config node."""

from collections.abc import Mapping
from typing import Any

from shared.data.dataset import AdaptedDataset, Dataset
from shared.errors import ConfigError
from shared.registry import Registries


def build_dataset(node: Mapping[str, Any], registries: Registries) -> Dataset:
    """The dataset `name` with its settings, seen through `adapters` (modality → name) if any.

    Raises:
        ConfigError: No name, or a setting that the dataset does not have.
        UnknownNameError: No such dataset or adapter.
    """
    settings = {k: v for k, v in node.items() if k not in ("name", "adapters")}
    if not node.get("name"):
        raise ConfigError("data has no name: choose a dataset by data=NAME (see `zoo list`).")
    dataset: Dataset = registries.datasets.build(node["name"], "data", **settings)
    adapters = {
        m: registries.adapters.get(name) for m, name in (node.get("adapters") or {}).items()
    }
    return AdaptedDataset(dataset, adapters) if adapters else dataset
