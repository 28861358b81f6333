"""One training run, from config to model folder."""

import json
import os
import platform
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.utilities import rank_zero_only
from numpy.typing import NDArray
from omegaconf import OmegaConf
from rich.console import Console

from shared.cards import render_card
from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.data.prepared import PreparedDataset, Progress
from shared.data.skipping import FILE as SKIPPED_FILE
from shared.data.skipping import describe_skipped, save_skipped, skipped_of
from shared.data.subsample import subsample
from shared.errors import ConfigError, DataError, WeightsError
from shared.files import atomic_path, write_json
from shared.model import Model
from shared.registry import Registries
from shared.training.build import build_passes, build_runner
from shared.training.checkpoints import Checkpoints, saved_step
from shared.training.checks import check_config
from shared.training.config import InitConfig, TrainConfig
from shared.training.module import PretrainModule
from shared.training.probe import OnlineProbe
from shared.training.progress import TrainingProgress
from shared.training.runner import Runner
from shared.training.trainer import Loaders, build_trainer
from shared.weights import load_strictly, read_tensors

STATISTICS = "preprocessing.json"
"""In a run folder: what the preprocessing learned, by modality."""


@dataclass(frozen=True)
class TrainedRun:
    """What a run leaves.

    Attributes:
        folder: The run folder.
        model: With the selected weights, in eval mode.
        dataset: What it was trained on.
        epochs: Epochs done.
        best_epoch: The epoch (from 1) whose weights were kept.
        is_main: Whether this process is the one that reports.
    """

    folder: Path
    model: Model
    dataset: Dataset
    epochs: int
    best_epoch: int
    is_main: bool


class Interrupted(KeyboardInterrupt):
    """Ctrl-C during training.

    Attributes:
        folder: The run folder.
        can_resume: Whether it has a checkpoint to go on from.
    """

    def __init__(self, folder: Path, can_resume: bool) -> None:
        super().__init__()
        self.folder, self.can_resume = folder, can_resume

    def __str__(self) -> str:
        if self.can_resume:
            return f"interrupted; go on with: zoo train resume={shlex.quote(str(self.folder))}"
        return f"interrupted before the first checkpoint; {self.folder} cannot be resumed"


def train(
    config: TrainConfig,
    registries: Registries,
    folder: Path,
    console: Console,
    progress: Progress,
    resume: bool = False,
) -> TrainedRun:
    """Run a training to its end, or go on with one that was interrupted.

    Args:
        config: Everything; saved as `config.yaml` in the folder.
        registries: Where names are found.
        folder: Run folder; empty or absent unless resuming.
        console: Where progress is printed.
        progress: Progress bar for reading the data.
        resume: Continue from `checkpoints/last.ckpt`.

    Raises:
        ZooError: Anything a user can cause, before anything is written where possible.
    """
    main = getattr(rank_zero_only, "rank", 0) in (None, 0)
    if not main:
        console = Console(quiet=True)
    check_config(config, registries)
    dataset = build_dataset(config.data, registries)
    # the checkpoint of a resumed run holds its weights
    start = replace(config, init=InitConfig()) if resume else config
    runner = build_runner(start, dataset, registries)
    splits = choose_rows(dataset, config)
    data = PreparedDataset(
        dataset, runner.model.preprocessors, config.seed, config.loader.in_memory
    )
    _announce(config, dataset, runner, splits, console)
    kept = _read_statistics(folder, runner.model) if resume else runner.start.statistics
    data.fit_preprocessors(splits["train"].tolist(), progress, kept)
    # a sample that cannot be read speaks now, also one that is only judged at the end
    data.load(sorted(np.concatenate(list(splits.values())).tolist()), progress)
    for line in describe_skipped(skipped_of(dataset)):
        console.print(line, highlight=False, markup=False)

    loaders = Loaders(config, data, splits)
    guard = {
        "seed": config.seed,
        "data fingerprint": dataset.fingerprint,
        "batch_size": config.loader.batch_size,
        "number of processes": config.trainer.devices * config.trainer.num_nodes,
        "total_steps": loaders.steps_per_epoch * config.trainer.max_epochs,
    }
    passes = build_passes(config.passes)
    passes.check(runner)
    module = PretrainModule(runner, passes, config, guard)
    if config.trainer.compile:
        runner.compile_encoders()
    if main:
        _record(folder, config, dataset, runner.model)
    checkpoints = Checkpoints(
        folder / "checkpoints", config.selection, config.trainer.checkpoint_every_n_steps
    )
    callbacks: list[pl.Callback] = []
    if config.online_probe and len(dataset.classes) > 1:
        callbacks.append(OnlineProbe(len(dataset.classes)))
    callbacks += [checkpoints, TrainingProgress(console)]
    step = saved_step(checkpoints.last) if resume else None
    trainer = build_trainer(config, folder, callbacks, step)
    try:
        trainer.fit(
            module,
            datamodule=loaders,
            ckpt_path=str(checkpoints.last) if resume else None,
            weights_only=True,
        )
    except SystemExit as error:
        # what Lightning makes of Ctrl-C
        raise Interrupted(folder, checkpoints.last.exists()) from error
    except ConfigError:
        # a setting that shows itself wrong only in training, such as selection.monitor
        if main and not resume and not checkpoints.best.exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise
    if checkpoints.best.exists():
        best = read_tensors(checkpoints.best)
        load_strictly(runner.published, best, str(checkpoints.best))
    model = runner.published.cpu().eval()
    epochs = trainer.current_epoch
    best_epoch = epochs if checkpoints.best_epoch is None else checkpoints.best_epoch + 1
    if main:
        model.save(folder / "model", render_card(model, dataset, config, best_epoch))
    return TrainedRun(folder, model, dataset, epochs, best_epoch, main)


def choose_rows(dataset: Dataset, config: TrainConfig) -> dict[str, NDArray[np.int64]]:
    """Rows of every split; of train and val those that `loader.label_fraction` leaves. The test
    split is never reduced, so that scores at different fractions are of the same rows (AstroM3's
    published subsets reduce it, too).

    Raises:
        DataError: No sample to train or to validate on.
    """
    splits = {split: dataset.indices(split) for split in ("train", "val", "test")}
    for split in ("train", "val"):
        rows = splits[split]
        if len(rows) == 0:
            raise DataError(f"{dataset.name} has no sample in the {split} split.")
        if config.loader.label_fraction < 1:
            kept = subsample(dataset.labels[rows], config.loader.label_fraction, config.seed)
            splits[split] = rows[kept]
    return splits


def _announce(
    config: TrainConfig,
    dataset: Dataset,
    runner: Runner,
    splits: Mapping[str, NDArray[np.int64]],
    console: Console,
) -> None:
    model = runner.model
    kind = "synthetic data" if dataset.synthetic else "data"
    console.print(f"{kind} [bold]{dataset.title}[/]: {len(dataset)} samples", highlight=False)
    counts = ", ".join(f"{split} {len(rows)}" for split, rows in splits.items())
    console.print(f"splits: {counts}; fingerprint {dataset.fingerprint}", highlight=False)
    if (fraction := config.loader.label_fraction) < 1:
        console.print(
            f"labels: {fraction:.3g} of train and val, large classes cut", highlight=False
        )
    parameters = sum(p.numel() for p in model.parameters())
    console.print(
        f"model [bold]{config.model['name']}[/]: {', '.join(model.modalities)}; "
        f"{parameters:,} parameters; objectives {', '.join(config.objective)}",
        highlight=False,
    )
    left_out = [m for m in config.model["modalities"] if m not in model.modalities]
    if left_out:
        why = "since the data lack them" if config.modalities is None else "by modalities=…"
        console.print(f"not trained, {why}: {', '.join(left_out)}", highlight=False)
    if runner.untrained:
        parts = ", ".join(runner.untrained)
        console.print(f"not trained, since no objective reads them: {parts}", highlight=False)
    for line in runner.start.lines():
        console.print(line, highlight=False)


def _read_statistics(folder: Path, model: Model) -> tuple[str, ...]:
    """Give the preprocessing of a resumed run what it had learned.

    Returns:
        The modalities that have it.
    """
    path = folder / STATISTICS
    try:
        states = json.loads(path.read_text(encoding="utf-8"))
        for modality, preprocessor in model.preprocessors.items():
            preprocessor.load_state(states[modality])
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path} is missing or damaged ({type(error).__name__}: {error}), so the run cannot be "
            "continued exactly. Start it anew."
        ) from error
    return model.modalities


def _record(folder: Path, config: TrainConfig, dataset: Dataset, model: Model) -> None:
    """Write what it takes to make the run again."""
    write_json(folder / STATISTICS, {m: p.state() for m, p in model.preprocessors.items()})
    save_skipped(folder / SKIPPED_FILE, skipped_of(dataset))
    with atomic_path(folder / "config.yaml") as temporary:
        OmegaConf.save(OmegaConf.create(asdict(config)), temporary)
    write_json(
        folder / "environment.json",
        {
            "dataset": dataset.title,
            "data_fingerprint": dataset.fingerprint,
            "synthetic": dataset.synthetic,
            "seed": config.seed,
            "parameters": sum(p.numel() for p in model.parameters()),
            "command": sys.argv,
            "python": platform.python_version(),
            "platform": platform.platform(),
            "threads": torch.get_num_threads(),
            "versions": package_versions(),
            "slurm_job": os.environ.get("SLURM_JOB_ID"),
        },
    )


def package_versions() -> dict[str, str]:
    """Versions of what the numbers of a run depend on."""
    found = {}
    for name in ("domain-zoo", "torch", "lightning", "numpy", "scikit-learn", "hydra-core"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
