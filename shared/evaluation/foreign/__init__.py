"""Models of other libraries as embedders, without a plugin."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError

if TYPE_CHECKING:
    from shared.evaluation.embeddings.extract import Embedder

FORMS = {
    "timm": "timm:NAME",
    "transformers": "transformers:NAME or transformers:FOLDER",
    "python": "python:module:function",
}
FOREIGN = tuple(FORMS)


def is_foreign(name: str) -> bool:
    """Whether a model name belongs to another library: its text before the first colon."""
    return name.partition(":")[0] in FOREIGN


def foreign_embedder(
    name: str,
    *,
    weights: str | None,
    device: str,
    precision: str,
    modality: str | None,
    offline: bool,
) -> "Embedder":
    """The embedder behind a foreign name.

    Args:
        name: `timm:NAME` (see `TimmEmbedder`), `transformers:NAME` or `transformers:FOLDER` (see
            `TransformersEmbedder`), or `python:module:function` (see `FunctionEmbedder`).
        weights: None: the published ones; `random`: fresh ones, given on no other condition; for
            timm also a checkpoint file.
        device: `auto`, `cpu`, `cuda`, …
        precision: `float32`, or `bfloat16` under autocast.
        modality: The modality of the dataset to embed; None: every one that the model takes.
        offline: Whether the network is forbidden; weights in the hub's local cache are still used.

    Raises:
        DependencyError: The library is not installed.
        UnknownNameError: No such model, module or function.
        WeightsError: No weights to be had, or weights that do not fit.
        ConfigError: Settings that the kind of model does not have.
    """
    library, _, rest = name.partition(":")
    if not rest:
        raise ConfigError(f"model={name}: {library} of what? Write {FORMS[library]}.")
    if library == "python":
        from shared.evaluation.foreign.function import FunctionEmbedder, import_function

        if weights is not None:
            raise ConfigError(f"{name} brings its own weights: drop weights=…")
        return FunctionEmbedder(name, import_function(name), modality)
    options: dict[str, Any] = {
        "weights": weights,
        "device": device,
        "precision": precision,
        "modality": modality,
        "offline": offline,
    }
    if library == "timm":
        from shared.evaluation.foreign.timm_model import TimmEmbedder

        return TimmEmbedder(rest, **options)
    from shared.evaluation.foreign.transformers_model import TransformersEmbedder

    return TransformersEmbedder(rest, **options)


def callable_embedder(function: Callable[[list[Any]], Any], modality: str | None) -> "Embedder":
    """A Python function `list of raw inputs → (n, d) array` as an embedder; see
    `FunctionEmbedder`."""
    from shared.evaluation.foreign.function import FunctionEmbedder

    return FunctionEmbedder(getattr(function, "__qualname__", repr(function)), function, modality)
