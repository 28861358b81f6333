"""What every foreign embedder checks: which modalities fit, and what came out."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.data.image_files import RGB
from shared.errors import EvaluationError, SchemaError
from shared.schema import Schema

KINDS = {
    "image": "8-bit images with channels red, green, blue",
    "text": "texts",
}


def kind_of(schema: Schema) -> str | None:
    """`image`, `text`, or None for what no foreign library takes as it is."""
    if schema.dtype == "str":
        return "text"
    colours = {channel.name for channel in RGB} <= set(schema.names)
    return "image" if colours and schema.dtype == "uint8" and len(schema.axes) == 3 else None


def fitting_modalities(
    name: str, kinds: Sequence[str], schemas: Mapping[str, Schema], wanted: str | None
) -> tuple[str, ...]:
    """Modalities of a dataset that a model of these kinds takes, or the one that was asked for.

    Raises:
        SchemaError: None of them, or not the one asked for.
    """
    fits = [m for m, schema in schemas.items() if kind_of(schema) in kinds]
    chosen = [m for m in fits if wanted is None or m == wanted]
    if not chosen:
        given = ", ".join(
            f"{m} ({s.dtype}, {' × '.join(s.axes) or 'a value'}"
            f"{': ' + ', '.join(s.names) if s.names else ''})"
            for m, s in schemas.items()
        )
        asked = f" and modality {wanted!r} was asked for" if wanted else ""
        raise SchemaError(
            f"{name} takes {' or '.join(KINDS[k] for k in kinds)}; the data give {given}{asked}: "
            "nothing fits. An adapter can make it: see data.adapters in docs/data.md."
        )
    return tuple(chosen)


def rgb_arrays(name: str, raws: Sequence[Any], schema: Schema) -> list[NDArray[np.uint8]]:
    """(height, width, 3) arrays of red, green and blue."""
    positions = schema.select(RGB, taker=name, given_by="the dataset")
    return [np.ascontiguousarray(raw[..., positions]) for raw in raws]


def checked_vectors(name: str, output: object, n: int) -> NDArray[np.float32]:
    """What a model gave for n inputs, as (n, d) float32.

    Raises:
        EvaluationError: It is of another shape or type, or not finite.
    """
    if hasattr(output, "detach"):  # a tensor, on any device and of any precision
        output = output.detach().cpu().double()
    try:
        array = np.asarray(output)
    except ValueError as error:  # rows of different lengths
        raise EvaluationError(f"{name} gave no array of shape ({n}, d): {error}.") from error
    if array.ndim != 2 or len(array) != n or array.shape[1] == 0 or array.dtype.kind not in "fiu":
        raise EvaluationError(
            f"{name} gave shape {array.shape}, dtype {array.dtype} for {n} inputs, not ({n}, d) "
            "numbers: one row an input, in their order."
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite and is told below
        vectors = array.astype(np.float32)
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise EvaluationError(
            f"{name} gave values that are NaN, infinite or beyond float32 for {int(bad.sum())} of "
            f"{n} inputs, the first one at position {int(bad.argmax())} of its batch."
        )
    return vectors


def one_line(error: Exception) -> str:
    """The message of another library's error without its line breaks."""
    return " ".join(str(error).split())


def make_revision(*parts: str) -> str:
    """Hash of what decides the embeddings, 16 hex digits."""
    return hashlib.sha256("\x1f".join(parts).encode()).hexdigest()[:16]
