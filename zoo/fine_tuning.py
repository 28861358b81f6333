"""Fine-tuning as a protocol: the same training with several seeds, judged as one."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from shared.data.dataset import Dataset
from shared.data.prepared import Progress, silent
from shared.errors import ConfigError
from shared.evaluation.protocols.classifier import ClassifierOutput, classify_subsets
from shared.run_folder import CONFIG
from shared.training.config import TrainConfig
from zoo.api import run_training, train_config
from zoo.config import load_yaml, typed
from zoo.loading import is_path, load
from zoo.sources import run_behind

SEEDS = (0, 1, 2)
_FIXED = ("objective=[classification]", "model.classifier={}", "evaluator=null")
_INHERITED = ("domain", "model", "data", "modalities")
"""What comes from the run behind a model, where the overrides say nothing of it."""


def fine_tune(
    model: str | Path, *overrides: str, folder: str | Path, seeds: Sequence[int] = SEEDS
) -> list[Path]:
    """Train a classifier on top of a model, once a seed.

    Each seed is a run of `zoo train objective=[classification] 'model.classifier={}'
    init.weights=MODEL seed=K` in `folder/seed-K`. Called again, it skips the finished ones and goes
    on with the one that was stopped. Where MODEL is a run, its domain, architecture, data and
    modalities are taken, as far as the overrides name no others.

    Args:
        model: A run or model folder, or a published model, as `init.weights` takes it.
        overrides: Further ones of `zoo train`, such as `trainer.max_epochs=5`.
        folder: Of the runs.
        seeds: One run each.

    Returns:
        The run folders, in the order of the seeds; `judge_runs` reads them.

    Raises:
        ConfigError: No seed, one twice, several devices, or a run of other settings is in the
            folder already.
        ZooError: Whatever `zoo train` raises.
    """
    if not seeds or len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds={list(seeds)}: give at least one, each once.")
    folders = [Path(folder) / f"seed-{seed}" for seed in seeds]
    configs = [
        _config(model, [*overrides, f"seed={seed}", f"run_folder={run}"])
        for seed, run in zip(seeds, folders, strict=True)
    ]
    for run, config in zip(folders, configs, strict=True):
        _check(run, config)
    for run, config in zip(folders, configs, strict=True):
        if is_finished(run):
            continue
        resumed = [f"resume={run}"] if (run / CONFIG).is_file() else []
        run_training(config, resumed)
    return folders


def judge_runs(
    folders: Sequence[Path],
    dataset: Dataset,
    modalities: Sequence[str],
    *,
    progress: Progress = silent,
    **options: Any,
) -> dict[int, ClassifierOutput]:
    """By seed, what the classifier of each run says of the validation and test rows; a protocol of
    them is `shared.evaluation.protocols.classifier.over_seeds`.

    Args:
        folders: Of `fine_tune`.
        dataset: The samples.
        modalities: Those that models and data share.
        progress: Wraps the iteration with a progress bar.
        **options: batch_size, device, precision of `classify_subsets`.

    Raises:
        ConfigError: A run is not finished.
    """
    outputs = {}
    for folder in folders:
        if not is_finished(folder):
            raise ConfigError(
                f"{folder} is not finished: fine_tune with the same settings ends it."
            )
        seed = int(load_yaml(folder / CONFIG)["seed"])
        outputs[seed] = classify_subsets(
            load(folder), dataset, modalities, progress=progress, **options
        )
    return outputs


def is_finished(run: Path) -> bool:
    """Whether a run has come to its end: its model is written last, and at once."""
    return (run / "model" / "config.json").is_file()


def _config(model: str | Path, overrides: Sequence[str]) -> TrainConfig:
    """The config of one run."""
    name = str(model)
    is_folder = is_path(name) or Path(name).expanduser().exists()
    known = run_behind(Path(name).expanduser()) if is_folder else {}
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    said = {key.partition(".")[0] for key in keys if not key.startswith("model.classifier")}
    inherited = {k: known[k] for k in _INHERITED if k in known and k not in said}
    domain = [f"domain={inherited['domain']}"] if "domain" in inherited else []
    config = train_config([*domain, *_FIXED, f"init.weights={name}", *overrides])
    if "model" in inherited:
        inherited["model"] = {**inherited["model"], "classifier": config.model["classifier"]}
    return typed(TrainConfig, {**asdict(config), **inherited})


def _check(run: Path, config: TrainConfig) -> None:
    """Raises ConfigError for several processes, which would each start all runs, and where the
    folder has a run of other settings."""
    if config.trainer.devices * config.trainer.num_nodes > 1:
        raise ConfigError(
            "fine_tune trains in one process: leave trainer.devices and trainer.num_nodes at 1, or "
            "start the runs by `zoo train -m … seed=0,1,2`."
        )
    if not (run / CONFIG).is_file():
        return
    was, now = asdict(typed(TrainConfig, load_yaml(run / CONFIG))), asdict(config)
    # a folder that was moved holds the same run
    if changed := [key for key in now if was[key] != now[key] and key != "run_folder"]:
        raise ConfigError(
            f"{run} holds a run with another {', '.join(changed)}: nothing is overwritten. Choose "
            "another folder."
        )
