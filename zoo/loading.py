"""Names and paths → models."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import UnknownNameError, WeightsError, first_line, suggest
from shared.model_config import ModelConfig
from shared.model_entry import ModelEntry
from zoo.config import load_group
from zoo.importing import download, fetch_upstream, import_model
from zoo.options import ImportConfig
from zoo.paths import cache_folder, offline
from zoo.plugins import check_usable, plugins

if TYPE_CHECKING:
    from shared.model import Model


MODEL_FILES = ("config.json", "schema.json", "model.safetensors", "README.md")
STATISTICS_SAMPLES = 100


def is_path(name: str) -> bool:
    """Whether a model name is a path: it has a separator, or is `.` or `..`."""
    return "/" in name or "\\" in name or name in (".", "..")


def load(
    name: str | Path,
    *,
    weights: str | Path | None = None,
    encoders: Sequence[str] | None = None,
    seed: int = 0,
    accept_edits: bool = False,
) -> "Model":
    """Load a model: its encoders, heads and preprocessing as one object, in eval mode.

    Args:
        name: `model` or `model:variant` (see `zoo list`), or the path of a model folder, which is
            anything with a path separator.
        weights: A model folder to use for a named model, or files of its authors, which are
            imported in memory; `"random"` for fresh weights, which are given on no other condition.
            None: the cache in `ZOO_HOME`, then the hub.
        encoders: Modalities to load; the tensors of the others are not read. None: all.
        seed: Of random weights.
        accept_edits: Whether config.json and schema.json of a folder may be others than those its
            weights were saved with, which is an error otherwise.

    Raises:
        UnknownNameError: No such model, variant or modality; the nearest names are given.
        WeightsError: No weights to be had (the message says what to do), or files that are not
            whole or do not fit.
        ConfigError: Files of the authors that do not tell the variant, which the name then has to.
    """
    if isinstance(name, Path) or is_path(name):
        if weights is not None:
            raise WeightsError(f"{name} is a model folder: it has its weights, drop weights=…")
        return _load_folder(model_folder(Path(name).expanduser()), encoders, accept_edits)
    entry, variant = find_model(name)
    family, _, named = name.partition(":")
    if weights == "random":
        return _random(family, entry, variant, encoders, seed)
    path = Path(weights).expanduser() if weights else None
    folder = model_folder(path) if path else fetch_weights(family, entry, variant)
    if entry.importer and not (folder / "schema.json").is_file():
        imported = import_model(entry, family, variant if named else None, folder, ImportConfig())
        return imported if encoders is None else _keep(imported, encoders)
    model = _load_folder(folder, encoders, accept_edits)
    expected = f"{family}:{variant}"
    if model.config.name != expected:
        raise WeightsError(
            f"{folder} holds {model.config.name!r}, not {expected!r}. Load it by its path, or ask "
            f"for {model.config.name!r}."
        )
    return model


def find_model(name: str) -> tuple[ModelEntry, str]:
    """The registered model and variant of `model` or `model:variant`.

    Raises:
        UnknownNameError: No such model or variant.
    """
    family, _, variant = name.partition(":")
    registry = plugins().registries.models
    if family not in registry:
        hint = ""
        if Path(name).exists():
            hint = f" To load the folder of that name, write ./{name}."
        known = [entry.name for entry in registry]
        raise UnknownNameError(f"There is no model {family!r}. {suggest(family, known)}{hint}")
    check_usable(registry.entry(family).domain)
    entry: ModelEntry = registry.get(family)
    variant = variant or next(iter(entry.variants))
    if variant not in entry.variants:
        raise UnknownNameError(
            f"{family} has no variant {variant!r}. {suggest(variant, entry.variants)}"
        )
    return entry, variant


def model_folder(path: Path) -> Path:
    """A run folder stands for the model in it.

    Raises:
        WeightsError: No such folder, or that of a run that has not ended.
    """
    if not path.exists():
        near = sorted(str(p.parent.parent) for p in Path("runs").glob("*/model/config.json"))
        hint = f" {suggest(str(path), near)}" if near else ""
        raise WeightsError(f"There is no model folder {path}.{hint}")
    if (path / "model" / "config.json").is_file():
        return path / "model"
    if (path / "results.jsonl").is_file() and not (path / "checkpoints").exists():
        raise WeightsError(
            f"{path} is an evaluation and holds no model: name the run or model that it judged."
        )
    if (path / "config.yaml").is_file() and not (path / "config.json").is_file():
        raise WeightsError(
            f"{path} is a run that has not ended: it has no model yet. `zoo doctor {path}` says "
            "from where it can go on."
        )
    return path


def _load_folder(folder: Path, encoders: Sequence[str] | None, accept_edits: bool) -> "Model":
    from shared.model import Model

    return Model.load(folder, plugins().registries, encoders, accept_edits)


def _random(
    family: str, entry: ModelEntry, variant: str, encoders: Sequence[str] | None, seed: int
) -> "Model":
    import torch

    from shared.data.build import build_dataset
    from shared.data.prepared import PreparedDataset
    from shared.model import Model

    registries = plugins().registries
    node = load_group("model", entry.variants[variant])
    config = _narrow(ModelConfig.from_dict({**node, "name": f"{family}:{variant}"}), encoders)
    samples = build_dataset(entry.data, registries)
    if config.classifier is not None and config.classifier.num_classes is None:
        classes = list(samples.classes)
        config.classifier = replace(config.classifier, num_classes=len(classes), classes=classes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Model.build(config, samples.schemas, registries)
    # preprocessing that learns statistics takes them from a few samples of the model's own data
    data = PreparedDataset(samples, model.preprocessors)
    data.fit_preprocessors(samples.indices("train")[:STATISTICS_SAMPLES].tolist())
    return model.eval()


def _narrow(config: ModelConfig, encoders: Sequence[str] | None) -> ModelConfig:
    """The config of these modalities alone; what reads every modality goes."""
    if encoders is None:
        return config
    for modality in encoders:
        if modality not in config.modalities:
            raise UnknownNameError(
                f"{config.name} has no modality {modality!r}. "
                f"{suggest(modality, config.modalities)}"
            )
    chosen = {m: config.modalities[m] for m in encoders}
    return replace(config, modalities=chosen, classifier=None)


def _keep(model: "Model", encoders: Sequence[str]) -> "Model":
    """These modalities of a model; the same tensors."""
    from shared.model import Model

    config = replace(_narrow(model.config, encoders), fusion=None)
    parts = {m: (model.preprocessors[m], model.encoders[m]) for m in config.modalities}
    kept = Model(
        config,
        {m: preprocessor for m, (preprocessor, _) in parts.items()},
        {m: encoder for m, (_, encoder) in parts.items()},  # type: ignore[misc]
        None,
        dict.fromkeys(model.scalars, 0.0),
    )
    tensors = model.state_dict()
    kept.load_state_dict({name: tensors[name] for name in kept.state_dict()})
    return kept.eval()


def fetch_weights(family: str, entry: ModelEntry, variant: str) -> Path:
    """The folder of published weights: from the cache, else from the hub into the cache.

    Raises:
        WeightsError: There are none to be had; the message says what to do.
    """
    folder = cache_folder(family, variant)
    if (folder / "config.json").is_file():
        return folder
    if variant in entry.upstream and variant not in entry.hub:
        return fetch_upstream(entry, family, variant)
    train = (
        f"Train one: {entry.train_command(variant)}, then "
        "zoo.load('runs/…/model'); or ask for fresh weights by weights='random'."
    )
    if variant not in entry.hub:
        raise WeightsError(
            f"No weights are published for {family}:{variant}, and {folder} holds none. {train}"
        )
    source = entry.hub[variant]
    if offline():
        raise WeightsError(
            f"{family}:{variant} is not in the cache and ZOO_OFFLINE forbids the network. Fetch "
            f"{source.repo} elsewhere and put its files into {folder}. {train}"
        )
    try:
        download(source, MODEL_FILES, folder)
    except Exception as error:  # the hub's client raises many kinds; each means "not to be had"
        raise WeightsError(
            f"{source.repo} could not be fetched ({type(error).__name__}: {first_line(error)}). "
            f"Put its files into {folder}. {train}"
        ) from error
    return folder
