"""One training run, from config to model folder."""

import errno
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path

import lightning.pytorch as pl
import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from shared.cards import render_card
from shared.checkpoint_file import read_checkpoint
from shared.data.build import build_dataset
from shared.data.dataset import Dataset
from shared.data.prepared import PreparedDataset, Progress
from shared.data.skipping import describe_skipped, skipped_of
from shared.data.subsample import subsample
from shared.distributed import started_rank
from shared.errors import ConfigError, DataError, WriteError
from shared.files import make_folder
from shared.model import Model
from shared.registry import Registries
from shared.run_folder import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    LAST,
    FolderLock,
    ResumePoint,
    how_to_go_on,
    leftovers,
    read_best,
    resume_point,
)
from shared.training.batch_norm import join_batch_norms
from shared.training.build import build_passes, build_runner
from shared.training.checkpoints import Checkpoints
from shared.training.checks import check_config
from shared.training.config import InitConfig, TrainConfig
from shared.training.first_samples import choose_first
from shared.training.frozen import load_frozen, store_frozen
from shared.training.lora import merge_lora, save_adapter
from shared.training.module import PretrainModule
from shared.training.preemption import Preempted, Preemption
from shared.training.probe import OnlineProbe
from shared.training.progress import TrainingProgress
from shared.training.record import changed_environment, read_statistics, record, resume_guard
from shared.training.runner import Runner
from shared.training.trainer import Loaders, build_trainer
from shared.weights import load_strictly

ADAPTER = "adapter"
"""Folder of a run for what LoRA has learned alone."""
FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS)
"""Reasons why nothing more can be written, to whatever file."""


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
    """Ctrl-C during training; the message says how to go on."""


def train(
    config: TrainConfig,
    registries: Registries,
    folder: Path,
    console: Console,
    progress: Progress,
    cache: Path,
    resume: bool = False,
) -> TrainedRun:
    """Run a training to its end, or go on with one that was interrupted.

    While it runs, SIGTERM and SIGUSR1 stop it after the step that is running, with a checkpoint.

    Args:
        config: Everything; saved as `config.yaml` in the folder.
        registries: Where names are found.
        folder: Run folder; empty or absent unless resuming.
        console: Where progress is printed.
        progress: Progress bar for reading the data.
        cache: Folder for what other runs may use too, such as embeddings of frozen encoders.
        resume: Continue from the newest whole checkpoint of the folder, or from the beginning
            where none was written yet.

    Raises:
        ZooError: Anything a user can cause, before anything is written where possible. WriteError:
            what is in the folder is whole, and the run can be resumed. ConfigError: among others,
            another process is training in the folder.
        Preempted: A signal has stopped it.
        Interrupted: Ctrl-C has.
    """
    main = started_rank(config.trainer.devices, config.trainer.num_nodes) == 0
    # only one process writes
    lock = FolderLock(folder) if main else None
    console = console if main else Console(quiet=True)
    with _stoppable(folder, lock) as preemption:
        check_config(config, registries)
        point = _prepare_folder(folder, resume, console, lock)
        dataset = build_dataset(config.data, registries)
        # the checkpoint of a resumed run holds its weights
        start = replace(config, init=InitConfig()) if point else config
        runner = build_runner(start, dataset, registries)
        if config.trainer.sync_batchnorm and config.trainer.devices * config.trainer.num_nodes > 1:
            join_batch_norms(runner)
        splits = choose_rows(dataset, config)
        _announce(config, dataset, runner, splits, console)
        kept = read_statistics(folder, runner.model) if point else runner.start.statistics
        in_memory = config.loader.in_memory and not dataset.streamed
        data = PreparedDataset(dataset, runner.model.preprocessors, config.seed, in_memory)
        first = choose_first(dataset, splits, config.loader.first_samples, console)
        data.fit_preprocessors(first["train"].tolist(), progress, kept)
        stored = {}
        if config.loader.cache_frozen:
            rows = sorted(np.concatenate(list(splits.values())).tolist())
            if point:
                load_frozen(runner, point.path)
            stored = store_frozen(config, runner, data, rows, cache, progress, console)
            data.use_stored(stored)
        # a sample that cannot be read speaks now, also one that is only judged at the end
        data.load(sorted(np.concatenate(list(first.values())).tolist()), progress)
        for line in describe_skipped(skipped_of(dataset)):
            console.print(line, highlight=False, markup=False)

        loaders = Loaders(config, data, splits)
        module = _build_module(config, runner, dataset, loaders.steps_per_epoch, console)
        every_n_steps = config.trainer.checkpoint_every_n_steps
        checkpoints = Checkpoints(
            folder / CHECKPOINTS, config.selection, every_n_steps, preemption, point
        )
        callbacks: list[pl.Callback] = [checkpoints, TrainingProgress(console)]
        if config.online_probe and len(dataset.classes) > 1:
            callbacks.insert(0, OnlineProbe(len(dataset.classes)))
        published = runner.published
        if config.trainer.strategy == "fsdp":
            # what is cut up is no model to go on with
            published = deepcopy(published)
        with _explained(folder, lock, resume):
            if lock:
                lock.take()
                record(folder, config, dataset, runner.model, stored)
            # what was logged by a run that came to no checkpoint goes, too
            step = point.state.step if point else 0 if resume else None
            trainer = build_trainer(config, folder, callbacks, step)
            if config.trainer.num_nodes > 1:
                console.print("waiting for the other machines (trainer.num_nodes) to start")
            preemption.defer(True)
            trainer.fit(
                module,
                datamodule=loaders,
                ckpt_path=str(point.path) if point else None,
                weights_only=True,
            )
            preemption.defer(False)
        load_strictly(published, *_selected(folder / CHECKPOINTS, module))
        model = published.cpu().eval()
        epochs = trainer.current_epoch
        best_epoch = checkpoints.best.epoch + 1 if checkpoints.best else epochs
        if config.lora is not None:
            if lock:
                save_adapter(model, folder / ADAPTER)
            merge_lora(model)
        if lock:
            model.save(folder / "model", render_card(model, dataset, config, best_epoch))
    return TrainedRun(folder, model, dataset, epochs, best_epoch, main)


@contextmanager
def _stoppable(folder: Path, lock: FolderLock | None) -> Iterator[Preemption]:
    """Meanwhile, signals are heard; what stops a run says how to go on, and the folder is free
    afterwards."""
    with Preemption() as preemption:
        try:
            yield preemption
        except Preempted as error:
            if not lock:
                # one process speaks for all of them; no launcher should take this for a failure
                raise SystemExit(0) from error
            raise Preempted(error.signum, f"{error}; {how_to_go_on(folder)}") from error
        except WriteError as error:
            raise WriteError(f"{error} {_make_room(folder)}") from error
        except OSError as error:
            if error.errno not in FULL:
                raise
            raise WriteError(
                f"{error.filename or 'What the run prints'} cannot be written: {error.strerror}. "
                f"{_make_room(folder)}"
            ) from error
        finally:
            if lock:
                lock.release()


def _make_room(folder: Path) -> str:
    whole = "what had been saved is whole; " if (folder / CONFIG).is_file() else ""
    return f"Make room, or permit writing there; {whole}{how_to_go_on(folder)}."


def _build_module(
    config: TrainConfig, runner: Runner, dataset: Dataset, steps_per_epoch: int, console: Console
) -> PretrainModule:
    total_steps = steps_per_epoch * config.trainer.max_epochs
    if (config.schedule.warmup_steps or 0) > total_steps:
        raise ConfigError(
            f"schedule.warmup_steps={config.schedule.warmup_steps} is longer than the run: "
            f"trainer.max_epochs={config.trainer.max_epochs}, steps an epoch: {steps_per_epoch}."
        )
    guard = resume_guard(config, dataset.fingerprint, total_steps, runner.model)
    passes = build_passes(config.passes)
    passes.check(runner)
    if config.trainer.channels_last:
        runner.to(memory_format=torch.channels_last)
    if config.trainer.compile:
        runner.compile_encoders()
    return PretrainModule(
        runner, passes, config, guard, lambda line: console.print(line, highlight=False)
    )


def _selected(checkpoints: Path, module: PretrainModule) -> tuple[dict[str, Tensor], str]:
    """The kept weights and where they are: in the checkpoint where a run that had come to its end
    was resumed without them. What is in memory may be cut up over ranks that are gone."""
    best, last = checkpoints / BEST, checkpoints / LAST
    if best.exists():
        return read_best(best)[0], str(best)
    parts = module.named_modules()
    prefix = next(f"{name}." for name, part in parts if part is module.runner.published)
    state = read_checkpoint(last)["state_dict"]
    names = [name for name in state if name.startswith(prefix)]
    return {name.removeprefix(prefix): state[name] for name in names}, str(last)


@contextmanager
def _explained(folder: Path, lock: FolderLock | None, resume: bool) -> Iterator[None]:
    """Ctrl-C in training becomes `Interrupted`; a new run that could not start leaves nothing."""
    try:
        yield
    except SystemExit as error:
        # what Lightning makes of Ctrl-C
        raise Interrupted(f"interrupted; {how_to_go_on(folder)}") from error
    except (ConfigError, WriteError) as error:
        # a setting that shows itself wrong only in training, such as selection.monitor
        sign = f"{CHECKPOINTS}/{BEST}" if isinstance(error, ConfigError) else CONFIG
        if lock and lock.taken and not resume and not (folder / sign).exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _prepare_folder(
    folder: Path, resume: bool, console: Console, lock: FolderLock | None
) -> ResumePoint | None:
    """See that the folder can be written to, and from where a resumed run goes on."""
    make_folder(next(path for path in (folder, *folder.absolute().parents) if path.exists()))
    if lock and folder.exists():
        lock.take()
    point = resume_point(folder) if resume else None
    if lock:
        for path in leftovers(folder):
            path.unlink(missing_ok=True)
    if point:
        for note in filter(None, (*point.notes, changed_environment(folder))):
            console.print(note, highlight=False, markup=False)
        step, total = point.state.step, point.state.total_steps
        where = (
            f"going on from step {step} of {total}"
            if step < total
            else f"all {total} steps are done"
        )
        console.print(where, highlight=False)
    elif resume:
        console.print("no checkpoint was written yet: from the beginning", highlight=False)
    return point


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
            raise DataError(
                f"{dataset.name} has no sample in the {split} split: train {len(splits['train'])}, "
                f"val {len(splits['val'])}, test {len(splits['test'])}. With so few samples, state "
                "the split of each in the data, or try another one by data.split_seed=1."
            )
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
    console.print(f"{kind} {dataset.title}: {len(dataset)} samples", highlight=False)
    counts = ", ".join(f"{split} {len(rows)}" for split, rows in splits.items())
    console.print(f"splits: {counts}; fingerprint {dataset.fingerprint}", highlight=False)
    if config.loader.batch_size > (number := len(splits["train"])):
        console.print(
            f"loader.batch_size={config.loader.batch_size} is more than there is: one batch of "
            f"{number} an epoch",
            highlight=False,
        )
    if (fraction := config.loader.label_fraction) < 1:
        console.print(
            f"labels: {fraction:.3g} of train and val, large classes cut", highlight=False
        )
    parameters = sum(p.numel() for p in model.parameters())
    console.print(
        f"model {config.model['name']}: {', '.join(model.modalities)}; "
        f"{parameters:,} parameters; objectives {', '.join(config.objective)}",
        highlight=False,
    )
    if config.lora is not None:
        trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
        console.print(f"LoRA of rank {config.lora.rank}: {trained:,} are trained", highlight=False)
    left_out = [m for m in config.model["modalities"] if m not in model.modalities]
    if left_out:
        why = "since the data lack them" if config.modalities is None else "by modalities=…"
        console.print(f"not trained, {why}: {', '.join(left_out)}", highlight=False)
    if runner.untrained:
        parts = ", ".join(runner.untrained)
        console.print(f"not trained, since no objective reads them: {parts}", highlight=False)
    for line in runner.start.lines():
        console.print(line, highlight=False)
