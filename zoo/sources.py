"""What a model name and a data name stand for: an embedder, a dataset, what is known of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.errors import ConfigError
from zoo.config import load_yaml
from zoo.loading import find_model, is_path, load
from zoo.options import EmbedConfig, EvalConfig
from zoo.paths import offline, zoo_home
from zoo.plugins import plugins
from zoo.progress import rows_progress

if TYPE_CHECKING:
    from shared.evaluation.embeddings.embedding_set import EmbeddingSet
    from shared.evaluation.embeddings.extract import Embedder
    from shared.model import Model


@dataclass(frozen=True)
class Source:
    """What a model name stands for, and what is known from the run that made it; `model` where it
    is one of ours."""

    embedder: "Embedder"
    domain: str | None
    data: Mapping[str, Any] | None
    model: "Model | None" = None


def open_source(model: Any, config: EmbedConfig | EvalConfig) -> Source:
    """The embedder behind a name or object."""
    from shared.evaluation.embeddings.extract import ZooEmbedder
    from shared.model import Model

    options = (config.output, config.device, config.precision, config.modalities)
    if not isinstance(model, str) and config.weights is not None:
        raise ConfigError("weights=… goes with a name: an object has its weights.")
    if isinstance(model, Model):
        domain = _domain_of(model)
        return Source(ZooEmbedder(model, model.config.name, *options), domain, None, model)
    if isinstance(model, Path):
        model = f"{model}/"
    from shared.evaluation.foreign import callable_embedder, foreign_embedder, is_foreign

    modality = config.modalities[0] if config.modalities else None
    if callable(model):
        return Source(callable_embedder(model, modality), None, None)
    if is_foreign(model):
        embedder = foreign_embedder(
            model,
            weights=config.weights,
            device=config.device,
            precision=config.precision,
            modality=modality,
            offline=offline(),
        )
        return Source(embedder, None, None)
    loaded = load(model, weights=config.weights, encoders=config.modalities)
    embedder = ZooEmbedder(loaded, model, *options)
    if is_path(model):
        run = run_behind(Path(model))
        return Source(embedder, run.get("domain"), run.get("data"), loaded)
    entry, _ = find_model(model)
    domain = plugins().registries.models.entry(model.partition(":")[0]).domain
    return Source(embedder, domain, entry.data, loaded)


def _domain_of(model: "Model") -> str:
    """The domain that registered the name of a model, else its first encoder."""
    models = plugins().registries.models
    if (name := model.config.name.partition(":")[0]) in models:
        return models.entry(name).domain
    part = next(iter(model.config.modalities.values())).encoder
    return plugins().registries.encoders.entry(part["name"]).domain


def run_behind(folder: Path) -> dict[str, Any]:
    """The config of the run whose model this is; empty where it was moved away from its run."""
    for candidate in (folder / "config.yaml", folder.resolve().parent / "config.yaml"):
        if candidate.is_file():
            return load_yaml(candidate)
    return {}


def resolve_data(data: Any, known: Mapping[str, Any] | None, name: str) -> Dataset:
    """The data asked for, else those known from the run behind the model of that name; of the
    latter `on_error` alone can be another one, since the split has to stay."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, str):
        data = {"name": data}
    if not data or set(data) == {"on_error"}:
        if not known:
            raise ConfigError(
                f"{name} comes without data: choose some by data=NAME data.root=PATH "
                "(`zoo list datasets`)."
            )
        data = {**known, **(data or {})}
    return build_dataset(data, plugins().registries)


def extract_from(
    source: Source, samples: Dataset, config: EmbedConfig | EvalConfig
) -> "EmbeddingSet":
    from shared.evaluation.embeddings.extract import extract

    return extract(
        source.embedder,
        samples,
        batch_size=config.batch_size,
        cache=zoo_home() / "embeddings" if config.cache else None,
        progress=rows_progress,
    )
