"""MultiMAE through the runner: what is visible, what counts, precision, parts of a batch."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from shared.data.batch import Batch, View
from shared.encoders.base import Encoder
from shared.encoders.joint_masked import JointMaskedTransformer
from shared.encoders.patch_tokens import LabelPatchTokens, PatchTokens
from shared.errors import ConfigError
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.objectives.multimae import MultiMAE
from shared.training.runner import Runner

NAMES = ("colour", "depth", "classes")
DECODER = {"decoder_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2}
TASKS = {
    "colour": {"modality": "colour", "loss": "mse"},
    "norm_colour": {"modality": "colour", "loss": "norm_mse"},
    "depth": {"modality": "depth", "loss": "l1"},
    "classes": {"modality": "classes", "loss": "cross_entropy"},
}


def make_model(joint: bool = True) -> Model:
    torch.manual_seed(0)
    encoders: dict[str, Encoder] = {
        "colour": PatchTokens(8, 3, patch_size=2, dim=8),
        "depth": PatchTokens(8, 1, patch_size=4, dim=8, standardise=True),
        "classes": LabelPatchTokens(4, 5, patch_size=2, dim=8, class_dim=3),
    }
    dims = dict.fromkeys(NAMES, 8)
    fusion = JointMaskedTransformer(dims, depth=1, num_heads=2) if joint else None
    parts = {m: ModalityConfig({}, {}, head=None) for m in NAMES}
    return Model(ModelConfig("multimae", 8, parts), {}, encoders, fusion, {})


def make(**settings: Any) -> Runner:
    defaults: dict[str, Any] = {"num_encoded_tokens": 6, "tasks": TASKS, **DECODER}
    objective = MultiMAE(NAMES, **(defaults | settings))
    return Runner(make_model(), {"multimae": objective}, {"multimae": 1.0})


def make_batch(size: int, present: Tensor | None = None) -> Batch:
    """`present` is (batch, modalities)."""
    if present is None:
        present = torch.ones(size, len(NAMES), dtype=torch.bool)
    values = {
        "colour": torch.randn(size, 3, 8, 8),
        "depth": torch.randn(size, 1, 8, 8),
        "classes": torch.randint(5, (size, 4, 4)),
    }
    rows = torch.arange(size)
    there = dict(zip(NAMES, present.T, strict=True))
    inputs = {m: {"values": values[m][there[m]]} for m in NAMES}
    return Batch(inputs, there, rows, rows, rows, rows)


def gradients(runner: Runner, batch: Batch) -> dict[str, Tensor]:
    runner.zero_grad()
    runner(batch).loss.backward()
    return {n: p.grad.clone() for n, p in runner.named_parameters() if p.grad is not None}


def take_rows(batch: Batch, rows: list[int]) -> Batch:
    """Some samples of a batch in which all are present, with their part of the view."""
    view = batch.views["multimae/masked"]
    part = View(
        joint={name: tensor[rows] for name, tensor in view.joint.items()},
        targets={name: tensor[rows] for name, tensor in view.targets.items()},
    )
    return replace(
        batch,
        inputs={m: {"values": named["values"][rows]} for m, named in batch.inputs.items()},
        present={m: there[rows] for m, there in batch.present.items()},
        labels=batch.labels[rows],
        groups=batch.groups[rows],
        rows=batch.rows[rows],
        seeds=batch.seeds[rows],
        views={"multimae/masked": part},
    )


@pytest.mark.parametrize("sample_tasks_uniformly", [False, True])
@pytest.mark.parametrize("alpha", [0.2, {"colour": 1.0, "depth": 2.0, "classes": 0.5}])
def test_the_view(alpha: float | dict[str, float], sample_tasks_uniformly: bool) -> None:
    runner = make(alpha=alpha, sample_tasks_uniformly=sample_tasks_uniformly)
    present = torch.rand(40, 3) < 0.6
    present[~present.any(1), 0] = True
    batch = runner.make_views(make_batch(40, present))
    view = batch.views["multimae/masked"]
    ids, mask = view.joint["ids_keep"], view.targets["mask"]
    assert ids.shape == (40, 6)
    assert not mask.gather(1, ids).any()
    sizes = [16, 4, 4]
    there = present.repeat_interleave(torch.tensor(sizes), 1)
    assert not (mask & ~there).any()
    # tokens of an absent modality are seen only where the others are too few
    seen = there.gather(1, ids).sum(1)
    assert torch.equal(seen, (present * torch.tensor(sizes)).sum(1).clamp(max=6))
    assert torch.equal(mask.sum(1), there.sum(1) - seen)


def test_subsets_of_modalities_share_the_visible_tokens() -> None:
    runner = make(sample_tasks_uniformly=True, num_encoded_tokens=4)
    batch = runner.make_views(make_batch(700))
    ids = batch.views["multimae/masked"].joint["ids_keep"].contiguous()
    kinds = torch.bucketize(ids, torch.tensor([16, 20]), right=True)
    alone = (kinds == kinds[:, :1]).all(1)
    # three of seven subsets have one modality; others may come to one by chance
    assert 0.38 < float(alone.float().mean()) < 0.75


@pytest.mark.parametrize("batch_size", [1, 4])
def test_every_parameter_is_trained(batch_size: int) -> None:
    runner = make()
    found = gradients(runner, runner.make_views(make_batch(batch_size)))
    assert found.keys() == dict(runner.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_tasks_follow_the_modalities_by_default() -> None:
    runner = make(tasks=None)
    objective = runner.objectives["multimae"]
    assert isinstance(objective, MultiMAE)
    assert {m: task.loss for m, task in objective.tasks.items()} == {
        "colour": "mse",
        "depth": "mse",
        "classes": "cross_entropy",
    }
    output = runner(runner.make_views(make_batch(2)))
    assert set(output.terms) == {f"multimae/{m}" for m in NAMES}


def test_the_loss_does_not_depend_on_what_is_neither_seen_nor_predicted() -> None:
    runner = make(tasks={"depth": TASKS["depth"]}).eval()
    batch = runner.make_views(make_batch(8))
    view = batch.views["multimae/masked"]
    seen = torch.zeros(8, 24, dtype=torch.bool).scatter(1, view.joint["ids_keep"], True)
    hidden = ~seen[:, :16].view(8, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    colours = batch.inputs["colour"]["values"]
    inputs = {**batch.inputs, "colour": {"values": torch.where(hidden, 9.0, colours)}}
    losses = [runner(b).loss for b in (batch, replace(batch, inputs=inputs))]
    torch.testing.assert_close(losses[0], losses[1])
    inputs["colour"] = {"values": torch.where(hidden, colours, 9.0)}
    assert not torch.allclose(runner(replace(batch, inputs=inputs)).loss, losses[0])


def test_absent_modalities_do_not_count() -> None:
    runner = make().eval()
    present = torch.tensor([[True, True, True], [True, False, True], [False, True, False]])
    batch = runner.make_views(make_batch(3, present))
    terms = runner(batch).terms
    mask = batch.views["multimae/masked"].targets["mask"]
    for name, columns in (("colour", slice(0, 16)), ("depth", slice(16, 20))):
        assert int(terms[f"multimae/{name}"].count) == int(mask[:, columns].any(1).sum())
    assert all(gradient.isfinite().all() for gradient in gradients(runner, batch).values())
    # the third sample has fewer tokens than may be seen: nothing of it is hidden
    assert not mask[2].any()


def test_nothing_hidden_is_zero_without_nan() -> None:
    runner = make()
    batch = runner.make_views(make_batch(2))
    view = batch.views["multimae/masked"]
    nothing = {**view.targets, "mask": torch.zeros_like(view.targets["mask"])}
    batch.views["multimae/masked"] = replace(view, targets=nothing)
    assert float(runner(batch).loss.detach()) == 0
    assert not any(gradient.any() for gradient in gradients(runner, batch).values())


def test_a_rank_without_samples() -> None:
    runner = make()
    batch = runner.make_views(make_batch(0))
    assert float(runner(batch).loss.detach()) == 0
    found = gradients(runner, batch)
    assert found.keys() == dict(runner.named_parameters()).keys()
    assert not any(gradient.any() for gradient in found.values())


def test_order_and_parts_of_a_batch() -> None:
    """What makes uneven ranks and accumulation exact: totals and counts add up."""
    runner = make().eval()
    batch = runner.make_views(make_batch(5))
    whole, shuffled = runner(batch).terms, runner(take_rows(batch, [3, 1, 4, 0, 2])).terms
    parts = [runner(take_rows(batch, rows)).terms for rows in ([0, 1], [2, 3, 4])]
    for name, term in whole.items():
        torch.testing.assert_close(shuffled[name].total, term.total)
        torch.testing.assert_close(sum(part[name].total for part in parts), term.total)
        assert sum(int(part[name].count) for part in parts) == int(term.count)


def test_float32_under_autocast() -> None:
    runner = make()
    batch = runner.make_views(make_batch(3))
    with torch.autocast("cpu", torch.bfloat16):
        output = runner(batch)
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    torch.testing.assert_close(output.loss, runner(batch).loss, rtol=0.02, atol=0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_encoded_tokens": 24}, "below the 24 patches"),
        ({"alpha": 0.0}, "above 0"),
        ({"alpha": {"colour": 1.0}}, "a number for each of colour, depth, classes"),
        ({"tasks": {}}, "tasks is empty"),
        ({"tasks": {"x": {"modality": "sound", "loss": "mse"}}}, "one of colour, depth, classes"),
        ({"tasks": {"x": {"modality": "classes", "loss": "mse"}}}, "takes loss cross_entropy"),
        ({"tasks": {"x": {"modality": "depth", "loss": "l3"}}}, "tasks.x: loss"),
        ({"decoder_num_heads": 3}, "multiple of num_heads"),
    ],
)
def test_mistakes_are_messages(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(**settings)


def test_a_model_without_fusion() -> None:
    with pytest.raises(ConfigError, match=r"set model\.fusion"):
        MultiMAE(NAMES).bind(make_model(joint=False))
