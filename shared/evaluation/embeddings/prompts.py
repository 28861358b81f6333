"""Texts that name the classes, and their embeddings: the classifier of the zero-shot protocol."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.errors import (
    ConfigError,
    DataError,
    EvaluationError,
    SchemaError,
    UnknownNameError,
    suggest,
)
from shared.evaluation.embeddings.embedding_set import EmbeddingSet

if TYPE_CHECKING:
    from shared.evaluation.embeddings.extract import Embedder

TEXT_MODALITY = "text"
GAP = "{}"
"""Where the class name goes in a template."""
OF_PROMPTS = frozenset({"zero_shot", "class_retrieval"})
"""Protocols that read prompts: without them none are embedded unless templates were asked for."""
_BATCH = 64


def build_prompts(
    classes: Sequence[str],
    templates: Sequence[str],
    class_names: Mapping[str, str] | None = None,
) -> list[list[str]]:
    """One text a class and template.

    Args:
        classes: Of the data, in their order.
        templates: Such as `a photo of a {}.`; `{}` is replaced by the name, all else stays.
        class_names: Class → how a sentence names it, for classes that are codes; others stand as
            they are.

    Returns:
        By class, one text for each template.

    Raises:
        ConfigError: There are no templates or classes, a template has no `{}`, or two classes go
            by one name.
        UnknownNameError: `class_names` names a class that the data do not have.
    """
    if not templates:
        raise ConfigError("templates is empty: give one at least, such as 'a photo of a {}.'.")
    for template in templates:
        if GAP not in template:
            raise ConfigError(
                f"templates: {template!r} has no {GAP}, in whose place the class name goes."
            )
    if not classes:
        raise ConfigError("templates=[…] need the classes of the data, and these have none.")
    names = class_names or {}
    for name in names:
        if name not in classes:
            raise UnknownNameError(
                f"class_names: the data have no class {name!r}. {suggest(name, classes)}"
            )
    said: dict[str, str] = {}
    for name in classes:
        other = said.setdefault(names.get(name, name), name)
        if other != name:
            raise ConfigError(
                f"class_names: {other!r} and {name!r} have the same prompts, so that one of them "
                "could never be predicted. Name them differently."
            )
    return [[t.replace(GAP, names.get(c, c)) for t in templates] for c in classes]


def embed_prompts(embedder: "Embedder", prompts: Sequence[Sequence[str]]) -> NDArray[np.float32]:
    """(num_classes, n_templates, d) embeddings of texts by the model's text encoder.

    Args:
        embedder: A model with the modality `text`.
        prompts: By class, the same number of texts.

    Raises:
        EvaluationError: The model has no text encoder.
    """
    from shared.data.generic import TEXT

    try:
        embedder.modalities({TEXT_MODALITY: TEXT})
    except (SchemaError, ConfigError, UnknownNameError) as error:
        raise EvaluationError(
            f"{embedder.name} embeds no texts, which templates need. Take a model with a text "
            "encoder into the space of its other modalities (with modalities=[…], text has to be "
            "among them), or leave templates out."
        ) from error
    texts = [text for of_class in prompts for text in of_class]
    try:
        parts = [
            np.asarray(embedder.embed(TEXT_MODALITY, texts[start : start + _BATCH], TEXT))
            for start in range(0, len(texts), _BATCH)
        ]
    except DataError as error:
        raise EvaluationError(f"{embedder.name} cannot embed the prompts: {error}") from error
    vectors = np.concatenate(parts).astype(np.float32)
    if not np.isfinite(vectors).all():
        raise EvaluationError(f"{embedder.name} gave prompts embeddings that are not finite.")
    return vectors.reshape(len(prompts), -1, vectors.shape[1])


def with_prompts(
    embeddings: EmbeddingSet,
    embedder: "Embedder",
    templates: Sequence[str],
    class_names: Mapping[str, str] | None = None,
) -> EmbeddingSet:
    """The same set with `prompts` of its classes.

    Raises:
        ConfigError, UnknownNameError: See `build_prompts`.
        EvaluationError: The model has no text encoder, or one into another space than that of
            every other modality.
    """
    vectors = embed_prompts(embedder, build_prompts(embeddings.classes, templates, class_names))
    widths = {m: v.shape[1] for m, v in embeddings.vectors.items()}
    if vectors.shape[2] not in widths.values():
        raise EvaluationError(
            f"{embedder.name}: prompts are {vectors.shape[2]} wide, embeddings "
            f"{', '.join(f'{w} ({m})' for m, w in widths.items())}: no common space. Choose "
            "output=projected, or leave templates out."
        )
    return replace(embeddings, prompts=vectors)
