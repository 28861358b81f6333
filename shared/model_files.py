"""A model as a folder: its weights, `config.json`, `schema.json` and the card `README.md`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from shared import weights
from shared.errors import ConfigError, UnknownNameError, WeightsError, suggest
from shared.files import atomic_path, write_json
from shared.model_config import SETTINGS, ModelConfig, read_model_json, settings_hash, weights_path
from shared.registry import Registries
from shared.schema import Schema

if TYPE_CHECKING:
    from shared.model import Model

FORMAT = 1
WHOLE = ("fusion", "classifier")
"""Parts of a model that belong to no modality."""
# RuntimeError: torch refuses a size
_DAMAGE = (ConfigError, LookupError, TypeError, ValueError, AttributeError, RuntimeError)


def write_model(model: "Model", folder: Path, card: str) -> None:
    """See `Model.save`."""
    modalities = {
        modality: {
            **asdict(parts),
            "preprocess": {**parts.preprocess, "state": model.preprocessors[modality].state()},
        }
        for modality, parts in model.config.modalities.items()
    }
    architecture = {**model.config.to_dict(), "modalities": modalities}
    config = {"format": FORMAT, **architecture, "scalars": sorted(model.scalars)}
    schemas = {m: s.to_dict() for m, s in model.schemas.items()}
    facts = {SETTINGS: settings_hash(config, schemas)}
    weights.write_tensors(folder / "model.safetensors", model.state_dict(), facts)
    write_json(folder / "schema.json", schemas)
    with atomic_path(folder / "README.md") as temporary:
        temporary.write_text(card, encoding="utf-8")
    write_json(folder / "config.json", config)


def read_model(
    kind: "type[Model]",
    folder: Path,
    registries: Registries,
    encoders: Sequence[str] | None,
    accept_edits: bool,
) -> "Model":
    """See `Model.load`."""
    if encoders is not None and not encoders:
        raise ConfigError("encoders is empty: name at least one modality, or leave it out.")
    try:
        model, chosen = _from_json(kind, folder, registries, encoders)
    except _DAMAGE as error:
        raise WeightsError(
            f"{folder}: config.json and schema.json are damaged or do not belong together "
            f"({type(error).__name__}: {error})."
        ) from error
    prefixes = None
    if encoders is not None:
        parts = ("encoders", "heads", "token_heads")
        towers = [f"{part}.{m}." for m in chosen for part in parts]
        whole = [part for part in WHOLE if getattr(model, part) is not None]
        prefixes = [*towers, "scalars.", *(f"{part}." for part in whole)]
    path = weights_path(folder, accept_edits)
    weights.load_strictly(model, weights.read_tensors(path, prefixes), str(path))
    return model.eval()


def _from_json(
    kind: "type[Model]", folder: Path, registries: Registries, encoders: Sequence[str] | None
) -> "tuple[Model, tuple[str, ...]]":
    """The model with fresh weights and fitted preprocessing, and its modalities."""
    config = read_model_json(folder, "config.json")
    schemas = {m: Schema.from_dict(s) for m, s in read_model_json(folder, "schema.json").items()}
    if config.pop("format", None) != FORMAT:
        raise WeightsError(
            f"{folder / 'config.json'} has another format; this version of zoo reads {FORMAT}."
        )
    chosen = tuple(config["modalities"]) if encoders is None else tuple(dict.fromkeys(encoders))
    for modality in chosen:
        if modality not in config["modalities"]:
            raise UnknownNameError(
                f"{folder} has no modality {modality!r}. {suggest(modality, config['modalities'])}"
            )
    states = {m: config["modalities"][m]["preprocess"].pop("state") for m in chosen}
    if encoders is not None:
        # what needs every modality goes when some are left out
        if (config.get("classifier") or {}).get("fusion") == "concat":
            config["classifier"] = None
        fusion = config.get("fusion")
        if fusion and not registries.encoders.get(fusion["name"]).encodes_alone:
            config["fusion"] = None
    config["modalities"] = {m: config["modalities"][m] for m in chosen}
    scalars = dict.fromkeys(config.pop("scalars"), 0.0)
    with weights.memory_for(folder / "model.safetensors"):
        model = kind.build(ModelConfig.from_dict(config), schemas, registries, scalars)
    for modality, state in states.items():
        model.preprocessors[modality].load_state(state)
    return model, chosen
