"""Raw inputs through a model in eval mode: preparing, batching, embedding, classifying."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from shared.data.batch import scatter_rows
from shared.devices import Precision, autocast, resolve_device
from shared.encoders.base import Embedding
from shared.errors import ConfigError, DataError, SchemaError, UnknownNameError, suggest
from shared.preprocess import Prepared
from shared.raw_inputs import as_array
from shared.schema import Schema

if TYPE_CHECKING:
    from shared.model import Model, Output

Raws = Sequence[Any]
"""Raw inputs of one modality, None where a sample lacks it."""


@contextmanager
def ready(model: "Model", device: str, batch_size: int) -> Iterator[None]:
    """The model on a device and in eval mode; its mode is restored.

    Raises:
        ConfigError: No such device, or a batch size below 1.
    """
    if batch_size < 1:
        raise ConfigError(f"batch_size={batch_size} must be at least 1.")
    model.to(resolve_device(device))
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


def check_inputs(model: "Model", modality: str, raws: Raws) -> None:
    """Hold a modality against the model before anything is read.

    Raises:
        UnknownNameError: The model has no such modality.
        DataError: There is no input.
    """
    if modality not in model.preprocessors:
        raise UnknownNameError(
            f"This model has no modality {modality!r}. {suggest(modality, model.modalities)}"
        )
    if not raws:
        raise DataError(f"{modality} is an empty list.")


def prepare(model: "Model", modality: str, raws: Raws, first: int = 0) -> list[Prepared | None]:
    """Raw inputs of one modality → what its preprocessor makes of them, cropped as in evaluation.

    Args:
        model: Whose preprocessor.
        modality: Its name.
        raws: The inputs; None stays None.
        first: The number of the first input, for messages.

    Raises:
        DataError: An input does not hold what the schema says.
    """
    preprocessor, schema = model.preprocessors[modality], model.schemas[modality]
    prepared: list[Prepared | None] = []
    for number, raw in enumerate(raws, first):
        if raw is None:
            prepared.append(None)
            continue
        where = f"input {number}"
        array = as_array(raw, schema, where)
        schema.check(array, where)
        try:
            prepared.append(preprocessor.crop(preprocessor(array), None))
        except DataError as error:
            said = "" if str(error).startswith(f"{modality}:") else f"{modality}: "
            raise DataError(f"{where}: {said}{error}") from error
    return prepared


def embed(
    model: "Model",
    modality: str,
    raws: Raws,
    output: "Output",
    batch_size: int,
    precision: Precision,
) -> NDArray[np.float32]:
    """Raw inputs of one modality → (n, dim) embeddings; the model is `ready`.

    They are read and prepared a batch at a time: files may be many.
    """
    check_inputs(model, modality, raws)
    if any(raw is None for raw in raws):
        raise DataError(f"embed: {modality} holds None; give the samples that have it.")
    parts = []
    for start in range(0, len(raws), batch_size):
        prepared = prepare(model, modality, raws[start : start + batch_size], start)
        inputs = _collate(model, modality, [p for p in prepared if p is not None])
        with torch.inference_mode(), autocast(model.device, precision):
            pooled = _encode_alone(model, modality, inputs)
            rows = _output(model, modality, pooled, output)
        parts.append(rows.float().cpu().numpy())
        _check_values(parts[-1], modality, start, output == "projected")
    return np.concatenate(parts)


def _output(model: "Model", modality: str, pooled: Tensor, output: "Output") -> Tensor:
    if output == "projected":
        return model.project(modality, pooled)
    return model.apply_head(modality, pooled) if output == "unnormalized" else pooled


def _check_values(rows: NDArray[np.float32], what: str, first: int, unit: bool = False) -> None:
    """Raise a DataError that names the first input whose result is NaN, infinite, or, where it has
    to be of `unit` norm, not that: a vector whose norm overflows is divided by infinity."""
    good = np.isfinite(rows).all(axis=1)
    if unit:
        good &= np.abs(np.linalg.norm(rows, axis=1) - 1) < 0.1
    if not good.all():
        raise DataError(
            f"input {first + int(good.argmin())}: what the model makes of its {what} is NaN, "
            "infinite or beyond float32. The input is far from what it was trained on, or its "
            "weights diverged."
        )


def _encode_alone(model: "Model", modality: str, inputs: dict[str, Tensor]) -> Tensor:
    """(rows, dim) embedding of one modality, by the fusion where that encodes it."""
    embedding = model.encode(modality, inputs)
    if model.fusion is None or not model.fusion.encodes_alone:
        return embedding.pooled
    assert embedding.tokens is not None
    tokens, mask = model.project_tokens(modality, embedding.tokens), embedding.mask
    if mask is None:
        mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
    return model.fuse({modality: Embedding(embedding.pooled, tokens, mask)}, {}).pooled


def require_classifier(model: "Model", name: str) -> None:
    """Raise a ConfigError where a model, called `name`, has no classifier."""
    if model.classifier is None:
        raise ConfigError(
            f"{name} has no classifier. Train one on top of it: zoo train … "
            f"objective=[classification] 'model.classifier={{}}' init.weights={name}"
        )


def shared_modalities(
    model: "Model", name: str, schemas: Mapping[str, Schema], asked: Sequence[str] | None
) -> tuple[str, ...]:
    """Modalities of the model that the data give, out of those asked for.

    Args:
        model: The model.
        name: What it is called in messages.
        schemas: Of the data, by modality.
        asked: None: all of the model.

    Raises:
        UnknownNameError: The model has no such modality.
        SchemaError: The data give none of them.
    """
    for modality in asked or ():
        if modality not in model.modalities:
            raise UnknownNameError(
                f"{name} has no modality {modality!r}. {suggest(modality, model.modalities)}"
            )
    wanted = model.modalities if asked is None else tuple(dict.fromkeys(asked))
    both = tuple(m for m in wanted if m in schemas)
    if not both:
        raise SchemaError(
            f"{name} is to read {', '.join(wanted) or 'nothing'}; the data give "
            f"{', '.join(schemas)}: nothing in common."
        )
    return both


@torch.inference_mode()
def classifier_features(
    model: "Model", prepared: Mapping[str, Sequence[Prepared | None]], precision: Precision
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """What the classifier reads of one batch of samples; the model is `ready`.

    Args:
        model: With a classifier.
        prepared: By modality, one entry a sample, None where it is lacking. Modalities that are
            not here are lacking in all.
        precision: Of the encoders.

    Returns:
        By modality of the model: (n, dim) features, zero where lacking, and (n,) bool presence.
    """
    number = len(next(iter(prepared.values())))
    features, present = {}, {}
    for modality in model.modalities:
        samples = prepared.get(modality, [None] * number)
        have = [p for p in samples if p is not None]
        there = torch.tensor([p is not None for p in samples], device=model.device)
        if have:
            with autocast(model.device, precision):
                pooled = model.encode(modality, _collate(model, modality, have)).pooled
                projected = model.classifier_features == "projected"
                rows = model.project(modality, pooled) if projected else pooled
            features[modality] = scatter_rows(rows.float(), there)
        else:
            width = model.classifier_widths()[modality]
            features[modality] = torch.zeros(number, width, device=model.device)
        present[modality] = there
    return features, present


@torch.inference_mode()
def classifier_probabilities(
    model: "Model",
    features: Mapping[str, Tensor],
    present: Mapping[str, Tensor],
    chosen: Sequence[str] | None = None,
) -> NDArray[np.float32]:
    """Softmax of the logits, (n, num_classes).

    Args:
        model: With a classifier.
        features: Of `classifier_features`.
        present: Of `classifier_features`.
        chosen: Modalities that are read, the others count as lacking; None: all.
    """
    chosen = tuple(features) if chosen is None else chosen
    read = {m: rows if m in chosen else torch.zeros_like(rows) for m, rows in features.items()}
    there = {m: p if m in chosen else torch.zeros_like(p) for m, p in present.items()}
    return model.classify(read, there).float().softmax(dim=1).cpu().numpy()


def predict(
    model: "Model", raw: Mapping[str, Raws], batch_size: int, precision: Precision
) -> NDArray[np.float32]:
    """Raw inputs of several modalities → (n, num_classes) probabilities; the model is `ready`.

    Raises:
        UnknownNameError: The model has no such modality.
        DataError: Lists of different lengths, a sample without any modality, or a wrong input.
    """
    lengths = {modality: len(raws) for modality, raws in raw.items()}
    number = next(iter(lengths.values()))
    if len(set(lengths.values())) > 1:
        raise DataError(
            f"predict: {', '.join(f'{n} of {m}' for m, n in lengths.items())}; give every modality "
            "one entry a sample, None where the sample lacks it."
        )
    for modality, raws in raw.items():
        check_inputs(model, modality, raws)
    for row in range(number):
        if all(raws[row] is None for raws in raw.values()):
            raise DataError(f"predict: sample {row} has none of {', '.join(raw)}.")
    parts = []
    for start in range(0, number, batch_size):
        batch = {m: prepare(model, m, r[start : start + batch_size], start) for m, r in raw.items()}
        parts.append(classifier_probabilities(model, *classifier_features(model, batch, precision)))
        _check_values(parts[-1], ", ".join(raw), start)
    return np.concatenate(parts)


def _collate(model: "Model", modality: str, prepared: Sequence[Prepared]) -> dict[str, Tensor]:
    batch = model.preprocessors[modality].collate(prepared)
    return {name: tensor.to(model.device) for name, tensor in batch.items()}
