"""One training run, from config to model folder."""

import logging
import os
import platform
import shlex
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from omegaconf import OmegaConf
from rich.console import Console

from shared.cards import render_card
from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.data.prepared import PreparedDataset, Progress
from shared.errors import ConfigError, DataError, suggest
from shared.files import atomic_path, write_json
from shared.model import Model, resolve_device
from shared.model_config import ModelConfig
from shared.objectives.base import Objective
from shared.registry import Registries
from shared.settings import check_value
from shared.training.checkpoints import AtomicCheckpointIO, Checkpoints, saved_step
from shared.training.config import TrainConfig
from shared.training.loader import CountedLoader
from shared.training.logs import MetricsCSV
from shared.training.module import PretrainModule
from shared.training.optimization import OPTIMIZERS, SCHEDULES
from shared.training.passes import PASSES
from shared.training.probe import OnlineProbe
from shared.training.progress import TrainingProgress
from shared.training.runner import Runner
from shared.weights import load_strictly, read_tensors

PRECISIONS = {"float32": "32-true", "bfloat16": "bf16-mixed"}
ACCELERATORS = {"cuda": "gpu"}


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


def choose_modalities(config: TrainConfig, dataset: Dataset) -> tuple[str, ...]:
    """Modalities to train: those asked for, or those that both model and data have.

    Raises:
        ConfigError: One asked for is missing on a side, or none is left.
    """
    ours = tuple(ModelConfig.from_dict(config.model).modalities)
    both = tuple(m for m in ours if m in dataset.schemas)
    if config.modalities is None:
        if not both:
            raise ConfigError(
                f"The model takes {', '.join(ours)}; {dataset.name} gives "
                f"{', '.join(dataset.schemas)}: nothing in common."
            )
        return both
    for modality in config.modalities:
        if modality not in both:
            raise ConfigError(
                f"modalities: {modality!r} must be one of the model's ({', '.join(ours)}) and of "
                f"the data's ({', '.join(dataset.schemas)}). {suggest(modality, both)}"
            )
    return tuple(config.modalities)


def build_objectives(
    config: Mapping[str, Any], modalities: Sequence[str], registries: Registries
) -> tuple[dict[str, Objective], dict[str, float]]:
    """Objectives and their weights, by the name of the term in the config."""
    objectives, weights = {}, {}
    for term, node in config.items():
        settings = {k: v for k, v in node.items() if k not in ("name", "weight")}
        where = f"objective.{term}"
        objectives[term] = registries.objectives.build(node["name"], where, modalities, **settings)
        weight = node.get("weight", 1.0)
        check_value(weight, float, f"{where}.weight")
        weights[term] = float(weight)
    if not objectives:
        raise ConfigError("objective is empty: choose one, such as objective=[contrastive].")
    return objectives, weights


def build_runner(config: TrainConfig, dataset: Dataset, registries: Registries) -> Runner:
    """Model with fresh weights (a function of the seed) and objectives of a run."""
    modalities = choose_modalities(config, dataset)
    objectives, weights = build_objectives(config.objective, modalities, registries)
    node = {**config.model, "modalities": {m: config.model["modalities"][m] for m in modalities}}
    scalars = {k: v for o in objectives.values() for k, v in o.model_scalars().items()}
    torch.manual_seed(config.seed)
    model = Model.build(ModelConfig.from_dict(node), dataset.schemas, registries, scalars)
    return Runner(model, objectives, weights)


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
    _check_choices(config, registries)
    dataset = build_dataset(config.data, registries)
    runner = build_runner(config, dataset, registries)
    splits = {split: dataset.indices(split) for split in ("train", "val", "test")}
    for split in ("train", "val"):
        if len(splits[split]) == 0:
            raise DataError(f"{dataset.name} has no sample in the {split} split.")
    data = PreparedDataset(
        dataset, runner.model.preprocessors, config.seed, config.loader.in_memory
    )
    _announce(config, dataset, runner.model, console)
    data.fit_preprocessors(splits["train"].tolist(), progress)
    # a sample that cannot be read speaks now, also one that is only judged at the end
    data.load(sorted(np.concatenate(list(splits.values())).tolist()), progress)

    loaders = _Loaders(config, data, splits)
    guard = {
        "seed": config.seed,
        "data fingerprint": dataset.fingerprint,
        "batch_size": config.loader.batch_size,
        "number of processes": config.trainer.devices * config.trainer.num_nodes,
        "total_steps": loaders.steps_per_epoch * config.trainer.max_epochs,
    }
    module = PretrainModule(runner, PASSES[config.passes](), config, guard)
    if config.trainer.compile:
        for encoder in runner.model.encoders.values():
            encoder.compile()
    if main:
        _record(folder, config, dataset, runner.model)
    checkpoints = Checkpoints(
        folder / "checkpoints", config.selection, config.trainer.checkpoint_every_n_steps
    )
    trainer = _build_trainer(config, folder, checkpoints, dataset, console, resume)
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
    if checkpoints.best.exists():
        best = read_tensors(checkpoints.best)
        load_strictly(runner.model, best, str(checkpoints.best))
    model = runner.model.cpu().eval()
    epochs = trainer.current_epoch
    best_epoch = epochs if checkpoints.best_epoch is None else checkpoints.best_epoch + 1
    if main:
        model.save(folder / "model", render_card(model, dataset, config, best_epoch))
    return TrainedRun(folder, model, dataset, epochs, best_epoch, main)


def _check_choices(config: TrainConfig, registries: Registries) -> None:
    """Hold every name against what there is, before data are read or anything is written."""
    for key, value, known in (
        ("passes", config.passes, PASSES),
        ("optimizer.name", config.optimizer.name, OPTIMIZERS),
        ("schedule.name", config.schedule.name, SCHEDULES),
        ("trainer.precision", config.trainer.precision, PRECISIONS),
        ("trainer.strategy", config.trainer.strategy, ("auto", "ddp")),
        ("selection.mode", config.selection.mode, ("min", "max")),
    ):
        if value not in known:
            raise ConfigError(f"{key}={value!r}. {suggest(value, known)}")
    for key, number in (
        ("loader.batch_size", config.loader.batch_size),
        ("trainer.max_epochs", config.trainer.max_epochs),
        ("trainer.devices", config.trainer.devices),
        ("trainer.num_nodes", config.trainer.num_nodes),
        ("trainer.log_every_n_steps", config.trainer.log_every_n_steps),
    ):
        if number < 1:
            raise ConfigError(f"{key}={number} must be at least 1.")
    ranges = {
        "seed": config.seed >= 0,
        "loader.num_workers": config.loader.num_workers >= 0,
        "optimizer.lr": config.optimizer.lr >= 0,
        "optimizer.weight_decay": config.optimizer.weight_decay >= 0,
        "optimizer.betas": _are_betas(config.optimizer.betas),
    }
    for key, good in ranges.items():
        if not good:
            raise ConfigError(f"{key} is out of range: see `zoo train --dry-run`.")
    resolve_device(config.trainer.device)
    if config.evaluator is not None:
        registries.evaluators.entry(config.evaluator)


def _are_betas(betas: Sequence[float]) -> bool:
    return len(betas) == 2 and all(0 <= beta < 1 for beta in betas)


class _Loaders(pl.LightningDataModule):
    """The two loaders, made when the trainer knows its rank."""

    def __init__(self, config: TrainConfig, data: PreparedDataset, splits: Mapping[str, Any]):
        super().__init__()
        self._config, self._data, self._splits = config, data, splits
        self.train_loader = self._loader("train")

    @property
    def steps_per_epoch(self) -> int:
        return len(self.train_loader)

    def setup(self, stage: str) -> None:
        self.train_loader = self._loader("train")

    def train_dataloader(self) -> CountedLoader:
        return self.train_loader

    def val_dataloader(self) -> CountedLoader:
        return self._loader("val")

    def _loader(self, split: str) -> CountedLoader:
        config, trainer = self._config, self.trainer
        return CountedLoader(
            self._data,
            self._splits[split],
            config.loader.batch_size,
            position=self._position if split == "train" else None,
            seed=config.seed,
            num_workers=config.loader.num_workers,
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
        )

    def _position(self) -> tuple[int, int]:
        assert self.trainer is not None
        progress = self.trainer.fit_loop.epoch_loop.batch_progress
        return self.trainer.current_epoch, progress.current.ready


def _build_trainer(
    config: TrainConfig,
    folder: Path,
    checkpoints: Checkpoints,
    dataset: Dataset,
    console: Console,
    resume: bool,
) -> pl.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Lightning's own use of torch's pytree, which its user can do nothing about
    warnings.filterwarnings("ignore", ".*isinstance.treespec, LeafSpec.*", FutureWarning)
    # losses are gathered, so every rank logs the same value
    warnings.filterwarnings("ignore", ".*sync_dist=True.*")
    options = config.trainer
    device = resolve_device(options.device).type
    metrics = MetricsCSV(folder / "metrics.csv")
    step = None
    if resume:
        step = saved_step(checkpoints.last)
        metrics.rewind(step)
    callbacks: list[pl.Callback] = []
    if config.online_probe and len(dataset.classes) > 1:
        callbacks.append(OnlineProbe(len(dataset.classes)))
    callbacks += [checkpoints, TrainingProgress(console)]
    if config.selection.patience is not None:
        callbacks.append(
            EarlyStopping(
                config.selection.monitor,
                patience=config.selection.patience,
                mode=config.selection.mode,
            )
        )
    return pl.Trainer(
        max_epochs=options.max_epochs,
        accelerator=ACCELERATORS.get(device, device),
        devices=options.devices,
        num_nodes=options.num_nodes,
        strategy=options.strategy,
        precision=PRECISIONS[options.precision],  # type: ignore[arg-type]
        logger=[
            metrics,
            TensorBoardLogger(folder, name="", version="tensorboard", purge_step=step),
        ],
        callbacks=callbacks,
        plugins=[AtomicCheckpointIO()],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        log_every_n_steps=1,  # the module decides; Lightning only warns
        use_distributed_sampler=False,
    )


def _announce(config: TrainConfig, dataset: Dataset, model: Model, console: Console) -> None:
    kind = "synthetic data" if dataset.synthetic else "data"
    console.print(f"{kind} [bold]{dataset.title}[/]: {len(dataset)} samples", highlight=False)
    counts = ", ".join(f"{s} {len(dataset.indices(s))}" for s in ("train", "val", "test"))
    console.print(f"splits: {counts}; fingerprint {dataset.fingerprint}", highlight=False)
    parameters = sum(p.numel() for p in model.parameters())
    console.print(
        f"model [bold]{config.model['name']}[/]: {', '.join(model.modalities)}; "
        f"{parameters:,} parameters; objectives {', '.join(config.objective)}",
        highlight=False,
    )
    left_out = [m for m in config.model["modalities"] if m not in model.modalities]
    if left_out:
        console.print(f"not trained, since the data lack them: {', '.join(left_out)}")


def _record(folder: Path, config: TrainConfig, dataset: Dataset, model: Model) -> None:
    """Write what it takes to make the run again."""
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
