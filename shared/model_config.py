"""The architecture of a model as data: what a config file, a model folder and the API share."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from shared.errors import WeightsError


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
        modalities = {
            name: ModalityConfig(dict(parts["preprocess"]), dict(parts["encoder"]))
            for name, parts in data["modalities"].items()
        }
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
