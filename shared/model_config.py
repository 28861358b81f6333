"""The architecture of a model as data: what a config file, a model folder and the API share."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import ConfigError, WeightsError
from shared.settings import check_fields


@dataclass
class ModalityConfig:
    """Parts of one modality: each a registered `name` with its settings beside it."""

    preprocess: dict[str, Any]
    encoder: dict[str, Any]


@dataclass
class ModelConfig:
    """Encoders by modality, joined in one space.

    Attributes:
        name: `model` or `model:variant`.
        embed_dim: Width of the projected embeddings.
        modalities: Parts by modality.
    """

    name: str
    embed_dim: int
    modalities: dict[str, ModalityConfig] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelConfig":
        """Inverse of `to_dict`.

        Raises:
            ConfigError: A key too many or too few, a value of another type, a part without a name,
                no modality, or a width below 1.
        """
        check_fields(cls, data, "model")
        if data["embed_dim"] < 1:
            raise ConfigError(f"model: embed_dim={data['embed_dim']} has to be at least 1.")
        if not data["modalities"]:
            raise ConfigError("model: modalities is empty; a model needs at least one.")
        modalities = {}
        for name, parts in data["modalities"].items():
            where = f"model.modalities.{name}"
            check_fields(ModalityConfig, parts, where)
            for kind in ("preprocess", "encoder"):
                if not isinstance(parts[kind].get("name"), str):
                    raise ConfigError(f"{where}.{kind} lacks the name of a registered part.")
            modalities[name] = ModalityConfig(dict(parts["preprocess"]), dict(parts["encoder"]))
        return cls(data["name"], data["embed_dim"], modalities)


def read_model_json(folder: Path, name: str) -> dict[str, Any]:
    """`config.json` or `schema.json` of a model folder, without importing torch.

    Raises:
        WeightsError: Not there, or damaged.
    """
    path = folder / name
    if not path.is_file():
        raise WeightsError(
            f"{folder} is no model folder: it has no {name}. Give a run folder or its `model` "
            "folder, or a name from `zoo list models`."
        )
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise WeightsError(f"{path} is damaged: {error}.") from error
    if not isinstance(data, dict):
        raise WeightsError(f"{path} is damaged: it holds no mapping.")
    return data
