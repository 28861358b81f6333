"""Tensors that do not fit a model: counts, examples and the likely cause."""

import pytest
import torch

from shared.errors import WeightsError
from shared.weights import KeyMap, load_strictly


class Small(torch.nn.Module):
    """With the parts whose names tell a cause."""

    def __init__(self, width: int = 4, depth: int = 2, classes: int = 3, patches: int = 9) -> None:
        super().__init__()
        self.patch_embed = torch.nn.Conv2d(3, width, 4)
        self.pos_embed = torch.nn.Parameter(torch.zeros(patches, width))
        self.blocks = torch.nn.ModuleList(torch.nn.Linear(width, 2 * width) for _ in range(depth))
        self.classifier = torch.nn.Linear(width, classes)
        self.register_buffer("index", torch.arange(5))


GOOD = Small().state_dict()


def with_prefix(prefix: str) -> dict[str, torch.Tensor]:
    return {f"{prefix}{name}": tensor for name, tensor in GOOD.items()}


def without(*names: str) -> dict[str, torch.Tensor]:
    return {name: tensor for name, tensor in GOOD.items() if name not in names}


def patch_of_two() -> torch.Tensor:
    return torch.ones(4, 3, 2, 2)


def too_large_for_half() -> torch.Tensor:
    return torch.full((4,), 1e5).half()


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        (with_prefix("module."), ["10 tensors are missing", "10 tensors are not"]),
        (with_prefix("module."), ["carry the prefix 'module.'"]),
        (with_prefix("_orig_mod."), ["carry the prefix '_orig_mod.'"]),
        (with_prefix("model."), ["carry the prefix 'model.'"]),
        (with_prefix("student.backbone."), ["carry the prefix 'student.backbone.'"]),
        ({n.removeprefix("blocks."): t for n, t in GOOD.items()}, ["lack the prefix 'blocks.'"]),
        (without("classifier.bias"), ["1 tensors are missing (classifier.bias)"]),
        ({**GOOD, "extra": torch.ones(1)}, ["1 tensors are not of this model (extra)"]),
        ({"other.weight": torch.ones(1)}, ["belongs to another architecture"]),
        (Small(depth=3).state_dict(), ["2 tensors are not", "3 blocks in the file and 2"]),
        (Small(depth=1).state_dict(), ["2 tensors are missing", "another depth: blocks has 1"]),
        (Small(width=8).state_dict(), ["8 tensors have another shape", "another variant", "width"]),
        (Small(classes=10).state_dict(), ["2 tensors have", "another number of classes"]),
        (Small(patches=16).state_dict(), ["1 tensors have", "another image or patch size"]),
        ({**GOOD, "patch_embed.weight": patch_of_two()}, ["another patch or kernel size"]),
        ({**GOOD, "blocks.0.weight": torch.ones(4, 8)}, ["is (4, 8) in the file", "transposed"]),
        ({**GOOD, "classifier.bias": torch.tensor([1, torch.nan, 2])}, ["1 tensors hold NaN"]),
        ({**GOOD, "classifier.bias": torch.tensor([1, torch.nan, 2])}, ["diverged"]),
        ({**GOOD, "patch_embed.bias": too_large_for_half()}, ["infinite values", "beyond float16"]),
        ({**GOOD, "lora_A.weight": torch.ones(1)}, ["LoRA"]),
        ({"state.0.exp_avg": torch.ones(1)}, ["state of an optimiser"]),
        ({**GOOD, "classifier.bias": torch.ones(3, dtype=torch.int64)},
         ["classifier.bias is int64 in the file and float32", "quantised"]),
        ({**GOOD, "index": torch.ones(5)}, ["index is float32 in the file and int64"]),
        ({**GOOD, "classifier.bias": torch.ones(3).to(torch.float8_e4m3fn)}, ["float8_e4m3fn"]),
        ({**GOOD, "classifier.bias": torch.ones(3, dtype=torch.complex64)}, ["complex64"]),
        ({}, ["10 tensors are missing"]),
    ],
)  # fmt: skip
def test_tensors_that_do_not_fit(tensors: dict[str, torch.Tensor], words: list[str]) -> None:
    module = Small()
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(WeightsError, match=r"^m\.pt does not fit") as caught:
        load_strictly(module, tensors, "m.pt")
    for word in words:
        assert word in str(caught.value), caught.value
    assert all(torch.equal(before[n], t) for n, t in module.state_dict().items())


def test_tensors_of_half_precision_fit() -> None:
    module = Small()
    halves = {n: t.half() if t.is_floating_point() else t for n, t in GOOD.items()}
    load_strictly(module, halves, "m.pt")
    assert module.classifier.weight.dtype == torch.float32
    assert torch.equal(module.classifier.weight, GOOD["classifier.weight"].half().float())


def test_a_key_map_tells_a_wrapper() -> None:
    keys = KeyMap([("layer.*.weight", "blocks.*.weight")])
    with pytest.raises(WeightsError, match=r"carry the prefix 'module\.' of a wrapper"):
        keys.convert({"module.layer.0.weight": torch.ones(1)})
    with pytest.raises(WeightsError, match="does not know"):
        keys.convert({"other.weight": torch.ones(1)})
