"""Self-distillation between crops, beside the contrast of images and texts."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from shared.data.batch import Batch
from shared.data.generic import TEXT
from shared.data.image_files import IMAGE
from shared.errors import ConfigError
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Position
from shared.objectives.local_global import LocalGlobal
from shared.training.build import build_objectives
from shared.training.runner import Runner
from zoo.plugins import plugins

HEAD = {"prototypes": 11, "hidden_dim": 8, "bottleneck_dim": 4}
ROWS = 5


def make(**settings: object) -> tuple[Runner, LocalGlobal, Batch]:
    """CLIP of two small towers, and a batch in which the last row has no image."""
    registries = plugins().registries
    sizes = {"dim": 12, "depth": 1, "num_heads": 2}
    parts = {
        "image": (
            {"name": "clip_image", "image_size": 16},
            {"name": "clip_vision", "patch_size": 8},
        ),
        "text": ({"name": "clip_tokens", "context_length": 6}, {"name": "clip_text"}),
    }
    modalities = {
        m: {
            "preprocess": pre,
            "encoder": {**encoder, **sizes},
            "head": {"name": "linear", "bias": False},
        }
        for m, (pre, encoder) in parts.items()
    }
    node = {
        "contrastive": {"name": "contrastive"},
        "local_global": {"name": "local_global", "modality": "image", "head": HEAD, **settings},
    }
    objectives, weights = build_objectives(node, tuple(parts), registries)
    torch.manual_seed(0)
    config = ModelConfig.from_dict({"name": "x", "embed_dim": 6, "modalities": modalities})
    model = Model.build(config, {"image": IMAGE, "text": TEXT}, registries, {"logit_scale": 1.0})
    runner = Runner(model, objectives, weights)
    present = torch.arange(ROWS) < ROWS - 1
    batch = Batch(
        {
            "image": {"values": torch.randn(ROWS - 1, 3, 16, 16)},
            "text": {"input_ids": torch.randint(0, 100, (ROWS, 6))},
        },
        {"image": present, "text": torch.ones(ROWS, dtype=torch.bool)},
        *(torch.arange(ROWS) for _ in range(4)),
    )
    objective = runner.objectives["local_global"]
    assert isinstance(objective, LocalGlobal)
    return runner, objective, runner.make_views(batch)


def direct(student: Tensor, teacher: Tensor, centre: Tensor, objective: LocalGlobal) -> float:
    """The formula, pair by pair and row by row."""
    values = []
    for i, t in enumerate(teacher.double().numpy()):
        for v, s in enumerate(student.double().numpy()):
            if v == i:
                continue
            for row_t, row_s in zip(t, s, strict=True):
                a = np.exp((row_t - centre.numpy()) / objective.teacher_temperature)
                b = np.exp(row_s / objective.student_temperature)
                values.append(-(a / a.sum() * np.log(b / b.sum())).sum())
    return float(np.mean(values))


@pytest.mark.parametrize("local_crops", [0, 3])
def test_the_formula_through_the_runner(local_crops: int) -> None:
    runner, objective, batch = make(local_crops=local_crops)
    objective.centre.value.copy_(torch.linspace(-0.1, 0.1, HEAD["prototypes"]))
    output = runner(batch)
    names = ("global", "local") if local_crops else ("global",)
    views = [batch.views[f"local_global/{name}"] for name in names]
    assert views[0].inputs["image"]["values"].shape == (2 * (ROWS - 1), 3, 16, 16)
    with torch.no_grad():
        embedded = [runner.model.encode("image", view.inputs["image"]).pooled for view in views]
        logits = objective.head(torch.cat(embedded)).unflatten(0, (2 + local_crops, ROWS - 1))
    # the teacher starts as the student
    expected = direct(logits, logits[:2], objective.centre.value, objective)
    found = float(output.terms["local_global/distillation"].mean)
    assert found == pytest.approx(expected, rel=1e-5)
    assert set(output.terms) > {"contrastive/image->text", "local_global/distillation"}
    entropy = runner(batch, with_metrics=True).metrics["local_global/teacher_entropy"].mean
    assert 0 < float(entropy) <= math.log(HEAD["prototypes"]) + 1e-5


def test_the_teacher_follows_and_is_never_trained() -> None:
    runner, objective, batch = make(local_crops=1, teacher_momentum=0.75, centre_momentum=0.5)
    runner.train()
    runner(batch).loss.backward()
    assert objective.teacher is not None
    assert all(p.grad is None for p in objective.teacher.parameters())
    assert runner.model.encoders["image"].trunk.conv1.weight.grad is not None
    gains = objective.head.last_layer.weight_g
    assert not gains.requires_grad
    assert torch.equal(gains, torch.ones_like(gains))
    start = objective.teacher.encoders["image"].trunk.conv1.weight.clone()
    with torch.no_grad():
        for parameter in runner.model.encoders["image"].parameters():
            parameter.add_(1.0)
    runner.after_step(Position(1, 10, 5))
    moved = objective.teacher.encoders["image"].trunk.conv1.weight
    assert torch.allclose(moved, start + 0.25, atol=1e-6)
    assert objective.centre.value.any()
    # the text is not in it, and the model that is left is the student
    assert [*objective.teacher.encoders] == ["image"]
    assert runner.published is runner.model


def test_views_are_functions_of_the_seeds() -> None:
    runner, _, batch = make(local_crops=2)
    again = runner.make_views(replace(batch, views={}))
    for name, view in batch.views.items():
        values = view.inputs["image"]["values"]
        assert torch.equal(values, again.views[name].inputs["image"]["values"])


@pytest.mark.parametrize(
    "settings",
    [
        {"local_crops": -1},
        {"teacher_momentum": 1.1},
        {"global_scale": [0.5, 0.4]},
        {"student_temperature": 0.0},
    ],
)
def test_mistakes(settings: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="local_global: momenta and blur"):
        make(**settings)
    with pytest.raises(ConfigError, match="text is no image"):
        make(modality="text")
