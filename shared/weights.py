"""Tensors on disk: strict reading of safetensors, and key maps from upstream's names to ours."""

import json
import math
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from shared.errors import DataError, WeightsError, WriteError, first_line
from shared.files import atomic_path
from shared.misfit import WRAPPING, describe_misfit
from shared.untrusted import check_zip

HEAD = "zoo"
"""The one text in the head of a file: safetensors leaves the order of several to chance."""
FINGERPRINT = "fingerprint"
# of what is made while a model is built and replaced or thrown away at once
_SPARE, _FEW = 10, 10**7


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, Any] | None = None
) -> None:
    """Write a safetensors file atomically; in its head stand `metadata`, which JSON can hold, and
    the fingerprint of the tensors.

    Raises:
        WriteError: It cannot be written.
    """
    facts = {**(metadata or {}), FINGERPRINT: tensors_fingerprint(tensors)}
    _write(path, tensors, {HEAD: json.dumps(facts, sort_keys=True)})


def write_foreign_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically as other libraries do: transformers refuses one whose
    head does not say which framework wrote it.

    Raises:
        WriteError: It cannot be written.
    """
    _write(path, tensors, {"format": "pt"})


def _write(path: Path, tensors: Mapping[str, Tensor], head: dict[str, str]) -> None:
    with atomic_path(path) as temporary:
        temporary.touch()
        mode = temporary.stat().st_mode
        contiguous = {k: v.detach().cpu().contiguous() for k, v in tensors.items()}
        try:
            save_file(contiguous, temporary, head)
        except SafetensorError as error:
            raise WriteError(f"{path} cannot be written: {first_line(error)}.") from error
        # safetensors lets nobody else read what it writes
        temporary.chmod(mode)


def read_tensors(path: Path, prefixes: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Read a safetensors file; with `prefixes`, only the tensors whose names start with one.

    All tensors together are compared with the fingerprint in the head of the file, if it has one.

    Raises:
        WeightsError: No such file, not a whole safetensors file, or the tensors are others than
            those that were written.
    """
    with _opened(path) as file:
        names = file.keys()
        wanted = [n for n in names if prefixes is None or n.startswith(tuple(prefixes))]
        tensors = {name: file.get_tensor(name) for name in wanted}
    if prefixes is None:
        fingerprint = read_metadata(path).get(FINGERPRINT)
        if fingerprint not in (None, tensors_fingerprint(tensors)):
            raise WeightsError(
                f"{path} is damaged: its tensors do not fit the fingerprint that it carries. "
                "Fetch or write it again."
            )
    return tensors


def read_metadata(path: Path) -> dict[str, Any]:
    """What `write_tensors` put into the head of a safetensors file; empty for files of others.

    Raises:
        WeightsError: As `read_tensors`; or what stands there is damaged.
    """
    with _opened(path) as file:
        text = (file.metadata() or {}).get(HEAD, "{}")
    try:
        return dict(json.loads(text))
    except (TypeError, ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is damaged: its head holds {text[:40]!r}.") from error


@contextmanager
def memory_for(path: Path) -> Iterator[None]:
    """While a model is built for the weights in a safetensors file: hold that it takes not far more
    memory than they do, before memory or hours go into it.

    Raises:
        WeightsError: It does; or as `read_metadata`.
    """
    with _opened(path) as file:
        shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
    with _Bounded(_SPARE * sum(map(math.prod, shapes)) + _FEW, path):
        yield


class _Bounded(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the elements of all tensors that are made."""

    def __init__(self, most: int, path: Path) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._left, self._path = most, path

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **(kwargs or {}))
        returns = func._schema.returns
        # neither a view nor what was there
        if isinstance(made, Tensor) and returns and returns[0].alias_info is None:
            self._left -= made.numel()
        if self._left < 0:
            raise WeightsError(
                f"{self._path.parent}: config.json is of a far larger model than the weights in "
                f"{self._path.name}; its sizes are damaged, or it is of another model."
            )
        return made


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            yield file
    except (SafetensorError, OSError) as error:
        with path.open("rb") as content:
            head = content.read(2)
        hint = "Fetch or write it again."
        if head in (b"PK", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"):
            hint = "By its content it is a pickle; nothing of it was run."
        raise WeightsError(
            f"{path} is damaged or no safetensors file ({first_line(error)}). {hint}"
        ) from error


def read_pickled(path: Path) -> Any:
    """What `torch.save` wrote, as far as it is tensors in plain containers: code never runs.

    Raises:
        WeightsError: No such file, damaged, one that unpacks to far too much, or one that holds
            anything else; what would have run is named.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    try:
        if zipfile.is_zipfile(path):
            check_zip(path)
            with zipfile.ZipFile(path) as archive:
                if damaged := archive.testzip():  # torch does not compare them
                    raise DataError(
                        f"{path} is damaged: the check sum of {damaged} does not fit. Get it anew."
                    )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they speak to whoever calls torch
            return torch.load(path, map_location="cpu", weights_only=True)
    except DataError as error:
        raise WeightsError(str(error)) from error
    except Exception as error:  # unpickling raises many kinds; none of them has run any code
        if found := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise WeightsError(
                f"{path} holds code ({found[1]}); it was not run, and nothing was read. Only "
                f"tensors in plain containers are read from such a file. {_SAVE}"
            ) from error
        # torch tells how such code could be run, which nobody should do
        reason = "" if "weights_only" in str(error) else f" ({first_line(error)[:200]})"
        raise WeightsError(
            f"{path} is damaged, or holds more than tensors{reason}; no code in it was run. {_SAVE}"
        ) from error


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Tensors by name: a safetensors file, or a state dict that `torch.save` wrote, bare or under
    `state_dict` or `model`; no code in it runs.

    Raises:
        WeightsError: As `read_pickled`; or no state dict of dense tensors.
    """
    if path.suffix == ".safetensors":
        return read_tensors(path)
    content = read_pickled(path)
    for wrapper in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapper), Mapping):
            content = content[wrapper]
    if isinstance(content, Mapping) and {"state", "param_groups"} <= set(content):
        raise WeightsError(f"{path} holds the state of an optimiser, not weights. {_SAVE}")
    if not isinstance(content, Mapping) or not all(isinstance(name, str) for name in content):
        raise WeightsError(f"{path} holds no state dict, a mapping from names to tensors. {_SAVE}")
    for name, value in content.items():
        if not isinstance(value, Tensor):
            raise WeightsError(
                f"{path} holds no state dict: {name!r} is a {type(value).__name__}, no tensor. "
                f"{_SAVE}"
            )
        if value.layout != torch.strided or value.is_meta or value.is_quantized:
            raise WeightsError(f"{path}: {name!r} is a sparse, empty or quantised tensor. {_SAVE}")
    return dict(content)


_SAVE = "Save model.state_dict() alone, best as safetensors."


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill every parameter and buffer of a module, from exactly these tensors.

    Raises:
        WeightsError: Missing or extra names, other shapes or kinds of numbers, NaN or infinite
            values; the message gives counts, examples and the likely cause. Nothing is loaded then.
    """
    if problem := describe_misfit(module.state_dict(), tensors):
        raise WeightsError(f"{source} does not fit the model: {problem}")
    module.load_state_dict(dict(tensors))


@dataclass(frozen=True)
class KeyMap:
    """From an upstream checkpoint's names to ours.

    Attributes:
        rules: (pattern, replacement); `*` stands for any text and is carried over. The first
            pattern that fits decides.
        ignored: Pattern → reason, for upstream tensors that ours has no use for.
        transposed: Upstream's names of matrices that multiply from the other side.
    """

    rules: Sequence[tuple[str, str]]
    ignored: Mapping[str, str] = field(default_factory=dict)
    transposed: Sequence[str] = ()

    def name(self, upstream: str) -> str | None:
        """Our name of an upstream tensor; None where it is ignored.

        Raises:
            WeightsError: No rule fits.
        """
        for pattern, replacement in self.rules:
            if found := _match(pattern, upstream):
                return replacement.replace("*", "{}").format(*found.groups())
        if any(_match(pattern, upstream) for pattern in self.ignored):
            return None
        for prefix in WRAPPING:
            bare = upstream.removeprefix(prefix)
            if bare != upstream and any(_match(pattern, bare) for pattern, _ in self.rules):
                raise WeightsError(
                    f"The checkpoint holds {upstream!r}: its names carry the prefix {prefix!r} of "
                    "a wrapper. Save the state dict of the model inside."
                )
        raise WeightsError(
            f"The checkpoint holds {upstream!r}, which this model's key map does not know. "
            "It is of another model or of a newer upstream version."
        )

    def convert(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Upstream's tensors under our names.

        Raises:
            WeightsError: As `name`, or two tensors have the same name of ours.
        """
        named: dict[str, Tensor] = {}
        for upstream, tensor in tensors.items():
            name = self.name(upstream)
            if name in named:
                raise WeightsError(f"The checkpoint holds {name!r} twice, once as {upstream!r}.")
            if name is not None:
                named[name] = tensor.T if upstream in self.transposed else tensor
        return named

    def inverse(self) -> "KeyMap":
        """From our names to upstream's; what upstream's files hold beside has none of ours."""
        return KeyMap(
            [(ours, upstream) for upstream, ours in self.rules],
            transposed=[str(self.name(upstream)) for upstream in self.transposed],
        )


def _match(pattern: str, name: str) -> re.Match[str] | None:
    return re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), name)


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, shapes, dtypes and values, 16 hex digits: the revision of local weights."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
