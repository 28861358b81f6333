"""Why tensors do not fit a model: counts, examples and the likely cause."""

import re
from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor

WRAPPING = ("module.", "_orig_mod.", "model.", "student.", "teacher.", "backbone.", "encoder.")
"""Prefixes that DDP, `torch.compile`, Lightning and self-distillation put before names."""

_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def describe_misfit(own: Mapping[str, Tensor], tensors: Mapping[str, Tensor]) -> str:
    """What is wrong with `tensors` as values of `own`, in one or two sentences; empty where
    nothing is.

    Args:
        own: The model's, by name.
        tensors: Those that should fill it.
    """
    missing = [name for name in own if name not in tensors]
    extra = [name for name in tensors if name not in own]
    both = [name for name in own if name in tensors]
    shapes = [n for n in both if tensors[n].shape != own[n].shape]
    kinds = [n for n in both if not _same_kind(own[n], tensors[n])]
    # of the others: one element that claims the shape of a petabyte would be unfolded here
    fitting = [n for n in both if n not in shapes and n not in kinds]
    broken = [n for n in fitting if own[n].is_floating_point() and not tensors[n].isfinite().all()]
    problems = [
        _count("tensors are missing", missing),
        _count("tensors are not of this model", extra),
        _count(
            "tensors have another shape",
            [f"{n} is {tuple(tensors[n].shape)} in the file and {tuple(own[n].shape)} in the model"
             for n in shapes],
        ),
        _count(
            "tensors hold another kind of number",
            [f"{n} is {_name(tensors[n])} in the file and {_name(own[n])} in the model"
             for n in kinds],
        ),
        _count("tensors hold NaN or infinite values", broken),
    ]  # fmt: skip
    if not any(problems):
        return ""
    cause = (
        _of_names(own, missing, extra)
        or _of_shapes(own, tensors, shapes)
        or _of_kinds(kinds)
        or _of_values(tensors, broken)
        or "a file of another version of the model"
    )
    return f"{'; '.join(p for p in problems if p)}. Likely cause: {cause}."


def find_prefix(wanted: Collection[str], given: Collection[str]) -> tuple[str, str] | None:
    """The prefix that names given carry and names wanted lack, and the other way round; one of the
    two is empty. None where no prefix explains anything."""
    for name in given:
        if tail := next((w for w in wanted if name.endswith(f".{w}")), None):
            return name[: -len(tail)], ""
    for name in given:
        if tail := next((w for w in wanted if w.endswith(f".{name}")), None):
            return "", tail[: -len(name)]
    return None


def _count(what: str, names: Sequence[str], shown: int = 3) -> str:
    if not names:
        return ""
    return f"{len(names)} {what} ({', '.join(names[:shown])}{', …' if len(names) > shown else ''})"


def _same_kind(own: Tensor, given: Tensor) -> bool:
    if own.is_floating_point():
        return given.dtype in _FLOATS
    return not given.is_floating_point() and not given.is_complex()


def _name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _of_names(own: Mapping[str, Tensor], missing: Sequence[str], extra: Sequence[str]) -> str:
    text = " ".join(extra)
    if "lora_" in text or "adapter" in text:
        return "the weights of a LoRA or another adapter; merge them into the model they adapt"
    if "exp_avg" in text or "param_groups" in text:
        return "the state of an optimiser instead of weights"
    if missing and extra:
        if found := find_prefix(missing, extra):
            carried, lacking = found
            verb, prefix = ("carry", carried) if carried else ("lack", lacking)
            return f"the file's names {verb} the prefix {prefix!r}"
        return "the file belongs to another architecture"
    if missing or extra:
        # (stack, number of a block): whole blocks too many or too few
        ours, theirs = _blocks(own), _blocks([n for n in own if n not in missing] + list(extra))
        for stack in ours.keys() & theirs.keys():
            if ours[stack] != theirs[stack]:
                return (
                    f"another depth: {stack} has {theirs[stack]} blocks in the file and "
                    f"{ours[stack]} in the model"
                )
    return ""


def _blocks(names: Collection[str]) -> dict[str, int]:
    """Number of blocks of every stack of modules, such as `blocks.0`, `blocks.1`."""
    found: dict[str, set[str]] = {}
    for name in names:
        for match in re.finditer(r"\.(\d+)\.", name):
            found.setdefault(name[: match.start()], set()).add(match[1])
    return {stack: len(numbers) for stack, numbers in found.items()}


def _of_shapes(
    own: Mapping[str, Tensor], tensors: Mapping[str, Tensor], shapes: Sequence[str]
) -> str:
    if not shapes:
        return ""
    pairs = {n: (tuple(tensors[n].shape), tuple(own[n].shape)) for n in shapes}
    if all(len(a) == 2 and a == b[::-1] for a, b in pairs.values()):
        return "matrices are transposed, as in a file of another library"
    if all("position" in n or "pos_" in n for n in shapes):
        return "another image or patch size, or length: the table of positions differs"
    if all("classifier" in n or n.startswith(("head.", "fc.")) for n in shapes):
        return "another number of classes, or another width of what the classifier reads"
    if all(len(a) > 2 and a[:2] == b[:2] for a, b in pairs.values()):
        return "another patch or kernel size"
    return "another variant of the model (its width), or other settings in config.json"


def _of_kinds(kinds: Sequence[str]) -> str:
    return "a quantised model, or indices in place of weights" if kinds else ""


def _of_values(tensors: Mapping[str, Tensor], broken: Sequence[str]) -> str:
    if not broken:
        return ""
    half = [n for n in broken if tensors[n].dtype == torch.float16 and tensors[n].isinf().any()]
    if half:
        return (
            "values beyond float16, which ends at 65,504, were saved in it; save them in float32 "
            "or bfloat16"
        )
    return "a training run that diverged, or a damaged file"
