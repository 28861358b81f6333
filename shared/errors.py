"""The errors a user can cause.

Each message says what, where and what to do; the CLI prints it and exits with 2.
"""

import difflib
from collections.abc import Iterable


class ZooError(Exception):
    """A mistake in what the user gave: shown as one message, without a traceback.

    Attributes:
        exit_code: Of the command line.
    """

    exit_code = 2


class ConfigError(ZooError):
    """An unknown key, a wrong type or an impossible combination of settings."""


class UnknownNameError(ZooError):
    """A name that no registry holds."""


class PluginError(ZooError):
    """A domain plugin that is broken, or that clashes with another."""


class DependencyError(ZooError):
    """A package that an optional part needs is not installed."""


class SchemaError(ZooError):
    """A dataset does not give what a model takes."""


class DataError(ZooError):
    """A file or array that cannot be read as what it should be."""


class WriteError(DataError):
    """A file or folder that cannot be written: the disk is full, or the permission lacks."""


class WeightsError(ZooError):
    """Weights that are absent, damaged or of another architecture."""


class RankError(ZooError):
    """A process of a run that was lost, which is nobody's mistake."""

    exit_code = 1


class EvaluationError(ZooError):
    """A protocol that cannot be run on the arrays it was given."""


def suggest(name: str, known: Iterable[str], *, limit: int = 12) -> str:
    """Up to three near names, then the list (capped), as the tail of an error message."""
    names = sorted(known)
    if not names:
        return "Nothing is registered under this kind."
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    head = f"Did you mean {' or '.join(repr(n) for n in near)}? " if near else ""
    shown = ", ".join(names[:limit]) + (f", … ({len(names)} in all)" if len(names) > limit else "")
    return f"{head}Known: {shown}."


def first_line(error: BaseException) -> str:
    """What another library's error says, for the middle of a message: its first line without the
    full stop, or its kind where it says nothing."""
    lines = (line.strip() for line in str(error).splitlines())
    return next(filter(None, lines), type(error).__name__).rstrip(".")
