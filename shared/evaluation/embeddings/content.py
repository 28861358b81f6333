"""Hashes of what samples hold: equal for the same measurement under two names."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np

UNKNOWN_CONTENT = ""
_HEX_DIGITS = 32


def content_hash(raw: Mapping[str, Any]) -> str:
    """Hash of all raw inputs of a sample: modality by modality in the order of their names, kind,
    shape and bytes of each array, text or mapping of these.

    Args:
        raw: Modality → raw input.

    Returns:
        The first 32 hex digits of the SHA-256; empty where the sample has nothing, or something
        whose equality cannot be told from bytes.
    """
    digest = hashlib.sha256()
    return digest.hexdigest()[:_HEX_DIGITS] if raw and _update(digest, raw) else UNKNOWN_CONTENT


def _update(digest: Any, value: Any) -> bool:
    """Add a value to the digest; False where that is not possible."""
    if isinstance(value, Mapping):
        digest.update(f"mapping {len(value)} ".encode())
        return all(_update(digest, key) and _update(digest, value[key]) for key in sorted(value))
    if isinstance(value, str | bytes):
        encoded = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
        digest.update(f"{type(value).__name__} {len(encoded)} ".encode() + encoded)
        return True
    if isinstance(value, list | tuple):
        digest.update(f"list {len(value)} ".encode())
        return all(_update(digest, item) for item in value)
    array = np.asarray(value)
    if array.dtype.hasobject:
        return False
    digest.update(f"array {array.dtype.str} {array.shape} ".encode() + array.tobytes())
    return True
