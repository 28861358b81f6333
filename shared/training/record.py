"""What a run writes beside its checkpoints: what it takes to make it again, or to resume it."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from omegaconf import OmegaConf

from shared.data.dataset import Dataset
from shared.data.skipping import FILE as SKIPPED_FILE
from shared.data.skipping import save_skipped, skipped_of
from shared.data.stored import StoredEmbeddings
from shared.environment import environment
from shared.errors import DataError, WeightsError
from shared.files import atomic_path, write_json
from shared.model import Model
from shared.run_folder import CONFIG, ENVIRONMENT, STATISTICS
from shared.training.config import TrainConfig
from shared.untrusted import read_json

_PACKAGES = ("domain-zoo", "torch", "lightning", "numpy", "scikit-learn", "hydra-core")
"""What the numbers of a run depend on."""


def record(
    folder: Path,
    config: TrainConfig,
    dataset: Dataset,
    model: Model,
    stored: Mapping[str, StoredEmbeddings],
) -> None:
    """Write what it takes to make the run again; first what it takes to resume it.

    The environment of each resume is added to that of the start.
    """
    with atomic_path(folder / CONFIG) as temporary:
        OmegaConf.save(OmegaConf.create(asdict(config)), temporary)
    write_json(folder / STATISTICS, {m: p.state() for m, p in model.preprocessors.items()})
    save_skipped(folder / SKIPPED_FILE, skipped_of(dataset))
    started = _read_environment(folder)
    content = started or {
        "dataset": dataset.title,
        "data_fingerprint": dataset.fingerprint,
        "synthetic": dataset.synthetic,
        "seed": config.seed,
        "parameters": sum(p.numel() for p in model.parameters()),
        **_environment(),
    }
    if stored:
        content["frozen_embeddings"] = {m: str(e.folder) for m, e in stored.items()}
    if started:
        content["resumed"] = [*started.get("resumed", []), _environment()]
    write_json(folder / ENVIRONMENT, content)


def changed_environment(folder: Path) -> str:
    """What is not as it was when the run was started and moves the last bits of its numbers; empty
    where nothing is."""
    was, now = _read_environment(folder), _environment()
    pairs = {"threads of torch": (was.get("threads"), now["threads"])}
    for name, value in now["versions"].items():
        pairs[name] = (was.get("versions", {}).get(name), value)
    changed = [f"{name} {a}, now {b}" for name, (a, b) in pairs.items() if a not in (None, b)]
    if not changed:
        return ""
    return f"started with {'; '.join(changed)}: numbers may differ in their last digits from here"


def read_statistics(folder: Path, model: Model) -> tuple[str, ...]:
    """Give the preprocessing of a resumed run what it had learned.

    Returns:
        The modalities that have it.

    Raises:
        WeightsError: The file is missing or damaged.
    """
    path = folder / STATISTICS
    try:
        states = read_json(path)
        for modality, preprocessor in model.preprocessors.items():
            preprocessor.load_state(states[modality])
    except (DataError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path} is missing or damaged ({type(error).__name__}: {error}), so the run cannot be "
            "continued exactly. Start it anew."
        ) from error
    return model.modalities


def resume_guard(
    config: TrainConfig, fingerprint: str, total_steps: int, model: Model
) -> dict[str, Any]:
    """What a checkpoint has to agree on with the run that resumes it, by what a message calls it:
    everything that a step or the choice of the best weights is a function of. Where a teacher lies
    is none of it: its weights are in the checkpoint.

    Args:
        config: Of the run.
        fingerprint: Of its data.
        total_steps: Over which its schedules run.
        model: Its model, whose preprocessing has learned what it learns from data.
    """
    sections = {name: getattr(config, name) for name in ("model", "objective", "passes")}
    sections |= {name: asdict(getattr(config, name)) for name in ("optimizer", "schedule")}
    if config.lora is not None:
        sections["lora"] = asdict(config.lora)
    flat = {key: value for name, node in sections.items() for key, value in _flat(node, name)}
    clipping = ("gradient_clip_norm", "gradient_clip_per")
    for name in ("precision", *clipping, "sync_batchnorm", "validation_mean"):
        flat[f"trainer.{name}"] = getattr(config.trainer, name)
    flat |= {f"selection.{n}": getattr(config.selection, n) for n in ("monitor", "mode")}
    learned = json.dumps({m: p.state() for m, p in model.preprocessors.items()}, sort_keys=True)
    return {
        "seed": config.seed,
        "data fingerprint": fingerprint,
        f"hash of {STATISTICS}": hashlib.sha256(learned.encode()).hexdigest()[:16],
        "modalities": config.modalities,
        "label_fraction": config.loader.label_fraction,
        "batch_size": config.loader.batch_size,
        # of the order in which shards are read
        **{f"data.{n}": config.data[n] for n in ("lanes", "shuffle_window") if n in config.data},
        "number of processes": config.trainer.devices * config.trainer.num_nodes,
        "total_steps": total_steps,
        **{key: value for key, value in flat.items() if not key.endswith(".teacher")},
    }


def _flat(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Dotted keys and values of nested mappings."""
    if not isinstance(node, dict):
        yield key, node
        return
    for name, value in node.items():
        yield from _flat(value, f"{key}.{name}")


def _environment() -> dict[str, Any]:
    return {**environment(_PACKAGES), "threads": torch.get_num_threads()}


def _read_environment(folder: Path) -> dict[str, Any]:
    """That of the start of a run; empty where it was not written yet, or is damaged."""
    try:
        return read_json(folder / ENVIRONMENT)
    except DataError:
        return {}
