"""What code a part of a model is made by: it may change under one version while it is written."""

import sys
from collections.abc import Iterable
from pathlib import Path

from shared.data.dataset import hash_files


def code_hash(parts: Iterable[object]) -> str:
    """Hash of the files that define the classes of objects."""
    classes = {kind for part in parts for kind in type(part).__mro__ if kind is not object}
    files = {getattr(sys.modules.get(kind.__module__), "__file__", None) for kind in classes}
    return hash_files([Path(file) for file in files if file])
