"""The verbs of the command line as functions: train, embed, predict, evaluate."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.errors import ConfigError
from shared.training.config import TrainConfig
from zoo.config import compose_config, load_yaml, typed
from zoo.loading import fetch_weights, find_model, is_path, load
from zoo.options import EmbedConfig, EvalConfig, PredictConfig
from zoo.paths import offline, zoo_home
from zoo.plugins import check_usable, plugins
from zoo.progress import console, rows_progress

if TYPE_CHECKING:
    from shared.evaluation.embedding_set import EmbeddingSet
    from shared.evaluation.evaluator import Evaluator
    from shared.evaluation.extract import Embedder
    from shared.evaluation.run import Evaluation
    from shared.model import Model
    from shared.prediction import Predictions
    from shared.training.run import TrainedRun

RUN_FOLDER_VARIABLE = "ZOO_RUN_FOLDER"


def dataset(name: str, **settings: Any) -> Dataset:
    """A registered dataset: `zoo.dataset("star_folder", root="my-stars")`.

    Raises:
        UnknownNameError: No such dataset.
        ConfigError: A setting that it does not have.
    """
    return build_dataset({"name": name, **settings}, plugins().registries)


def train(*overrides: str) -> "TrainedRun":
    """Train as `zoo train` does: `zoo.train("domain=astro", "trainer.max_epochs=5")`.

    Raises:
        ZooError: In anything the overrides name.
        Preempted: SIGTERM or SIGUSR1 has stopped it; the message says how to go on.
    """
    return run_training(train_config(overrides), overrides)


def train_config(overrides: Sequence[str]) -> TrainConfig:
    """The checked config of a run, or the saved one for `resume=RUN`."""
    resumed = [o.removeprefix("resume=") for o in overrides if o.startswith("resume=")]
    if resumed:
        if len(overrides) > 1:
            raise ConfigError("resume=RUN goes alone: an interrupted run keeps its settings.")
        return typed(TrainConfig, load_yaml(Path(resumed[0]) / "config.yaml"))
    data = compose_config("train", overrides)
    config = typed(TrainConfig, data)
    check_usable(config.domain)
    # the run is evaluated and resumed from other folders too
    for node, key in ((config.data, "root"), *((o, "teacher") for o in config.objective.values())):
        if isinstance(path := node.get(key), str):
            node[key] = str(Path(path).expanduser().absolute())
    if config.init.weights is not None:
        config.init.weights = str(_initial_folder(config.init.weights))
    return config


def _initial_folder(name: str) -> Path:
    """The folder that a path or the name of a published model stands for."""
    path = Path(name).expanduser()
    if is_path(name) or path.exists():
        # the run is resumed from other folders too
        return path.absolute()
    entry, variant = find_model(name)
    return fetch_weights(name.partition(":")[0], entry, variant)


def run_training(config: TrainConfig, overrides: Sequence[str]) -> "TrainedRun":
    """Train with a config; `resume=RUN` among the overrides goes on with that run."""
    from shared.training.launcher import ending_with_launcher
    from shared.training.run import train as run

    resume = any(o.startswith("resume=") for o in overrides)
    folder = Path(overrides[0].removeprefix("resume=")) if resume else _run_folder(config)
    if config.trainer.devices * config.trainer.num_nodes > 1:
        os.environ[RUN_FOLDER_VARIABLE] = str(folder.absolute())
    try:
        with ending_with_launcher(folder):
            return run(config, plugins().registries, folder, console(), rows_progress, resume)
    finally:
        os.environ.pop(RUN_FOLDER_VARIABLE, None)


def _run_folder(config: TrainConfig) -> Path:
    """The folder of a new run: processes that the first one starts have it from the environment;
    those that somebody else starts have to be told, and the first one finds it empty."""
    from shared.distributed import started_rank

    if inherited := os.environ.get(RUN_FOLDER_VARIABLE):
        return Path(inherited)
    devices, num_nodes = config.trainer.devices, config.trainer.num_nodes
    others_start = num_nodes > 1 or any(name in os.environ for name in ("RANK", "LOCAL_RANK"))
    if devices * num_nodes > 1 and others_start:
        if config.run_folder is None:
            raise ConfigError(
                "run_folder is missing: processes that are started one by one (torchrun, srun, "
                "trainer.num_nodes) cannot agree on one. Give all of them the same run_folder=PATH."
            )
        if started_rank(devices, num_nodes) > 0:
            return Path(config.run_folder)
    return new_folder(config.run_folder, f"{config.domain}-{config.data.get('name')}")


def new_folder(chosen: str | None, name: str) -> Path:
    """An absent or empty folder; what a killed process was just writing there does not count."""
    from shared.run_folder import LOCK, leftovers

    folder = Path(chosen or f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    passing = {folder / LOCK, *leftovers(folder)}
    if folder.exists() and (not folder.is_dir() or {*folder.iterdir()} - passing):
        raise ConfigError(
            f"run_folder={folder} exists and is not empty: nothing is overwritten. Choose another, "
            f"or go on with an interrupted run by `zoo train resume={folder}`."
        )
    return folder


@dataclass(frozen=True)
class _Source:
    """What a model name stands for, and what is known from the run that made it; `model` where it
    is one of ours."""

    embedder: "Embedder"
    domain: str | None
    data: Mapping[str, Any] | None
    model: "Model | None" = None


def embed(
    model: "str | Model | Callable[[list[Any]], Any]",
    data: str | Mapping[str, Any] | Dataset | None = None,
    **options: Any,
) -> "EmbeddingSet":
    """Embeddings of a whole dataset, with ids, labels and splits.

    Args:
        model: What `zoo.load` takes, a loaded model, `timm:NAME`, `transformers:NAME`,
            `python:module:function`, or a function from a list of raw inputs to an (n, d) array.
        data: A dataset, its registered name, or a mapping with `name` and its settings; None: the
            data of the run behind the model.
        **options: See `zoo.options.EmbedConfig`.

    Raises:
        ZooError: In anything the arguments name.
    """
    if "out" in options:
        raise ConfigError("zoo.embed returns the embeddings: save them by .save(path).")
    name = model if isinstance(model, str) else "model"
    config = typed(EmbedConfig, {"model": name, **options})
    source = _open(model, config)
    return _extract(source, _resolve_data(data, source.data, source.embedder.name), config)


def predict(
    model: "str | Path | Model",
    data: str | Mapping[str, Any] | Dataset | None = None,
    **options: Any,
) -> "Predictions":
    """Classes of a whole dataset by a model with a classifier.

    Args:
        model: What `zoo.load` takes, or a loaded model.
        data: As in `embed`.
        **options: See `zoo.options.PredictConfig`.

    Returns:
        Ids, probabilities, labels, splits and presence as arrays; `.save(path)` writes a table.

    Raises:
        ZooError: In anything the arguments name, or no classifier.
    """
    from shared.inference import require_classifier
    from shared.model import Model
    from shared.prediction import predict_dataset

    if "out" in options:
        raise ConfigError("zoo.predict returns the predictions: save them by .save(path).")
    name = model.config.name if isinstance(model, Model) else str(model)
    config = typed(PredictConfig, {"model": name, **options})
    if isinstance(model, Model):
        if config.weights is not None:
            raise ConfigError("weights=… goes with a name: an object has its weights.")
        loaded, known = model, None
    else:
        path = model if isinstance(model, Path) or is_path(model) else None
        loaded = load(model, weights=config.weights)
        known = _run_behind(Path(path)).get("data") if path else find_model(name)[0].data
    require_classifier(loaded, name)
    return predict_dataset(
        loaded,
        _resolve_data(data, known, name),
        name,
        split=config.split,
        modalities=config.modalities,
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,  # type: ignore[arg-type]
        progress=rows_progress,
    )


def evaluate(
    model: "str | Model | Callable[[list[Any]], Any] | EmbeddingSet",
    data: str | Mapping[str, Any] | Dataset | None = None,
    **options: Any,
) -> "Evaluation":
    """Judge a model on labelled data with intervals and baselines.

    Args:
        model: As in `embed`, or an `EmbeddingSet`.
        data: As in `embed`.
        **options: See `zoo.options.EvalConfig`.

    Returns:
        An object with `results`; save them with `zoo eval` or `shared.evaluation.results`.

    Raises:
        ZooError: In anything the arguments name.
    """
    from rich.text import Text

    from shared.evaluation.classifier import NAME as CLASSIFIER
    from shared.evaluation.classifier import classify_subsets
    from shared.evaluation.embedding_set import SPLIT, EmbeddingSet
    from shared.evaluation.evaluator import Drawing
    from shared.evaluation.extract import simple_features
    from shared.evaluation.projection import check_projection
    from shared.evaluation.run import evaluate_arrays

    for option in ("model", "data", "embeddings"):
        if option in options:
            raise ConfigError(f"{option} is the first or second argument of zoo.evaluate.")
    config = typed(EvalConfig, options)
    check_projection(config.map)
    protocols: Sequence[str] | None = config.protocols
    samples = classified = None
    if isinstance(model, EmbeddingSet):
        for option in ("weights", "output", "device", "precision"):
            if option in options:
                raise ConfigError(f"{option} says how to embed; these are embeddings already.")
        evaluator = _evaluator(config.evaluator, None)
        embeddings, simple = model.select(config.modalities), None
    else:
        source = _open(model, config)
        samples = _resolve_data(data, source.data, source.embedder.name)
        evaluator = _evaluator(config.evaluator, source.domain)
        embeddings = _extract(source, samples, config)
        simple = simple_features(evaluator, samples, embeddings.modalities, rows_progress)
        if source.model is not None and source.model.classifier is not None:
            protocols = protocols or (CLASSIFIER, *evaluator.protocols)
            if CLASSIFIER in protocols:
                classified = classify_subsets(
                    source.model,
                    samples,
                    embeddings.modalities,
                    split=SPLIT,
                    batch_size=config.batch_size,
                    device=config.device,
                    precision=config.precision,  # type: ignore[arg-type]
                    progress=rows_progress,
                )
    with console().status("judging") as status:
        evaluation = evaluate_arrays(
            embeddings,
            protocols=protocols or evaluator.protocols,
            simple_features=simple,
            classified=classified,
            seed=config.seed,
            n_resamples=config.n_resamples,
            progress=lambda what, done, total: status.update(Text(f"{what} ({done} of {total})")),
        )
    return replace(evaluation, drawing=Drawing(config.map, samples, evaluator.thumbnails))


def _open(model: Any, config: EmbedConfig | EvalConfig) -> _Source:
    """The embedder behind a name or object."""
    from shared.evaluation.extract import ZooEmbedder
    from shared.model import Model

    options = (config.output, config.device, config.precision, config.modalities)
    if not isinstance(model, str) and config.weights is not None:
        raise ConfigError("weights=… goes with a name: an object has its weights.")
    if isinstance(model, Model):
        domain = _domain_of(model)
        return _Source(ZooEmbedder(model, model.config.name, *options), domain, None, model)
    if isinstance(model, Path):
        model = f"{model}/"
    from shared.evaluation.foreign import callable_embedder, foreign_embedder, is_foreign

    modality = config.modalities[0] if config.modalities else None
    if callable(model):
        return _Source(callable_embedder(model, modality), None, None)
    if is_foreign(model):
        embedder = foreign_embedder(
            model,
            weights=config.weights,
            device=config.device,
            precision=config.precision,
            modality=modality,
            offline=offline(),
        )
        return _Source(embedder, None, None)
    loaded = load(model, weights=config.weights, encoders=config.modalities)
    embedder = ZooEmbedder(loaded, model, *options)
    if is_path(model):
        run = _run_behind(Path(model))
        return _Source(embedder, run.get("domain"), run.get("data"), loaded)
    entry, _ = find_model(model)
    domain = plugins().registries.models.entry(model.partition(":")[0]).domain
    return _Source(embedder, domain, entry.data, loaded)


def _domain_of(model: "Model") -> str:
    """The domain that registered the first encoder of a model."""
    part = next(iter(model.config.modalities.values())).encoder
    return plugins().registries.encoders.entry(part["name"]).domain


def _run_behind(folder: Path) -> dict[str, Any]:
    """The config of the run whose model this is; empty where it was moved away from its run."""
    for candidate in (folder / "config.yaml", folder.resolve().parent / "config.yaml"):
        if candidate.is_file():
            return load_yaml(candidate)
    return {}


def _resolve_data(data: Any, known: Mapping[str, Any] | None, name: str) -> Dataset:
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


def _extract(source: _Source, samples: Dataset, config: EmbedConfig | EvalConfig) -> "EmbeddingSet":
    from shared.evaluation.extract import extract

    return extract(
        source.embedder,
        samples,
        batch_size=config.batch_size,
        cache=zoo_home() / "embeddings" if config.cache else None,
        progress=rows_progress,
    )


def _evaluator(name: str | None, domain: str | None) -> "Evaluator":
    """The evaluator asked for, else the first one of the domain, else the default."""
    registry = plugins().registries.evaluators
    if name is None:
        own = [e.name for e in registry if e.domain == domain]
        name = own[0] if own else "default"
    evaluator: Evaluator = registry.get(name)
    return evaluator


def evaluate_config(config: EvalConfig) -> "Evaluation":
    """`evaluate` with the typed config of `zoo eval`."""
    from shared.evaluation.embedding_set import EmbeddingSet

    given = EvalConfig()
    options = {k: v for k, v in asdict(config).items() if v != getattr(given, k)}
    model, data, file = (options.pop(key, None) for key in ("model", "data", "embeddings"))
    if (model is None) == (file is None):
        raise ConfigError("zoo eval takes model=NAME or embeddings=FILE, one of the two.")
    if file is not None:
        if data:
            raise ConfigError("embeddings=FILE brings its own labels: drop data=…")
        return evaluate(EmbeddingSet.load(file), **options)
    return evaluate(model, data or None, **options)
