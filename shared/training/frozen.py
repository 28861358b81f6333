"""Frozen encoders paid for once: their embeddings are computed before training and read in it.

What is stored is what the encoder gives as pooled, before the head, in float32: of every sample and
every view that training may read, so that the same view is taken as without.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import nn

from shared.checkpoint_file import read_checkpoint
from shared.code_hash import code_hash
from shared.data.dataset import WHOLE
from shared.data.prepared import PreparedDataset, Progress
from shared.data.skipping import Refused, refused_of
from shared.data.stored import StoredEmbeddings, StoredPart
from shared.devices import Precision, autocast, resolve_device
from shared.distributed import started_rank
from shared.errors import ConfigError
from shared.preprocess import Prepared
from shared.training.config import TrainConfig
from shared.training.runner import Runner
from shared.weights import load_strictly, tensors_fingerprint

FOLDER = "frozen"
"""Of these embeddings in the cache."""
BATCH = 64
"""Samples read, and views encoded, at a time: a constant, since another one moves the last bits."""
_PLAIN: Any = {"highlight": False, "markup": False, "soft_wrap": True}
_FORMAT = 1
"""Of what is stored: another one is computed anew."""


def frozen_encoders(runner: Runner, config: TrainConfig) -> dict[str, str]:
    """Modalities whose encoders are read and frozen as a whole, and why the embeddings of each
    cannot stand for its inputs; empty where they can, as far as the settings say.

    Raises:
        ConfigError: No encoder is frozen.
    """
    frozen = {modality: _why_not(runner, config, modality) for modality in _frozen(runner)}
    if not frozen:
        raise ConfigError(
            "loader.cache_frozen=true: no encoder is frozen as a whole. Freeze one, such as "
            f"'optimizer.frozen=[model.encoders.{runner.model.modalities[0]}.*]', or leave it out."
        )
    return frozen


def _frozen(runner: Runner) -> dict[str, nn.Module]:
    """The encoders that objectives read and that have no parameter to train."""
    read = {modality for _, names in _requests(runner) for modality in names}
    return {
        modality: encoder
        for modality, encoder in runner.model.encoders.items()
        if modality in read and not any(p.requires_grad for p in encoder.parameters())
    }


def _requests(runner: Runner) -> list[tuple[tuple[str, Any], tuple[str, ...]]]:
    """The term, its request and the modalities that this is about."""
    return [
        ((term, r), (r.modality,) if isinstance(r.modality, str) else r.modality)
        for term, objective in runner.named_objectives()
        for r in objective.requests
    ]


def _why_not(runner: Runner, config: TrainConfig, modality: str) -> str:
    for (term, request), modalities in _requests(runner):
        if modality not in modalities:
            continue
        if request.tower == "teacher":
            return f"the teacher of objective.{term} reads its inputs"
        if request.view:
            return f"objective.{term} makes views of it"
        joint = not isinstance(request.modality, str)
        if "tokens" in request.output or (joint and request.output != "logits"):
            return f"objective.{term} reads its tokens, and only pooled embeddings are stored"
    if config.passes.get("modality") == modality:
        return f"passes={config.passes['name']} moves its inputs"
    return ""


def load_frozen(runner: Runner, checkpoint: Path) -> None:
    """Give frozen encoders the weights that they have in the checkpoint of a run.

    Raises:
        WeightsError: It does not hold them.
    """
    state = read_checkpoint(checkpoint)["state_dict"]
    for modality, encoder in _frozen(runner).items():
        prefix = f"runner.model.encoders.{modality}."
        own = {n.removeprefix(prefix): t for n, t in state.items() if n.startswith(prefix)}
        load_strictly(encoder, own, str(checkpoint))


def store_frozen(
    config: TrainConfig,
    runner: Runner,
    data: PreparedDataset,
    rows: Sequence[int],
    cache: Path,
    progress: Progress,
    console: Console,
) -> dict[str, StoredEmbeddings]:
    """The embeddings of the frozen encoders, of which those that the cache lacks are computed.

    Processes of a run that are started together share the work through the files: each begins
    elsewhere, and none waits for another.

    Args:
        config: Of the run.
        runner: Its model, with the weights of the frozen encoders.
        data: Whose preprocessing has learned what it learns.
        rows: Samples, in the order of the dataset.
        cache: Folder of the cache.
        progress: Wraps the iteration with a progress bar.
        console: Where it is said what is read from where.

    Raises:
        ConfigError: No encoder is frozen, or none whose embeddings can stand for its inputs.
        DataError: A sample cannot be read or prepared.
        WriteError: The cache cannot be written.
    """
    reasons = frozen_encoders(runner, config)
    for modality in _random(data, rows, [m for m, reason in reasons.items() if not reason]):
        kind = type(data.preprocessors[modality]).__name__
        reasons[modality] = (
            f"its preprocessing ({kind}) draws another random view in every epoch, and one that is "
            "stored would change the training"
        )
    kept = [f"{m}: {reason}" for m, reason in reasons.items() if reason]
    if len(kept) == len(reasons):
        raise ConfigError(
            f"loader.cache_frozen=true cannot be: {'; '.join(kept)}. Change that (an augmentation "
            f"is a setting under model.modalities.{next(iter(reasons))}.preprocess), or leave "
            "loader.cache_frozen out."
        )
    for line in kept:
        console.print(f"frozen, and encoded in every step all the same: {line}", **_PLAIN)
    embedding = _Embedding(config, runner, data)
    stored = {}
    for modality in (m for m, reason in reasons.items() if not reason):
        about = embedding.about(modality, rows)
        text = json.dumps(about, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:24]
        stored[modality] = StoredEmbeddings(cache / FOLDER / name, rows, about)
    _fill(stored, embedding, progress, _share(config))
    for modality, embeddings in stored.items():
        size = f"{embeddings.nbytes / 1e6:,.3g} MB in {embeddings.folder}"
        console.print(f"embeddings of {modality} are read instead of its inputs: {size}", **_PLAIN)
    return stored


def _random(data: PreparedDataset, rows: Sequence[int], modalities: Sequence[str]) -> list[str]:
    """Those modalities whose views cannot be listed, by the first sample that has each."""
    unknown, found = list(modalities), []
    for row in rows:
        if not unknown:
            break
        for modality, views in data.views(row, unknown).items():
            unknown.remove(modality)
            found += [modality] if views is None else []
    return found


def _share(config: TrainConfig) -> float:
    """Where in the work this process begins, from 0 to below 1."""
    trainer = config.trainer
    processes = trainer.devices * trainer.num_nodes
    return started_rank(trainer.devices, trainer.num_nodes) / processes


def _fill(
    stored: Mapping[str, StoredEmbeddings],
    embedding: "_Embedding",
    progress: Progress,
    share: float,
) -> None:
    """Compute the parts that are not there yet, of all modalities in one pass over the samples."""

    def missing(number: int) -> list[str]:
        return [m for m, embeddings in stored.items() if not embeddings.has(number)]

    parts = next(iter(stored.values())).parts
    left = [number for number in range(len(parts)) if missing(number)]
    first = int(share * len(left))
    left = left[first:] + left[:first]
    if not left:
        return
    samples = [row for number in left for row in parts[number]]
    bar = iter(progress(samples, f"embedding {', '.join(stored)} once"))
    for number in left:
        # another process may have been here by now
        found = embedding.part(parts[number], missing(number), bar)
        for modality, part in found.items():
            stored[modality].write(number, part)
    for _ in bar:
        pass  # to its end
    embedding.release(stored)


class _Embedding:
    """Frozen encoders at work."""

    def __init__(self, config: TrainConfig, runner: Runner, data: PreparedDataset) -> None:
        self._model, self._data = runner.model, data
        self._precision = cast(Precision, config.trainer.precision)
        self._device = resolve_device(config.trainer.device)
        if self._device.type == "cuda":
            options = config.trainer
            place = started_rank(options.devices, options.num_nodes) % options.devices
            self._device = torch.device("cuda", place)

    def about(self, modality: str, rows: Sequence[int]) -> dict[str, Any]:
        """What determines the embeddings of a modality, as JSON can hold it."""
        encoder, preprocessor = self._model.encoders[modality], self._data.preprocessors[modality]
        learned = json.dumps(preprocessor.state(), sort_keys=True).encode()
        return {
            "what": f"pooled embeddings of {modality} by a frozen encoder of {BATCH} at a time",
            "format": _FORMAT,
            "dataset": self._data.dataset.title,
            "data_fingerprint": self._data.dataset.fingerprint,
            "samples": len(rows),
            "rows": hashlib.sha256(np.asarray(rows, np.int64).tobytes()).hexdigest()[:16],
            "encoder": dict(self._model.config.modalities[modality].encoder),
            "weights": tensors_fingerprint(encoder.state_dict()),
            "preprocess": {"name": type(preprocessor).__name__, **preprocessor.settings},
            "learned": hashlib.sha256(learned).hexdigest()[:16],
            "takes": preprocessor.takes.to_dict(),
            "code": code_hash([*encoder.modules(), preprocessor]),
            "precision": self._precision,
            "device": self._device.type,
            "versions": {name: version(name) for name in ("domain-zoo", "torch", "numpy")},
        }

    def part(
        self, rows: Sequence[int], modalities: Sequence[str], bar: Any
    ) -> dict[str, StoredPart]:
        """Embeddings of some samples, of each modality that is asked for; `bar` moves on by one a
        sample."""
        counts = {m: np.zeros(len(rows), np.int64) for m in modalities}
        vectors: dict[str, list[NDArray[np.float32]]] = {m: [] for m in modalities}
        for start in range(0, len(rows), BATCH):
            batch: dict[str, list[Prepared]] = {m: [] for m in modalities}
            for place, row in enumerate(rows[start : start + BATCH], start):
                next(bar)
                for modality, views in self._data.views(row, modalities).items():
                    assert views is not None
                    counts[modality][place] = len(views)
                    batch[modality] += views
            for modality, views in batch.items():
                vectors[modality] += self._encode(modality, views)
        refused = refused_of(self._data.dataset, set(rows))
        return {
            m: StoredPart(
                counts[m],
                np.concatenate(vectors[m]) if vectors[m] else np.zeros((0, 0), np.float32),
                _of(refused, m),
            )
            for m in modalities
        }

    def release(self, modalities: Iterable[str]) -> None:
        """Give the device's memory back: the trainer moves the model as a whole."""
        for modality in modalities:
            self._model.encoders[modality].cpu()

    def _encode(self, modality: str, views: Sequence[Prepared]) -> list[NDArray[np.float32]]:
        encoder = self._model.encoders[modality].to(self._device).eval()
        preprocessor = self._data.preprocessors[modality]
        found = []
        for start in range(0, len(views), BATCH):
            inputs = preprocessor.collate(views[start : start + BATCH])
            moved = {name: tensor.to(self._device) for name, tensor in inputs.items()}
            with torch.inference_mode(), autocast(self._device, self._precision):
                found.append(encoder(moved).pooled.float().cpu().numpy())
        return found


def _of(refused: Sequence[Refused], modality: str) -> list[Refused]:
    return [entry for entry in refused if entry[1] in (modality, WHOLE)]
