"""Tensors on disk: strict reading of safetensors, and key maps from upstream's names to ours."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from shared.errors import WeightsError
from shared.files import atomic_path


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a safetensors file atomically."""
    with atomic_path(path) as temporary:
        save_file({k: v.detach().cpu().contiguous() for k, v in tensors.items()}, temporary)


def read_tensors(path: Path, prefixes: Sequence[str] | None = None) -> dict[str, Tensor]:
    """Read a safetensors file; with `prefixes`, only the tensors whose names start with one.

    Raises:
        WeightsError: No such file, or not a whole safetensors file.
    """
    if not path.is_file():
        raise WeightsError(f"There is no weights file {path}.")
    try:
        with safe_open(path, framework="pt") as file:
            names = file.keys()
            wanted = [n for n in names if prefixes is None or n.startswith(tuple(prefixes))]
            return {name: file.get_tensor(name) for name in wanted}
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{path} is damaged or no safetensors file ({error}). Fetch or write it again."
        ) from error


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Fill every parameter and buffer of a module, from exactly these tensors.

    Raises:
        WeightsError: Missing or extra names, other shapes, NaN or infinite values; the message
            gives counts, examples and the likely cause. Nothing is loaded then.
    """
    own = module.state_dict()
    missing = [name for name in own if name not in tensors]
    extra = [name for name in tensors if name not in own]
    shapes = [
        f"{n} is {tuple(tensors[n].shape)} in the file and {tuple(own[n].shape)} in the model"
        for n in own
        if n in tensors and tensors[n].shape != own[n].shape
    ]
    broken = [n for n, t in tensors.items() if t.is_floating_point() and not t.isfinite().all()]
    problems = [
        _count("tensors are missing", missing),
        _count("tensors are not of this model", extra),
        _count("tensors have another shape", shapes),
        _count("tensors hold NaN or infinite values", broken),
    ]
    if any(problems):
        raise WeightsError(
            f"{source} does not fit the model: {'; '.join(p for p in problems if p)}. "
            f"{_likely_cause(missing, extra, shapes, broken)}"
        )
    module.load_state_dict(dict(tensors))


def _count(what: str, names: Sequence[str], shown: int = 3) -> str:
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:shown])}{', …' if len(names) > shown else ''})"


def _likely_cause(
    missing: Sequence[str], extra: Sequence[str], shapes: Sequence[str], broken: Sequence[str]
) -> str:
    if missing and extra:
        for name in extra:
            tail = next((m for m in missing if name.endswith("." + m)), None)
            if tail:
                return f"Likely cause: the file's names carry the prefix {name[: -len(tail)]!r}."
            tail = next((m for m in missing if m.endswith("." + name)), None)
            if tail:
                return f"Likely cause: the file's names lack the prefix {tail[: -len(name)]!r}."
        return "Likely cause: the file belongs to another architecture."
    if shapes:
        return "Likely cause: another variant of the model, or other settings in config.json."
    if broken:
        return "Likely cause: a training run that diverged, or a damaged file."
    return "Likely cause: a file of another version of the model."


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
        raise WeightsError(
            f"The checkpoint holds {upstream!r}, which this model's key map does not know. "
            "It is of another model or of a newer upstream version."
        )

    def convert(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Upstream's tensors under our names."""
        named = {}
        for upstream, tensor in tensors.items():
            name = self.name(upstream)
            if name is not None:
                named[name] = tensor.T if upstream in self.transposed else tensor
        return named


def _match(pattern: str, name: str) -> re.Match[str] | None:
    return re.fullmatch(re.escape(pattern).replace(r"\*", "(.*)"), name)


def tensors_fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """Hash of names, shapes, dtypes and values, 16 hex digits: the revision of local weights."""
    import hashlib

    digest = hashlib.sha256()
    for name in sorted(tensors):
        tensor = tensors[name].detach().cpu().contiguous()
        digest.update(f"{name}:{tuple(tensor.shape)}:{tensor.dtype}".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]
