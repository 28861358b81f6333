"""What makes a step faster changes no numbers beyond rounding: compile, bfloat16 and the memory
format, together with micro-batches and ranks."""

import runpy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from shared.data.batch import Batch
from shared.distributed import rank, world_size
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import Position
from shared.training.checks import check_processes
from shared.training.config import TrainConfig
from shared.training.passes import Cached, Passes, Plain
from shared.training.runner import Runner
from zoo.config import compose_config, typed
from zoo.plugins import plugins

ROWS = 8
BOUNDS = {"float32": 1e-5, "bfloat16": 0.05}
"""Of the difference of all gradients over their norm: bfloat16 has 8 bits."""
RANKS = Path(__file__).resolve().with_name("ranks.py")


@pytest.fixture
def runner(tiny_clip: Model) -> Runner:
    registries = plugins().registries
    objective = registries.objectives.build("contrastive", "test", tiny_clip.modalities)
    return Runner(tiny_clip, {"contrastive": objective}, {"contrastive": 1.0}).train()


@pytest.fixture
def batch() -> Batch:
    generator = torch.Generator().manual_seed(0)
    ids = torch.randint(1, 49407, (ROWS, 12), generator=generator)
    inputs = {
        "image": {"values": torch.randn(ROWS, 3, 16, 16, generator=generator)},
        "text": {"input_ids": ids},
    }
    rows = torch.arange(ROWS)
    present = {m: torch.ones(ROWS, dtype=torch.bool) for m in inputs}
    return Batch(inputs, present, torch.zeros(ROWS).long(), rows, rows, rows)


def own_part(batch: Batch) -> Batch:
    """The rows of this rank."""
    own = slice(rank() * ROWS // world_size(), (rank() + 1) * ROWS // world_size())
    inputs = {m: {n: t[own] for n, t in named.items()} for m, named in batch.inputs.items()}
    present = {m: t[own] for m, t in batch.present.items()}
    whole = {n: getattr(batch, n)[own] for n in ("labels", "groups", "rows", "seeds")}
    return replace(batch, inputs=inputs, present=present, **whole)


def step(runner: Runner, batch: Batch, passes: Passes, precision: str) -> tuple[float, Tensor]:
    """The loss of all ranks and their mean gradient, all parameters in a row."""
    runner.zero_grad()
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
        output = passes(runner, own_part(batch), Position(), Tensor.backward)
    gradient = torch.cat([p.grad.flatten() for p in runner.parameters() if p.grad is not None])
    if world_size() > 1:
        dist.all_reduce(gradient)
    return output.value, gradient / world_size()


def cached_steps(runner: Runner, batch: Batch) -> dict[str, tuple[float, Tensor]]:
    """In micro-batches, by precision."""
    return {precision: step(runner, batch, Cached(3), precision) for precision in BOUNDS}


def assert_close(found: tuple[float, Tensor], wanted: tuple[float, Tensor], bound: float) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=bound)
    assert (found[1] - wanted[1]).norm() < bound * wanted[1].norm()


def test_micro_batches_on_ranks_equal_one_plain_step(runner: Runner, batch: Batch) -> None:
    run_ranks: Any = runpy.run_path(str(RANKS))["run_ranks"]
    expected = step(runner, batch, Plain(), "float32")
    for found in run_ranks(2, cached_steps, runner, batch):
        for precision, bound in BOUNDS.items():
            assert_close(found[precision], expected, bound)


@pytest.mark.slow
def test_compiled_micro_batches_equal_one_plain_step(runner: Runner, batch: Batch) -> None:
    expected = step(runner, batch, Plain(), "float32")
    for encoder in runner.model.encoders.values():
        # traces as the default backend does, and needs no C++ compiler
        encoder.compile(backend="aot_eager")
    found = step(runner, batch, Cached(ROWS // 2), "bfloat16")
    assert_close(found, expected, BOUNDS["bfloat16"])


def test_memory_format_changes_no_numbers(runner: Runner, batch: Batch, tmp_path: Path) -> None:
    expected = step(runner, batch, Plain(), "float32")
    fingerprint = runner.model.fingerprint()
    runner.to(memory_format=torch.channels_last)
    kernel = runner.model.get_parameter("encoders.image.trunk.conv1.weight")
    assert not kernel.is_contiguous()
    assert_close(step(runner, batch, Plain(), "float32"), expected, BOUNDS["float32"])
    # nor what is written
    assert runner.model.fingerprint() == fingerprint
    runner.model.save(tmp_path, "# card\n")
    assert Model.load(tmp_path, plugins().registries).fingerprint() == fingerprint


def test_fsdp_takes_torchs_own_memory_format() -> None:
    overrides = ["domain=astro", "trainer=fsdp", "trainer.channels_last=true"]
    with pytest.raises(ConfigError, match="do not go together"):
        check_processes(typed(TrainConfig, compose_config("train", overrides)))
