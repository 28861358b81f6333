"""Gradients of runs of the smoke table, in one process or averaged over two; for `run_ranks`."""

from dataclasses import replace

import torch
from torch import Tensor

from shared.data.batch import Batch, View
from shared.data.build import build_dataset
from shared.data.prepared import PreparedDataset
from shared.distributed import mean_over_ranks, rank
from shared.objectives.dinov2 import DINOv2
from shared.training.build import build_runner
from shared.training.config import TrainConfig
from shared.training.runner import Runner
from zoo.config import compose_config, typed
from zoo.plugins import plugins

ROWS = 8


def make_run(settings: list[str]) -> tuple[Runner, Batch]:
    """What `zoo train` with these settings trains, and a batch with its views; always the same."""
    config = typed(TrainConfig, compose_config("train", settings))
    registries = plugins().registries
    dataset = build_dataset(config.data, registries)
    runner = build_runner(config, dataset, registries)
    data = PreparedDataset(dataset, runner.model.preprocessors, config.seed)
    rows = range(ROWS)
    data.fit_preprocessors(rows)
    data.load(rows)
    torch.manual_seed(0)
    return runner, runner.make_views(data.collate([data[None, row] for row in rows]))


def gradients(runner: Runner) -> dict[str, Tensor]:
    """By name of the trainable parameters that have one."""
    return {n: p.grad.clone() for n, p in runner.named_parameters() if p.grad is not None}


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


def rank_gradients(runs: dict[str, list[str]], first: int) -> dict[str, dict[str, Tensor]]:
    """By run, gradients averaged over two ranks, the first of which has so many of the rows."""
    rows = slice(0, first) if rank() == 0 else slice(first, ROWS)
    found = {}
    for name, settings in runs.items():
        runner, batch = make_run(settings)
        runner.eval()
        runner(part_of(batch, rows, runner)).loss.backward()
        found[name] = {n: mean_over_ranks(g) for n, g in gradients(runner).items()}
    return found
