"""Weights in the format of their authors → model folders of ours."""

import importlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError, PluginError, WeightsError, first_line
from shared.model_entry import HubSource, ModelEntry
from zoo.catalog import card_path
from zoo.options import ImportConfig
from zoo.paths import cache_folder, offline, zoo_home
from zoo.plugins import plugins

if TYPE_CHECKING:
    from shared.model import Model

FILES = ("config.json", "model.safetensors")


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
        entry: Of the family.
        family: Name of the model.
        variant: None: as the file's content says.
        path: File or folder.
        config: The rest.
        origin: Where the files come from, for the card.

    Returns:
        The model, and the folder it was written to.

    Raises:
        ConfigError: No files of this model can be imported, or the folder is not empty.
        WeightsError: The files are damaged or of another model.
    """
    if not entry.importer:
        having = [e.name for e in plugins().registries.models if _can_import(e.name)]
        raise ConfigError(
            f"{family} has no importer of other people's weights; these have one: "
            f"{', '.join(having) or 'none'}. A model folder of the zoo is loaded by its path."
        )
    module, _, attribute = entry.importer.partition(":")
    try:
        importer = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise PluginError(f"The importer of {family}, {entry.importer}, fails: {error}.") from error
    if config.out is not None:
        _refuse_to_overwrite(Path(config.out).expanduser())
    elif variant is not None:
        _refuse_to_overwrite(cache_folder(family, variant))
    statistics = None if config.statistics is None else Path(config.statistics).expanduser()
    model: Model = importer(
        path,
        plugins().registries,
        variant=variant,
        statistics=statistics,
        classes=config.classes,
    )
    folder = cache_folder(family, model.config.name.partition(":")[2])
    if config.out is not None:
        folder = Path(config.out).expanduser()
    _refuse_to_overwrite(folder)
    _save(model, folder, _card(model, family, origin, statistics is not None))
    return model, folder


def _can_import(name: str) -> bool:
    try:
        entry: ModelEntry = plugins().registries.models.get(name)
    except PluginError:
        return False
    return bool(entry.importer)


def _refuse_to_overwrite(folder: Path) -> None:
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(
            f"{folder} exists and is not empty: nothing is overwritten. Remove it, or choose "
            "another by out=FOLDER."
        )


def _save(model: "Model", folder: Path, card: str) -> None:
    """Write beside the folder and rename, so that nobody finds a half-written model."""
    from shared.files import make_folder

    make_folder(folder.parent)
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        model.save(temporary, card)
        if folder.is_dir():
            folder.rmdir()
        temporary.rename(folder)
    except OSError as error:
        raise WeightsError(f"{folder} cannot be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _card(model: "Model", family: str, origin: str, with_statistics: bool) -> str:
    """The card of the family, and what is particular to this copy."""
    from shared.cards import input_table

    path = card_path(family)
    text = path.read_text(encoding="utf-8") if path else f"# {family}\n"
    takes = "samples as measured" if with_statistics else "samples that are preprocessed already"
    return f"""{text.rstrip()}

## This copy

`{model.config.name}`, imported from {origin}; fingerprint `{model.fingerprint()}`.
It takes {takes}:

{input_table(model.schemas)}
"""


def fetch_upstream(entry: ModelEntry, family: str, variant: str) -> Path:
    """Download the authors' weights and statistics, import them into the cache.

    Raises:
        WeightsError: They cannot be had; the message says what to fetch and where to put it.
    """
    source, statistics = entry.upstream[variant], entry.statistics.get(variant)
    if offline():
        raise _not_to_be_had(entry, family, variant, "ZOO_OFFLINE forbids the network")
    try:
        weights = _download(source, None)
        config = ImportConfig()
        if statistics is not None:
            config.statistics = str(_download(statistics, "dataset") / statistics.file)
    except Exception as error:  # the hub's client raises many kinds; each means "not to be had"
        reason = f"{type(error).__name__}: {first_line(error)}"
        raise _not_to_be_had(entry, family, variant, f"the hub says {reason}") from error
    return import_files(entry, family, variant, weights, config, f"`{source.repo}`")[1]


def _download(source: HubSource, kind: str | None) -> Path:
    from huggingface_hub import snapshot_download

    folder = zoo_home() / "upstream" / source.repo
    wanted: Any = [source.file] if source.file else list(FILES)
    snapshot_download(
        source.repo,
        repo_type=kind,
        revision=source.revision or None,
        allow_patterns=wanted,
        local_dir=folder,
    )
    return folder


def _not_to_be_had(entry: ModelEntry, family: str, variant: str, reason: str) -> WeightsError:
    source, statistics = entry.upstream[variant], entry.statistics.get(variant)
    fetch = f"{' and '.join(FILES)} of the hub's {source.repo}"
    command = f"zoo import {family}:{variant} FOLDER"
    if statistics is not None:
        fetch += f", and {statistics.file} of its dataset {statistics.repo}"
        command += f" statistics={Path(statistics.file).name}"
    return WeightsError(
        f"{family}:{variant} is not in the cache, and {reason}. Fetch {fetch}; then `{command}` "
        f"puts the model into {cache_folder(family, variant)}. Or train one: "
        f"{entry.train_command(variant)}; or ask for fresh weights by weights='random'."
    )
