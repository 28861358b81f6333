"""Steps of runs of the smoke table, in one process or split over several; for `run_ranks`.

A step is one of training: passes, optimiser (plain SGD, so that rounding stays small), after_step.
The model's own randomness (dropout) is off; batch norms and the objectives are in training mode.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple, cast

import torch
from torch import Tensor
from torch.nn.modules.batchnorm import _BatchNorm

from shared.data.batch import Batch, View
from shared.data.build import build_dataset
from shared.data.prepared import PreparedDataset
from shared.distributed import mean_over_ranks, rank, world_size
from shared.objectives.base import Position
from shared.objectives.dinov2 import DINOv2
from shared.training.batch_norm import join_batch_norms
from shared.training.build import build_passes, build_runner
from shared.training.config import TrainConfig
from shared.training.optimization import build_optimizer
from shared.training.passes import Passes
from shared.training.runner import Runner
from zoo.config import compose_config, typed
from zoo.plugins import plugins

ROWS = 8
POSITION = Position(3, 20, 5)

# Small layer scales make the class tokens of all images equal to 1e-6 before training: rounding
# would choose the neighbours.
SPREAD = ["+model.modalities.image.encoder.layer_scale=null"]

# settings of objectives that change what ranks exchange, beside the runs of the smoke table
OPTIONS: dict[str, tuple[str, list[str]]] = {
    "contrastive, all rows on every rank": (
        "contrastive",
        ["objective.contrastive.local_loss=false"],
    ),
    "contrastive, a scale a pair, clamped forward": (
        "contrastive",
        [
            "objective.contrastive.scale=pair",
            "objective.contrastive.clamp=forward",
            "objective.contrastive.initial_scale=100",
        ],
    ),
    "contrastive, in micro-batches": (
        "contrastive",
        ["passes=cached", "passes.micro_batch=2"],
    ),
    "contrastive, by label": ("contrastive", ["objective.contrastive.positives=label"]),
    "sigmoid, in chunks by label": (
        "sigmoid",
        ["objective.sigmoid.positives=label", "objective.sigmoid.chunk_rows=2"],
    ),
    "filip, in blocks by label": (
        "filip",
        ["objective.filip.positives=label", "objective.filip.chunk_rows=2"],
    ),
    "filip, all at once": ("filip", ["objective.filip.chunk_rows=null"]),
    "distillation, all rows on every rank": (
        "distillation",
        ["objective.distillation.local_loss=false"],
    ),
    "supcon, one anchor a sample": ("supcon", ["objective.supcon.anchors=one"]),
}

# what upstream's code does on each device by itself: no joint batch gives the same
PER_RANK: dict[str, tuple[str, list[str]]] = {
    "contrastive, no gradient between ranks": (
        "contrastive",
        ["objective.contrastive.local_loss=false", "objective.contrastive.gather_with_grad=false"],
    ),
    "dinov2, neighbours of a rank": ("dinov2", ["objective.dinov2.koleo_neighbours=rank"]),
}


@dataclass(frozen=True)
class Layout:
    """How the rows of a batch lie on ranks.

    Attributes:
        parts: Rows of every rank.
        absent: Ranks whose rows lack the first modality.
    """

    parts: tuple[int, ...]
    absent: tuple[int, ...] = ()

    def __str__(self) -> str:
        parts = "+".join(map(str, self.parts))
        return parts + (f", none on {', '.join(map(str, self.absent))}" if self.absent else "")

    def rows_of(self, number: int) -> slice:
        start = sum(self.parts[:number])
        return slice(start, start + self.parts[number])


LAYOUTS = {
    2: [Layout((5, 3)), Layout((8, 0)), Layout((5, 3), absent=(1,))],
    3: [Layout((3, 4, 1)), Layout((0, 8, 0)), Layout((3, 4, 1), absent=(0, 2))],
}


class Step(NamedTuple):
    """What a step leaves, by name.

    Attributes:
        loss: 0-d, of the joint batch.
        gradients: Of the trainable parameters.
        state: Parameters and buffers after the step.
        start: Parameters and buffers before the step.
    """

    loss: Tensor
    gradients: dict[str, Tensor]
    state: dict[str, Tensor]
    start: dict[str, Tensor]


def matrix(smoke: Mapping[str, list[str]]) -> dict[str, list[str]]:
    """Settings of the runs that equal the joint batch: the smoke table's, and some with options."""
    runs = {n: settings + SPREAD * n.startswith("dinov2") for n, settings in smoke.items()}
    return runs | with_options(runs, OPTIONS)


def with_options(
    runs: Mapping[str, list[str]], options: Mapping[str, tuple[str, list[str]]]
) -> dict[str, list[str]]:
    """Settings of runs of the smoke table with options, by the options' names."""
    return {name: runs[base] + settings for name, (base, settings) in options.items()}


@cache
def _config(*settings: str) -> TrainConfig:
    """Composed once, for it takes longer than a step; `run_ranks` hands it on to the ranks."""
    return typed(TrainConfig, compose_config("train", list(settings)))


def make_run(settings: list[str]) -> tuple[Runner, Batch]:
    """What `zoo train` with these settings trains, and a batch with its views; always the same."""
    runner, batch = deepcopy(_made(*settings))
    torch.manual_seed(0)
    return runner, runner.make_views(batch)


@cache
def _made(*settings: str) -> tuple[Runner, Batch]:
    """A fresh model, and a batch without views."""
    config = _config(*settings)
    registries = plugins().registries
    dataset = build_dataset(config.data, registries)
    runner = build_runner(config, dataset, registries)
    join_batch_norms(runner)
    data = PreparedDataset(dataset, runner.model.preprocessors, config.seed)
    rows = range(ROWS)
    data.fit_preprocessors(rows)
    data.load(rows)
    return runner, data.collate([data[None, row] for row in rows])


def without(batch: Batch, modality: str, rows: slice) -> Batch:
    """A batch some of whose rows lack a modality."""
    present = batch.present[modality].clone()
    present[rows] = False
    kept = present[batch.present[modality]]
    inputs = {name: tensor[kept] for name, tensor in batch.inputs[modality].items()}
    return replace(
        batch,
        inputs={**batch.inputs, modality: inputs},
        present={**batch.present, modality: present},
    )


def gradients(runner: Runner) -> dict[str, Tensor]:
    """By name of the trainable parameters that have one."""
    return {n: p.grad.clone() for n, p in runner.named_parameters() if p.grad is not None}


def state(runner: Runner) -> dict[str, Tensor]:
    """Parameters and buffers."""
    return {name: tensor.clone() for name, tensor in runner.state_dict().items()}


def take_step(settings: list[str], runner: Runner, batch: Batch) -> Step:
    """One step of training on this rank's batch."""
    config = _config(*settings)
    passes: Passes = build_passes(config.passes)
    runner.eval()
    for module in runner.modules():
        if isinstance(module, _BatchNorm):
            module.train()
    for _, objective in runner.named_objectives():
        objective.training = True
    start = state(runner)
    optimizer = build_optimizer(runner, replace(config.optimizer, name="sgd", lr=0.1))
    output = passes(runner, batch, POSITION, Tensor.backward)
    for parameter in runner.parameters():
        if parameter.grad is not None:
            # as DDP does
            parameter.grad = mean_over_ranks(parameter.grad)
    found = gradients(runner)
    optimizer.step()
    runner.after_step(POSITION)
    return Step(torch.tensor(output.value), found, state(runner), start)


def joint_steps(settings: list[str], layouts: Sequence[Layout]) -> list[Step]:
    """In one process, on the rows of all ranks of each layout; always the same where none lacks a
    modality."""
    keys = [layout if layout.absent else None for layout in layouts]
    once = dict(zip(keys, layouts, strict=True))
    made = _runs_of(settings, list(once.values()))
    steps = {key: take_step(settings, *run) for key, run in zip(once, made, strict=True)}
    return [steps[key] for key in keys]


def rank_steps(runs: Mapping[str, list[str]]) -> dict[str, list[Step]]:
    """By run, this rank's step in each of the layouts of so many ranks."""
    layouts = LAYOUTS[world_size()]
    found = {}
    for name, settings in runs.items():
        steps = []
        for layout, (runner, batch) in zip(layouts, _runs_of(settings, layouts), strict=True):
            own = part_of(batch, layout.rows_of(rank()), runner)
            # a plain tuple, as tensors are saved
            steps.append(tuple(take_step(settings, runner, own)))
        found[name] = steps
    return cast(dict[str, list[Step]], found)


def _runs_of(settings: list[str], layouts: Sequence[Layout]) -> Iterator[tuple[Runner, Batch]]:
    """For each layout the same fresh model, and the batch of all ranks with its views."""
    fresh, whole = make_run(settings)
    for layout in layouts:
        batch = whole
        for number in layout.absent:
            batch = without(batch, fresh.model.modalities[0], layout.rows_of(number))
        runner = deepcopy(fresh)
        torch.manual_seed(0)
        yield runner, runner.make_views(replace(batch, views={}))


def difference(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> float:
    """Largest over all tensors of max |found − expected| / max |expected|.

    What is below a ten-thousandth of the largest of all tensors is measured by that: it is
    nothing but rounding.
    """
    assert found.keys() == expected.keys()
    sizes = {
        n: float(t.abs().max()) for n, t in expected.items() if t.is_floating_point() and t.numel()
    }
    floor = 1e-4 * max(sizes.values())
    return max(
        float((found[name] - expected[name]).abs().max()) / max(size, floor)
        for name, size in sizes.items()
        if max(size, floor) > 0
    )


def differences(found: Step, joint: Step) -> tuple[float, float, float]:
    """Relative differences of the loss, the gradients and what the step changes of the state."""
    found = Step(*found)
    changes = [
        {name: step.state[name] - step.start[name] for name in step.state}
        for step in (found, joint)
    ]
    return (
        float((found.loss - joint.loss).abs() / joint.loss.abs()),
        difference(found.gradients, joint.gradients),
        difference(*changes),
    )


def part_of(batch: Batch, rows: slice, runner: Runner) -> Batch:
    """Some rows of a batch, with their part of every view."""
    objectives = dict(runner.named_objectives())
    views = {}
    for name, view in batch.views.items():
        objective, _, which = name.partition("/")
        method = objectives[objective]
        if isinstance(method, DINOv2) and which == "global":
            # its targets say where the masked tokens are among all tokens: they are made again
            inputs = _part_of_view(batch, replace(view, targets={}), rows).inputs[method.modality]
            masks = inputs["token_mask"]
            views[name] = method.views(inputs["values"], masks[:0], masks)[which]
        else:
            views[name] = _part_of_view(batch, view, rows)
    return Batch(
        {
            m: {k: _rows(t, batch.present[m], rows, 1) for k, t in named.items()}
            for m, named in batch.inputs.items()
        },
        {m: present[rows] for m, present in batch.present.items()},
        batch.labels[rows],
        batch.groups[rows],
        batch.rows[rows],
        batch.seeds[rows],
        views,
    )


def _part_of_view(batch: Batch, view: View, rows: slice) -> View:
    everyone = torch.ones(len(batch), dtype=torch.bool)
    return replace(
        view,
        inputs={
            m: {k: _rows(t, batch.present[m], rows, view.copies) for k, t in named.items()}
            for m, named in view.inputs.items()
        },
        joint={k: _rows(t, everyone, rows, 1) for k, t in view.joint.items()},
        targets={k: _rows(t, everyone, rows, view.copies) for k, t in view.targets.items()},
    )


def _rows(tensor: Tensor, present: Tensor, rows: slice, copies: int) -> Tensor:
    """Of a tensor of copies · present rows, copy by copy, those of some samples."""
    wanted = torch.zeros_like(present)
    wanted[rows] = True
    return tensor[wanted[present].repeat(copies)]
