"""A dataset from its config node."""

import os
from collections.abc import Mapping
from typing import Any, Literal

from shared.data.adapted import AdaptedDataset
from shared.data.dataset import Dataset
from shared.data.skipping import SkippingDataset
from shared.errors import ConfigError
from shared.registry import Registries
from shared.settings import check_value

COMMON_SETTINGS: Mapping[str, Any] = {"adapters": {}, "split_seed": 0, "on_error": "raise"}
"""What every dataset can be told in a config, and its default."""


def build_dataset(node: Mapping[str, Any], registries: Registries) -> Dataset:
    """The dataset `name` with its settings, seen through `adapters` (modality → name) if any.

    A path may be given as `root`, and a `~` in it is the home folder. `split_seed` chooses another
    split of a dataset that does not bring its own. `on_error` is what a sample that cannot be read
    or prepared does: `raise` an error, or `skip`, which leaves it out.

    Raises:
        ConfigError: No name, or a setting that the dataset does not have or cannot take.
        UnknownNameError: No such dataset or adapter.
    """
    settings = {k: v for k, v in node.items() if k not in ("name", *COMMON_SETTINGS)}
    if not node.get("name"):
        raise ConfigError("data has no name: choose a dataset by data=NAME (see `zoo list`).")
    if isinstance(root := settings.get("root"), str | os.PathLike):
        settings["root"] = os.path.expanduser(os.fspath(root))
    chosen = node.get("adapters") or {}
    check_value(chosen, dict[str, str], "data: adapters")
    split_seed = node.get("split_seed", 0)
    check_value(split_seed, int, "data: split_seed")
    dataset: Dataset = registries.datasets.build(node["name"], "data", **settings)
    if split_seed and dataset.table.splits is not None:
        raise ConfigError(
            f"data.split_seed={split_seed}: {dataset.name} brings its own splits. Leave it out."
        )
    dataset.split_seed = split_seed
    adapters = {m: registries.adapters.get(name) for m, name in chosen.items()}
    if adapters:
        dataset = AdaptedDataset(dataset, adapters)
    on_error = node.get("on_error", "raise")
    check_value(on_error, Literal["raise", "skip"], "data: on_error")
    if on_error == "skip":
        dataset = SkippingDataset(dataset)
    return dataset
