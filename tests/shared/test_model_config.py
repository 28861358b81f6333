"""The architecture as data: what it survives, and what is wrong with damaged data."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from shared.errors import ConfigError
from shared.model_config import ModelConfig

PARTS = {
    "preprocess": {"name": "light_curve", "max_length": 64},
    "encoder": {"name": "light_curve_transformer", "dim": 16},
}
DATA = {"name": "m:small", "embed_dim": 8, "modalities": {"photometry": PARTS}}


def test_round_trip() -> None:
    config = ModelConfig.from_dict(DATA)
    assert ModelConfig.from_dict(config.to_dict()) == config
    assert config.to_dict()["modalities"]["photometry"]["head"] == {"name": "linear"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("name"), "model lacks name"),
        (lambda d: d.pop("modalities"), "model lacks modalities"),
        (lambda d: d.update(embed_dm=3), "no setting 'embed_dm'. Did you mean 'embed_dim'"),
        (lambda d: d.update(embed_dim=0), "embed_dim=0 has to be at least 1"),
        (lambda d: d.update(embed_dim="8"), "embed_dim='8' has to be a whole number"),
        (lambda d: d.update(modalities={}), "modalities is empty"),
        (
            lambda d: d.update(modalities=["photometry"]),
            "modalities=['photometry'] has to be",
        ),
        (lambda d: d["modalities"].update(photometry=3), "model.modalities.photometry is 3, not"),
        (lambda d: d["modalities"]["photometry"].pop("encoder"), "photometry lacks encoder"),
        (lambda d: d["modalities"]["photometry"].update(heed=1), "no setting 'heed'"),
        (lambda d: d["modalities"]["photometry"].update(encoder="mlp"), "has to be a mapping"),
        (
            lambda d: d["modalities"]["photometry"]["encoder"].pop("name"),
            "model.modalities.photometry.encoder lacks the name of a registered part",
        ),
    ],
)
def test_damaged_data_is_one_message(
    change: Callable[[dict[str, Any]], object], message: str
) -> None:
    data = copy.deepcopy(DATA)
    change(data)
    with pytest.raises(ConfigError) as caught:
        ModelConfig.from_dict(data)
    assert message in str(caught.value)


def test_no_mapping_at_all() -> None:
    with pytest.raises(ConfigError, match="model is 3, not a mapping"):
        ModelConfig.from_dict(3)  # type: ignore[arg-type]
