"""The verbs of the command line as functions: train, embed, predict; see also `zoo.evaluation`."""

import os
import shlex
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.errors import ConfigError
from shared.training.config import TrainConfig
from zoo.config import compose_config, load_yaml, typed
from zoo.loading import fetch_weights, find_model, is_path, load
from zoo.options import EmbedConfig, PredictConfig
from zoo.paths import absolute, make_paths_absolute, zoo_home
from zoo.plugins import check_usable, plugins
from zoo.progress import console, rows_progress
from zoo.sources import extract_from, open_source, resolve_data, run_behind

if TYPE_CHECKING:
    from shared.evaluation.embeddings.embedding_set import EmbeddingSet
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
    make_paths_absolute(config.data)
    for objective in config.objective.values():
        if isinstance(path := objective.get("teacher"), str):
            objective["teacher"] = absolute(path)
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
            return run(
                config, plugins().registries, folder, console(), rows_progress, zoo_home(), resume
            )
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


def new_folder(chosen: str | None, name: str, verb: str = "train") -> Path:
    """An absent or empty folder; what a killed process was just writing there does not count."""
    from shared.folder_lock import LOCK, leftovers

    folder = Path(chosen or f"runs/{name}-{time.strftime('%Y%m%d-%H%M%S')}")
    passing = {folder / LOCK, *leftovers(folder)}
    if folder.exists() and (not folder.is_dir() or {*folder.iterdir()} - passing):
        raise ConfigError(
            f"run_folder={folder} exists and is not empty: nothing is overwritten. Choose another, "
            f"or go on with an interrupted run by `zoo {verb} resume={shlex.quote(str(folder))}`."
        )
    return folder


def embed(
    model: "str | Model | Callable[[list[Any]], Any]",
    data: str | Mapping[str, Any] | Dataset | None = None,
    **options: Any,
) -> "EmbeddingSet":
    """Embeddings of a whole dataset, with ids, labels and splits; of images with several captions
    one row a caption, as `zoo.evaluate` reads them.

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
    source = open_source(model, config)
    samples = resolve_data(data, source.data, source.embedder.name).evaluated()
    return extract_from(source, samples, config)


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
        known = run_behind(Path(path)).get("data") if path else find_model(name)[0].data
    require_classifier(loaded, name)
    return predict_dataset(
        loaded,
        resolve_data(data, known, name),
        name,
        split=config.split,
        modalities=config.modalities,
        batch_size=config.batch_size,
        device=config.device,
        precision=config.precision,  # type: ignore[arg-type]
        progress=rows_progress,
    )
