"""A Python function as an embedder."""

import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError, DependencyError, EvaluationError, UnknownNameError, suggest
from shared.evaluation.foreign.checks import checked_vectors
from shared.schema import Schema

Function = Callable[[list[Any]], Any]


class FunctionEmbedder:
    """A function that takes a list of raw inputs, as the dataset gives them, and returns one row
    of numbers an input: (n, d), an array or a tensor.

    Its embeddings are not cached, since nothing tells when the code behind it changes; unless the
    function says so itself: with `function.revision = "2"`, they are kept until that changes.

    Args:
        name: What stands beside its scores.
        function: The function.
        modality: The modality to embed; None: the dataset's only one.
    """

    def __init__(self, name: str, function: Function, modality: str | None) -> None:
        self.name, self._function, self._modality = name, function, modality
        self.revision = _revision(function)
        self._dims: dict[str, int] = {}

    def modalities(self, schemas: Mapping[str, Schema]) -> tuple[str, ...]:
        """The one modality it is given, from then on: class names are no images.

        Raises:
            ConfigError: The dataset has several, or not the one asked for.
        """
        if self._modality is None and len(schemas) > 1:
            raise ConfigError(
                f"{self.name} takes one modality; the data give {', '.join(schemas)}. Choose one "
                f"by modalities=[{next(iter(schemas))}]."
            )
        modality = self._modality or next(iter(schemas))
        if modality not in schemas:
            raise ConfigError(
                f"The data give no modality {modality!r}. {suggest(modality, schemas)}"
            )
        self._modality = modality
        return (modality,)

    def embed(self, modality: str, raws: Sequence[Any], schema: Schema) -> NDArray[np.float32]:
        """(n,) raw inputs → (n, d).

        Raises:
            EvaluationError: What came is not that, or is of another d than the batch before; or a
            torch module that the function calls is in train mode.
        """
        _refuse_train_mode(self.name, self._function)
        vectors = checked_vectors(self.name, self._function(list(raws)), len(raws))
        dim = self._dims.setdefault(modality, vectors.shape[1])
        if vectors.shape[1] != dim:
            raise EvaluationError(
                f"{self.name} gave {vectors.shape[1]} numbers an input, and {dim} in the batch "
                "before. Every input needs the same number."
            )
        return vectors


def _revision(function: Function) -> str:
    """What a function says of itself, with its name and code where it has some, so that two of
    one name are told apart; empty where it says nothing."""
    own = getattr(function, "revision", "")
    if not isinstance(own, str) or not own:
        return ""
    named = function if hasattr(function, "__qualname__") else type(function)
    code = getattr(function, "__code__", None)
    digest = "" if code is None else hashlib.sha256(_words_of(code).encode()).hexdigest()[:16]
    return f"{named.__module__}.{named.__qualname__}|{digest}|{own}"


def _words_of(constant: Any) -> str:
    """What code does, its constants and the names it uses, not where it stands; of anything else,
    what it looks like."""
    if isinstance(constant, CodeType):
        words = [_words_of(each) for each in constant.co_consts]
        return repr((constant.co_code.hex(), constant.co_names, words))
    if isinstance(constant, frozenset):  # in another order in every process
        return repr(sorted(map(_words_of, constant)))
    return repr(constant)


def _refuse_train_mode(name: str, function: Function) -> None:
    """Raise an EvaluationError where a torch module is, is the owner of, or is named by a function
    and is in train mode: dropout and batch statistics would make its results depend on chance and
    on the batch."""
    torch = sys.modules.get("torch")
    if torch is None:
        return
    found = {name: function, f"the owner of {name}": getattr(function, "__self__", None)}
    if inspect.isfunction(function):
        variables = inspect.getclosurevars(function)
        found |= {**variables.globals, **variables.nonlocals}
    for what, value in found.items():
        if isinstance(value, torch.nn.Module) and any(m.training for m in value.modules()):
            raise EvaluationError(
                f"{name}: {what} is a torch module in train mode: dropout and batch normalisation "
                "would act as in training. Call its .eval() first."
            )


def import_function(name: str) -> Function:
    """The function behind `python:module:function`; modules in the current folder are found, after
    the installed ones. An exception in the module's own code is passed on as it is.

    Raises:
        ConfigError: Another form of name, or not a function.
        UnknownNameError: No such module or function.
        DependencyError: The module imports something that is not installed.
    """
    _, _, target = name.partition(":")
    module_name, _, attribute = target.partition(":")
    if not attribute or not module_name or module_name.startswith("."):
        raise ConfigError(f"{name}: the form is python:module:function, as python:my_module:embed.")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name and f"{module_name}.".startswith(f"{error.name}."):
            raise UnknownNameError(
                f"{name}: there is no module {error.name!r}, installed or in {os.getcwd()}. Run "
                "from the folder that holds it, or set PYTHONPATH."
            ) from error
        raise DependencyError(
            f"{name}: {module_name} needs {error.name}, which is not installed."
        ) from error
    function = getattr(module, attribute, None)
    if function is None:
        known = [n for n, v in vars(module).items() if callable(v) and not n.startswith("_")]
        raise UnknownNameError(
            f"{name}: {module_name} has no function {attribute!r}. {suggest(attribute, known)}"
        )
    if not callable(function):
        raise ConfigError(f"{name}: {attribute} is a {type(function).__name__}, not a function.")
    found: Function = function
    return found
