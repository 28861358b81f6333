"""Weights in the format of their authors → models and model folders of ours."""

import importlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError, PluginError, WeightsError, first_line
from shared.files import atomic_folder, refuse_to_overwrite
from shared.model_entry import HubSource, ModelEntry
from shared.settings import check_settings
from zoo.catalog import card_path
from zoo.config import load_group
from zoo.options import ImportConfig
from zoo.paths import cache_folder, offline, zoo_home
from zoo.plugins import plugins

if TYPE_CHECKING:
    from shared.model import Model

FILES = ("config.json", "model.safetensors")
_PASSED = ("variant", "configs", "statistics", "classes")
"""What importers are told by name, beside settings of their own."""


def import_model(
    entry: ModelEntry, family: str, variant: str | None, path: Path, config: ImportConfig
) -> "Model":
    """Read the authors' files.

    Args:
        entry: Of the family.
        family: Name of the model.
        variant: None: as the file's content says.
        path: File or folder.
        config: The rest.

    Raises:
        ConfigError: No files of this model can be imported, they do not tell which variant they
            are, or a setting that the importer does not have.
        WeightsError: The files are damaged or of another model.
    """
    importer = find_importer(entry, family)
    given = {"statistics": config.statistics, "classes": config.classes}
    settings = {k: v for k, v in given.items() if v is not None} | config.settings
    if clash := [key for key in config.settings if key in _PASSED]:
        raise ConfigError(f"settings.{clash[0]} is no setting of an import of its own.")
    told: dict[str, Any] = {"variant": variant}
    if "configs" in inspect.signature(importer).parameters:
        told["configs"] = {v: load_group("model", file) for v, file in entry.variants.items()}
    if config.statistics is not None:
        settings["statistics"] = Path(config.statistics).expanduser()
    registries = plugins().registries
    check_settings(importer, (path, registries), settings | told, f"The import of {family}")
    model: Model = importer(path, registries, **settings, **told)
    return model


def import_files(
    entry: ModelEntry,
    family: str,
    variant: str | None,
    path: Path,
    config: ImportConfig,
    origin: str,
) -> "tuple[Model, Path]":
    """Read the authors' files and write a model folder, whole or not at all.

    Args:
        entry, family, variant, path, config: As of `import_model`.
        origin: Where the files come from, for the card.

    Returns:
        The model, and the folder it was written to.

    Raises:
        ConfigError: As `import_model`, or the folder is not empty.
        WeightsError: As `import_model`.
    """
    out = None if config.out is None else Path(config.out).expanduser()
    if out is None and variant is not None:
        out = cache_folder(family, variant)
    if out is not None:
        refuse_to_overwrite(out)
    model = import_model(entry, family, variant, path, config)
    folder = out or cache_folder(family, model.config.name.partition(":")[2])
    with atomic_folder(folder) as temporary:
        model.save(temporary, _card(model, entry, family, origin, config))
    return model, folder


def find_importer(entry: ModelEntry, family: str) -> Callable[..., Any]:
    """The function that reads the authors' files of a family.

    Raises:
        ConfigError: It has none.
        PluginError: It cannot be imported.
    """
    if not entry.importer:
        raise ConfigError(
            f"{family} has no importer of other people's weights; these have one: "
            f"{families_with('importer')}. A model folder of the zoo is loaded by its path."
        )
    return resolve(entry.importer, f"The importer of {family}")


def resolve(reference: str, who: str) -> Callable[..., Any]:
    """The function behind `module:attribute`.

    Raises:
        PluginError: There is none.
    """
    module, _, attribute = reference.partition(":")
    try:
        found: Callable[..., Any] = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"{who}, {reference}, fails: {error}.") from error
    return found


def families_with(field: str) -> str:
    """Names of the models whose entry has an `importer` or an `exporter`."""
    registry, having = plugins().registries.models, []
    for entry in registry:
        try:
            if getattr(registry.get(entry.name), field):
                having.append(entry.name)
        except PluginError:
            continue
    return ", ".join(having) or "none"


def _card(model: "Model", entry: ModelEntry, family: str, origin: str, config: ImportConfig) -> str:
    """The card of the family, and what is particular to this copy."""
    from shared.cards import input_table

    path = card_path(family)
    text = path.read_text(encoding="utf-8") if path else f"# {family}\n"
    settings = "".join(f", with {key}={value}" for key, value in config.settings.items())
    return f"""{text.rstrip()}

## This copy

`{model.config.name}`, imported from {origin}{settings}; fingerprint `{model.fingerprint()}`.
It takes {samples_taken(entry, config)}:

{input_table(model.schemas)}
"""


def samples_taken(entry: ModelEntry, config: ImportConfig) -> str:
    """In words, whether an imported model prepares samples itself."""
    if entry.statistics and config.statistics is None:
        return "samples that are preprocessed already"
    return "samples as measured"


def fetch_upstream(entry: ModelEntry, family: str, variant: str) -> Path:
    """Download the authors' weights and statistics, import them into the cache.

    Raises:
        WeightsError: They cannot be had; the message says what to fetch and where to put it.
    """
    source, statistics = entry.upstream[variant], entry.statistics.get(variant)
    if offline():
        raise _not_to_be_had(entry, family, variant, "ZOO_OFFLINE forbids the network")
    try:
        weights = _download_upstream(source)
        config = ImportConfig()
        if statistics is not None:
            config.statistics = str(_download_upstream(statistics))
    except Exception as error:  # the hub's client raises many kinds; each means "not to be had"
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise _not_to_be_had(entry, family, variant, f"the hub says {reason}") from error
    return import_files(entry, family, variant, weights, config, f"`{source.repo}`")[1]


def _download_upstream(source: HubSource) -> Path:
    """The one file of a source, or the folder of several."""
    folder = zoo_home() / "upstream" / source.repo
    download(source, source.files or FILES, folder)
    return folder / source.files[0] if len(source.files) == 1 else folder


def download(source: HubSource, files: Sequence[str], folder: Path) -> None:
    """Fetch files of a repository of the hub into a folder; raises what the hub's client does."""
    from huggingface_hub import snapshot_download

    snapshot_download(
        source.repo,
        repo_type=source.repo_type,
        revision=source.revision or None,
        allow_patterns=list(files),
        local_dir=folder,
    )


def _not_to_be_had(entry: ModelEntry, family: str, variant: str, reason: str) -> WeightsError:
    source, statistics = entry.upstream[variant], entry.statistics.get(variant)
    fetch = f"{' and '.join(source.files or FILES)} of the hub's {source.repo}"
    command = f"zoo import {family}:{variant} {'FILE' if len(source.files) == 1 else 'FOLDER'}"
    if statistics is not None:
        fetch += f", and {statistics.files[0]} of its dataset {statistics.repo}"
        command += f" statistics={Path(statistics.files[0]).name}"
    return WeightsError(
        f"{family}:{variant} is not in the cache, and {reason}. Fetch {fetch}; then `{command}` "
        f"puts the model into {cache_folder(family, variant)}. Or train one: "
        f"{entry.train_command(variant)}; or ask for fresh weights by weights='random'."
    )
