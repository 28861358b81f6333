"""Models of ours → files that other programs load."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError
from shared.files import atomic_folder, refuse_to_overwrite
from shared.model_entry import ModelEntry
from zoo.importing import families_with, resolve
from zoo.loading import load
from zoo.plugins import plugins

if TYPE_CHECKING:
    from shared.model import Model


def export(
    model: "str | Path | Model", folder: str | Path, *, format: str = "transformers", **options: Any
) -> Path:
    """Write a model as another program reads it: `CLIPModel.from_pretrained(folder)`.

    Args:
        model: What `zoo.load` takes, or a loaded model.
        folder: Where to; it must not be there, or be empty.
        format: `transformers`, or what else the exporter of the model's family offers.
        **options: Of `zoo.load`, for a name.

    Returns:
        The folder.

    Raises:
        ConfigError: The model cannot be written in this format, or something is in the folder.
        WriteError: It cannot be written; nothing is left then.
    """
    from shared.model import Model

    folder = Path(folder).expanduser()
    refuse_to_overwrite(folder)
    loaded = model if isinstance(model, Model) else load(model, **options)
    exporter = _exporter(loaded.config.name)
    with atomic_folder(folder) as temporary:
        exporter(loaded, temporary, format)
    return folder


def _exporter(name: str) -> Any:
    family = name.partition(":")[0]
    registry = plugins().registries.models
    entry: ModelEntry | None = registry.get(family) if family in registry else None
    if entry is None or not entry.exporter:
        raise ConfigError(
            f"{name} cannot be written for other programs; models of these families can: "
            f"{families_with('exporter')}."
        )
    return resolve(entry.exporter, f"The exporter of {family}")
