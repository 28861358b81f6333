"""Raw inputs of two modalities compared in one space: classes by prompts, the nearest of many."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from shared.errors import ConfigError, DataError, UnknownNameError, suggest
from shared.evaluation.embeddings.prompts import TEXT_MODALITY, build_prompts
from shared.evaluation.embeddings.vectors import normalise
from shared.evaluation.neighbours.top_k import top_k
from shared.evaluation.protocols.zero_shot import LOGIT_SCALE, ORDERS
from shared.evaluation.protocols.zero_shot import zero_shot as zero_shot_logits

if TYPE_CHECKING:
    from shared.model import Model


class Ranking(NamedTuple):
    """The candidates nearest to each query, the nearest first.

    Attributes:
        indices: (q, k) int64, positions among the candidates.
        scores: (q, k) float32, cosines.
    """

    indices: NDArray[np.int64]
    scores: NDArray[np.float32]


def zero_shot(
    model: "Model",
    inputs: Any,
    classes: Sequence[str],
    templates: Sequence[str],
    modality: str | None,
    order: str,
    logit_scale: float | None,
    options: Mapping[str, Any],
) -> NDArray[np.float32]:
    """See `Model.zero_shot`; `options` are those of `Model.embed`."""
    classes, templates = _texts(classes), _texts(templates)
    if len(classes) < 2:
        raise ConfigError("zero_shot: give the names of two classes at least, as a list.")
    if len(set(classes)) < len(classes):
        raise ConfigError("zero_shot: a class stands twice in classes; name each once.")
    if order not in ORDERS:
        raise ConfigError(f"order={order!r}. {suggest(order, ORDERS)}")
    prompts = build_prompts(classes, templates)
    chosen = _described(model, modality)
    if logit_scale is None:
        learned = "logit_scale" in model.scalars
        logit_scale = float(model.scalars["logit_scale"].detach().exp()) if learned else LOGIT_SCALE
    vectors = model.embed(**{chosen: inputs}, **options)
    output = "projected" if order == ORDERS[0] else "unnormalized"
    said = [text for of_class in prompts for text in of_class]
    texts = model.embed(**{**options, TEXT_MODALITY: said, "output": output})
    by_class = texts.reshape(len(classes), len(templates), -1)
    logits = zero_shot_logits(vectors, by_class, order=order, logit_scale=logit_scale)
    probabilities: NDArray[np.float32] = softmax(logits, axis=1).astype(np.float32)
    return probabilities


def retrieve(
    model: "Model",
    query: Mapping[str, Any],
    among: Mapping[str, Any] | NDArray[np.floating[Any]],
    k: int,
    options: Mapping[str, Any],
) -> Ranking:
    """See `Model.retrieve`; `options` are those of `Model.embed`."""
    if len(query) != 1 or (isinstance(among, Mapping) and len(among) != 1):
        raise ConfigError(
            "retrieve: give the queries of one modality and the candidates of one, such as "
            f"{model.modalities[0]}=[…], among={{{model.modalities[-1]!r}: […]}}."
        )
    if k < 1:
        raise ConfigError(f"k={k} must be at least 1.")
    if isinstance(among, Mapping):
        candidates = model.embed(**among, **options)
    else:
        candidates = np.asarray(among)
        width = model.config.embed_dim
        if candidates.ndim != 2 or candidates.shape[1] != width or not len(candidates):
            raise DataError(
                f"retrieve: among has shape {candidates.shape}, and embeddings of this model have "
                f"(n, {width}). Make them by model.embed(…)."
            )
        if not np.isfinite(candidates).all():
            raise DataError("retrieve: among holds NaN or infinite numbers.")
    queries = model.embed(**query, **options)
    indices, scores = top_k(normalise(queries), normalise(candidates), k)
    return Ranking(indices, scores.astype(np.float32))


def _texts(value: Sequence[str]) -> tuple[str, ...]:
    """One text or several → several."""
    return (value,) if isinstance(value, str) else tuple(value)


def _described(model: "Model", modality: str | None) -> str:
    """The modality that texts describe.

    Raises:
        ConfigError: The model has no texts, or it has to be chosen.
        UnknownNameError: It has no such modality.
    """
    name = model.config.name
    if TEXT_MODALITY not in model.modalities:
        raise ConfigError(f"zero_shot: {name} has no modality {TEXT_MODALITY!r} for the prompts.")
    others = [m for m in model.modalities if m != TEXT_MODALITY]
    if modality is not None and modality not in others:
        raise UnknownNameError(f"{name} has no modality {modality!r}. {suggest(modality, others)}")
    if modality is None and len(others) != 1:
        raise ConfigError(f"zero_shot: choose modality=… out of {', '.join(others) or 'none'}.")
    return others[0] if modality is None else modality
