"""A dataset from its config node: what every dataset can be told."""

import numpy as np
import pytest

from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.errors import ConfigError
from zoo.config import compose_config
from zoo.plugins import plugins

SIMULATED = {"name": "simulated_variable_stars", "n_stars": 60}


def test_another_split_seed_is_another_split() -> None:
    def build(**more: object) -> Dataset:
        return build_dataset({**SIMULATED, **more}, plugins().registries)

    plain, same, other = build(), build(split_seed=0), build(split_seed=1)
    assert plain.fingerprint == same.fingerprint
    assert not np.array_equal(plain.splits, other.splits)
    assert other.fingerprint != plain.fingerprint
    with pytest.raises(ConfigError, match="split_seed"):
        build(split_seed="one")


def test_a_dataset_with_splits_of_its_own_has_no_split_seed(tmp_path) -> None:
    (tmp_path / "table.csv").write_text("id,x,split\na,1,train\nb,2,val\nc,3,test\n")
    node = {"name": "star_folder", "root": str(tmp_path)}
    assert build_dataset(node, plugins().registries).splits.tolist() == ["train", "val", "test"]
    with pytest.raises(ConfigError, match="brings its own splits"):
        build_dataset({**node, "split_seed": 1}, plugins().registries)


def test_common_settings_are_keys_of_every_dataset() -> None:
    data = compose_config("train", ["domain=astro", "data.split_seed=3"])["data"]
    assert data["split_seed"] == 3
    assert data["adapters"] == {}
