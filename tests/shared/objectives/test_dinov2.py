"""DINOv2 through the runner: rows, towers, ranks, precision."""

import math
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from shared.data.batch import Batch
from shared.data.image_files import IMAGE
from shared.errors import ConfigError
from shared.objectives.base import Position
from shared.objectives.dinov2 import DINOv2
from shared.training.build import assemble
from shared.training.config import TrainConfig
from shared.training.passes import Cached, Plain
from shared.training.runner import Runner, StepOutput
from zoo.plugins import plugins

HEAD = {"prototypes": 12, "hidden_dim": 8, "bottleneck_dim": 4}
TARGETS = ("centering", "sinkhorn")


def image_parts(**encoder: Any) -> dict[str, Any]:
    sizes = {"patch_size": 4, "dim": 16, "depth": 2, "num_heads": 2, "layer_scale": 1.0}
    return {
        "preprocess": {"name": "image", "image_size": 16},
        "encoder": {"name": "vit", "mask_token": True, **sizes, **encoder},
        "head": None,
    }


def settings(**changed: Any) -> dict[str, Any]:
    return {"head": HEAD, "global_size": 16, "local_size": 8, "local_crops": 2, **changed}


def make(encoder: dict[str, Any] | None = None, **changed: Any) -> tuple[Runner, DINOv2]:
    config = TrainConfig(
        domain="astro",
        data={},
        model={
            "name": "vit",
            "embed_dim": 16,
            "modalities": {"image": image_parts(**(encoder or {}))},
        },
        objective={"dinov2": {"name": "dinov2", **settings(**changed)}},
    )
    runner = assemble(config, config.model, {"image": IMAGE}, plugins().registries)
    objective = runner.objectives["dinov2"]
    assert isinstance(objective, DINOv2)
    for head in (objective.dino_head, objective.teacher_dino_head):
        # far enough from uniform for the teacher and its temperature to matter
        torch.nn.init.constant_(head.last_layer.weight_g, 3.0)
    return runner, objective


def make_batch(present: Sequence[bool]) -> Batch:
    images = torch.randn(len(present), 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mask, rows = torch.tensor(present), torch.arange(len(present))
    inputs, unknown = {"image": {"values": images[mask]}}, torch.full_like(rows, -1)
    return Batch(inputs, {"image": mask}, unknown, rows, rows, rows)


def with_views(runner: Runner, batch: Batch, seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    return runner.make_views(batch)


def means(output: StepOutput) -> dict[str, float]:
    return {name: float(term.mean) for name, term in output.terms.items()}


def test_shapes_of_the_views() -> None:
    runner, objective = make()
    views = with_views(runner, make_batch([True, False, True])).views
    masked = views["dinov2/global"].inputs["image"]
    assert masked["values"].shape == (4, 3, 16, 16)
    assert masked["token_mask"].shape == (4, 16)
    assert views["dinov2/teacher"].inputs["image"].keys() == {"values"}
    assert views["dinov2/local"].inputs["image"]["values"].shape == (4, 3, 8, 8)
    assert {r.view for r in objective.requests} == {"global", "teacher", "local"}


@pytest.mark.parametrize("targets", TARGETS)
def test_absent_rows_are_left_out(targets: str) -> None:
    runner, _ = make(targets=targets)
    whole = with_views(runner, make_batch([True, False, True, True, False]))
    dense = replace(whole, present={"image": torch.ones(3, dtype=torch.bool)}, rows=torch.arange(3))
    dense.labels, dense.groups = torch.full((3,), -1), torch.arange(3)
    assert means(runner(whole)) == pytest.approx(means(runner(dense)), rel=1e-6)


@pytest.mark.parametrize("targets", TARGETS)
def test_the_order_of_the_batch_does_not_matter(targets: str) -> None:
    runner, objective = make(targets=targets)
    batch = with_views(runner, make_batch([True] * 5))
    order = torch.randperm(5, generator=torch.Generator().manual_seed(1))
    global_view, local_view = batch.views["dinov2/global"], batch.views["dinov2/local"]
    crops, local, masks = (
        tensor.unflatten(0, (2, 5))[:, order].flatten(0, 1)
        for tensor in (
            global_view.inputs["image"]["values"],
            local_view.inputs["image"]["values"],
            global_view.inputs["image"]["token_mask"],
        )
    )
    views = objective.views(crops, local, masks)
    shuffled = replace(batch, views={f"dinov2/{name}": view for name, view in views.items()})
    assert means(runner(shuffled)) == pytest.approx(means(runner(batch)), rel=1e-5)


@pytest.mark.parametrize("targets", TARGETS)
@pytest.mark.parametrize("present", [[True], [False, False]])
def test_a_batch_of_one_and_of_none(targets: str, present: list[bool]) -> None:
    runner, _ = make(targets=targets, ibot_head=HEAD)
    output = runner(with_views(runner, make_batch(present)))
    output.loss.backward()
    assert math.isfinite(output.value)
    # nobody is beside a single image
    assert output.terms["dinov2/koleo"].count == 0
    for name, parameter in runner.named_parameters():
        assert not parameter.requires_grad or parameter.grad is not None, name


def test_duplicates_are_finite() -> None:
    runner, objective = make()
    image = torch.randn(1, 3, 16, 16)
    masks = torch.zeros(8, 16, dtype=torch.bool)
    views = objective.views(
        image.expand(8, -1, -1, -1), image[..., :8, :8].expand(8, -1, -1, -1), masks
    )
    batch = replace(
        make_batch([True] * 4), views={f"dinov2/{name}": view for name, view in views.items()}
    )
    output = runner(batch)
    output.loss.backward()
    assert math.isfinite(output.value)
    assert all(p.grad.isfinite().all() for p in runner.parameters() if p.grad is not None)


def test_a_student_without_information_pays_the_entropy_of_uniform() -> None:
    runner, objective = make()
    for head in (objective.dino_head, objective.teacher_dino_head):
        torch.nn.init.zeros_(head.last_layer.weight_g)
    output = runner(with_views(runner, make_batch([True] * 3)), with_metrics=True)
    found = means(output)
    assert found["dinov2/global"] == pytest.approx(math.log(12))
    assert found["dinov2/local"] == pytest.approx(4 * math.log(12))
    watched = {name: float(term.mean) for name, term in output.metrics.items()}
    assert watched["dinov2/teacher_entropy"] == pytest.approx(math.log(12))
    assert watched["dinov2/divergence"] == pytest.approx(0, abs=1e-5)


def test_the_teacher_follows_slowly() -> None:
    runner, objective = make(teacher_momentum=0.9, encoder={"drop_path": 0.3})
    assert objective.teacher is not None
    runner.train()
    assert not any(m.training for m in objective.teacher.modules())
    assert not any(p.requires_grad for p in objective.teacher.parameters())
    assert objective.teacher.preprocessors is runner.model.preprocessors
    assert runner.published is objective.teacher
    before = objective.teacher.encoders["image"].cls_token.clone()
    with torch.no_grad():
        runner.model.encoders["image"].cls_token += 1
        objective.dino_head.last_layer.weight_g += 1
    runner.after_step(Position(0, 10))
    torch.testing.assert_close(objective.teacher.encoders["image"].cls_token, before + 0.1)
    torch.testing.assert_close(
        objective.teacher_dino_head.last_layer.weight_g, torch.full((12, 1), 3.1)
    )


def test_centres_move_in_training_only() -> None:
    runner, objective = make()
    batch = with_views(runner, make_batch([True] * 3))
    runner.eval()(batch)
    runner.after_step(Position(0, 10))
    assert not objective.dino_centre.value.any()
    runner.train()(batch)
    runner.after_step(Position(0, 10))
    assert objective.dino_centre.value.any()
    assert objective.ibot_centre.value.any()


def test_bfloat16_losses_are_float32() -> None:
    runner, _ = make()
    batch = with_views(runner, make_batch([True] * 3))
    exact = means(runner(batch))
    with torch.autocast("cpu", torch.bfloat16):
        output = runner(batch)
    output.loss.backward()
    assert all(term.total.dtype == torch.float32 for term in output.terms.values())
    assert means(output) == pytest.approx(exact, rel=0.1)


def test_chunks_give_the_same_gradients() -> None:
    gradients = []
    for passes in (Plain(), Cached(micro_batch=2)):
        runner, _ = make()
        batch = with_views(runner, make_batch([True] * 3))
        passes(runner, batch, Position(), lambda loss: loss.backward())
        gradients.append([p.grad for p in runner.parameters() if p.requires_grad])
    for plain, cached in zip(*gradients, strict=True):
        # rounding is relative to the largest: elements cancel, and threads change the order of sums
        torch.testing.assert_close(plain, cached, rtol=0, atol=1e-4 * float(plain.abs().max()))


def test_no_small_crops() -> None:
    runner, _ = make(local_crops=0)
    output = runner(with_views(runner, make_batch([True] * 2)))
    assert output.terms.keys() == {"dinov2/global", "dinov2/ibot", "dinov2/koleo"}


def test_what_does_not_fit_is_said() -> None:
    with pytest.raises(ConfigError, match="mask_token=true"):
        make(encoder={"mask_token": False})
    with pytest.raises(ConfigError, match="multiples of the encoder's patch_size=4"):
        make(local_size=10)
    with pytest.raises(ConfigError, match="head has no setting 'prototype'"):
        make(head={"prototype": 3})
    for modality in (None, "images"):
        with pytest.raises(ConfigError, match="has to be one of image, text"):
            DINOv2(["image", "text"], modality)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("global_size", 0, "at least 1"),
        ("local_size", -8, "at least 1"),
        ("local_crops", -1, "at least 0"),
        ("temperature_warmup_epochs", -1, "at least 0"),
        ("mask_probability", 1.5, "from 0 to 1"),
        ("mask_probability", math.nan, "from 0 to 1"),
        ("centre_momentum", -0.1, "from 0 to 1"),
        ("teacher_momentum", 1.1, "from 0 to 1"),
        ("final_teacher_momentum", 2.0, "from 0 to 1"),
        ("blur", (0.0, 0.9, 1.5), "values from 0 to 1"),
        ("global_scale", (0.0, 1.0), "0 < smallest <= largest <= 1"),
        ("global_scale", (0.5, 1.5), "0 < smallest <= largest <= 1"),
        ("local_scale", (0.4, 0.1), "0 < smallest <= largest <= 1"),
        ("mask_ratio", (0.5, 0.1), "0 <= smallest <= largest <= 1"),
        ("mask_ratio", (-0.1, 0.5), "0 <= smallest <= largest <= 1"),
        ("mask_ratio", (0.1, 1.1), "0 <= smallest <= largest <= 1"),
        ("student_temperature", 0.0, "above 0 and finite"),
        ("teacher_temperature", -0.1, "above 0 and finite"),
        ("warmup_teacher_temperature", math.inf, "above 0 and finite"),
        ("ibot_weight", -1.0, "at least 0 and finite"),
        ("koleo_weight", math.inf, "at least 0 and finite"),
    ],
)
def test_values_out_of_range_are_named(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(f"dinov2: {name}={value} has to be ")) as found:
        DINOv2(["image"], **{name: value})
    assert words in str(found.value)


def test_the_ends_of_the_ranges_are_taken() -> None:
    DINOv2(
        ["image"],
        local_crops=0,
        blur=(0.0, 1.0, 1.0),
        global_scale=(1.0, 1.0),
        mask_probability=1.0,
        mask_ratio=(0.0, 1.0),
        centre_momentum=0.0,
        teacher_momentum=1.0,
        temperature_warmup_epochs=0,
        ibot_weight=0.0,
        koleo_weight=0.0,
    )


@pytest.mark.parametrize("head", ["head", "ibot_head"])
@pytest.mark.parametrize("name", ["prototypes", "hidden_dim", "bottleneck_dim", "layers"])
def test_sizes_of_the_heads_are_at_least_one(head: str, name: str) -> None:
    with pytest.raises(ConfigError, match=f"dinov2: {head}: {name}=0 has to be at least 1"):
        make(**{head: {**HEAD, name: 0}})


@pytest.mark.slow
def test_two_ranks_equal_one(tmp_path: Path) -> None:
    torch.manual_seed(0)
    cases = [
        {
            "image": image_parts(),
            "objective": settings(targets=targets, ibot_head=HEAD),
            "present": torch.tensor(present, dtype=torch.bool),
            "parts": [[0, 3], [3, len(present)]],
            "crops": torch.randn(2 * len(present), 3, 16, 16),
            "local": torch.randn(2 * len(present), 3, 8, 8),
            "masks": torch.rand(2 * len(present), 16) < 0.3,
        }
        for targets in TARGETS
        for present in ([1, 1, 1, 0, 1], [1, 1, 1, 0, 0])
    ]
    torch.save(cases, tmp_path / "input.pt")
    script = str(Path(__file__).with_name("dinov2_ranks.py"))
    runs = [
        subprocess.Popen([sys.executable, script, str(rank), str(world), str(tmp_path)])
        for world, rank in ((1, 0), (2, 0), (2, 1))
    ]
    assert [run.wait(timeout=120) for run in runs] == [0, 0, 0]
    results = [torch.load(tmp_path / f"{n}.pt", weights_only=True) for n in ("1.0", "2.0", "2.1")]
    for whole, *parts in zip(*results, strict=True):
        for part in parts:
            assert part["terms"] == pytest.approx(whole["terms"], rel=1e-5)
            for kind in ("gradients", "after"):
                for name, tensor in whole[kind].items():
                    bound = 1e-5 * max(1.0, float(tensor.abs().max()))
                    torch.testing.assert_close(part[kind][name], tensor, rtol=0, atol=bound)
