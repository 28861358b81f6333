"""The architecture of a model as data: what a config file, a model folder and the API share."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from shared.errors import ConfigError, DataError, WeightsError
from shared.files import inside
from shared.settings import check_fields
from shared.untrusted import read_json

SETTINGS = "settings"
"""Key of their hash in the head of the weights file."""


@dataclass
class ModalityConfig:
    """Parts of one modality: each a `name` with its settings beside it.

    Attributes:
        preprocess: A registered preprocessor.
        encoder: A registered encoder.
        head: `linear` or `mlp` on pooled features, to `embed_dim`; None: they are used as they are.
        token_head: The same on tokens.
    """

    preprocess: dict[str, Any]
    encoder: dict[str, Any]
    head: dict[str, Any] | None = field(default_factory=lambda: {"name": "linear"})
    token_head: dict[str, Any] | None = None


@dataclass
class ClassifierConfig:
    """A linear classifier on the features of all modalities.

    Attributes:
        num_classes: Number of classes; None: those of the data it is trained on.
        classes: Their names in the order of the logits; None: unknown.
        features: What it reads: `projected` (unit norm) or `pooled`.
        fusion: `mean` over the modalities a sample has, or `concat`.
    """

    num_classes: int | None = None
    features: Literal["projected", "pooled"] = "projected"
    fusion: Literal["mean", "concat"] = "mean"
    classes: list[str] | None = None


@dataclass
class ModelConfig:
    """Encoders by modality, joined in one space.

    Attributes:
        name: `model` or `model:variant`.
        embed_dim: Width of the projected embeddings.
        modalities: Parts by modality.
        fusion: A registered encoder of all modalities' tokens at once; None: there is none.
        classifier: None: there is none.
    """

    name: str
    embed_dim: int
    modalities: dict[str, ModalityConfig]
    fusion: dict[str, Any] | None = None
    classifier: ClassifierConfig | None = None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "ModelConfig":
        """Inverse of `to_dict`.

        Raises:
            ConfigError: A key too many or too few, a value of another type, a part without a name,
                no modality, a width below 1, or class names that are not one a class.
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
            modalities[name] = ModalityConfig(**parts)
        classifier = data.get("classifier")
        if classifier is not None:
            check_fields(ClassifierConfig, classifier, "model.classifier")
            classifier = ClassifierConfig(**classifier)
            _check_classes(classifier)
        fusion = data.get("fusion")
        if fusion is not None and not isinstance(fusion.get("name"), str):
            raise ConfigError("model.fusion lacks the name of a registered encoder.")
        return cls(data["name"], data["embed_dim"], modalities, fusion, classifier)


def _check_classes(classifier: ClassifierConfig) -> None:
    names, number = classifier.classes, classifier.num_classes
    if names is None:
        return
    if len(set(names)) != len(names) or number not in (None, len(names)):
        raise ConfigError(
            f"model.classifier: classes={names} and num_classes={number}; give every class one "
            "name of its own."
        )


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
        return read_json(inside(folder, path))
    except DataError as error:
        raise WeightsError(str(error)) from error


def settings_hash(config: Mapping[str, Any], schemas: Mapping[str, Any]) -> str:
    """Hash of what stands in `config.json` and `schema.json`, for the head of the weights file:
    some settings change results and no shape."""
    # through JSON, in which all keys are text, as those read from the files are
    text = json.dumps(json.loads(json.dumps([config, schemas])), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def weights_path(folder: Path, accept_edits: bool = False) -> Path:
    """`model.safetensors` of a model folder.

    Args:
        folder: The folder.
        accept_edits: Whether its settings may be others than the weights were saved with. Weights
            that say nothing of them, as those of another program, are accepted anyway.

    Raises:
        WeightsError: There is none or it is damaged, it is a link that leads out of the folder,
            or `config.json` or `schema.json` were edited; or as `read_model_json`.
    """
    from shared.weights import read_metadata

    try:
        path = inside(folder, folder / "model.safetensors")
    except DataError as error:
        raise WeightsError(str(error)) from error
    saved = read_metadata(path).get(SETTINGS)
    now = settings_hash(*(read_model_json(folder, name) for name in ("config.json", "schema.json")))
    if saved not in (None, now) and not accept_edits:
        raise WeightsError(
            f"{folder}: config.json or schema.json was edited since the weights were saved, or the "
            "files are of two models: embeddings would change without a sign. Restore them; or, "
            "if it is meant, zoo.load(FOLDER, accept_edits=True).save(NEW_FOLDER, card='…')."
        )
    return path
