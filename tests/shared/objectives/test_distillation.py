"""Distillation: closed forms, a brute-force reference, loading and checking the teacher."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from shared.errors import ConfigError, UnknownNameError
from shared.model import Model
from shared.model_config import ModelConfig
from shared.objectives.base import Encoded, Tensors
from shared.objectives.contrastive import Contrastive
from shared.objectives.distillation import Distillation
from shared.schema import Channel, Schema
from zoo.plugins import plugins

NAMES = ("a", "b")
TEACHER_SCALE = 5.0


def make_objective(**settings: Any) -> Distillation:
    """With a teacher that has nothing but its scale."""
    objective = Distillation(NAMES, "teacher", **settings)
    scalars = {"logit_scale": math.log(TEACHER_SCALE)}
    objective.teacher = Model(ModelConfig("teacher", 1, {}), {}, {}, None, scalars)
    return objective


def make(seed: int = 0, batch: int = 6, share: float = 1.0) -> Tensors:
    """Rows of a student of width 4 and a teacher of width 7."""
    generator = torch.Generator().manual_seed(seed)
    encoded, objective = {}, make_objective()
    for name in NAMES:
        present = torch.rand(batch, generator=generator) < share
        for request, dim in ((objective.request(name), 4), (objective.teacher_request(name), 7)):
            rows = normalize(torch.randn(batch, dim, generator=generator), dim=-1)
            encoded[request] = Encoded(rows * present[:, None], present)
        encoded[objective.request(name)].rows.requires_grad_()
    scalars = {"logit_scale": torch.tensor(math.log(10.0), requires_grad=True)}
    numbers = torch.arange(batch)
    return Tensors(encoded, scalars, numbers, numbers)


def brute_force(tensors: Tensors) -> Tensor:
    """Both directions' −Σ p′ log p over present candidates, in float64."""
    objective, loss = make_objective(), torch.zeros((), dtype=torch.float64)
    for source, target in (NAMES, NAMES[::-1]):
        x, y = (tensors.encoded[objective.request(m)] for m in (source, target))
        u, v = (tensors.encoded[objective.teacher_request(m)] for m in (source, target))
        logits = tensors.scalars["logit_scale"].double().exp() * x.rows.double() @ y.rows.double().T
        wanted = TEACHER_SCALE * u.rows.double() @ v.rows.double().T
        q, p = logits[:, y.present].log_softmax(1), wanted[:, y.present].softmax(1)
        loss = loss - 0.5 * (p * q).sum(1)[x.present & y.present].mean()
    return loss


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_equals_the_definition(share: float) -> None:
    tensors = make(4, batch=8, share=share)
    leaves = [e.rows for r, e in tensors.encoded.items() if r.tower == "model"]
    leaves.append(tensors.scalars["logit_scale"])
    found = make_objective(distill_weight=0.3)(tensors).loss
    expected = Contrastive(NAMES, chunk_rows=None)(tensors).loss + 0.3 * brute_force(tensors)
    torch.testing.assert_close(found, expected.float())
    wanted = torch.autograd.grad(expected, leaves)
    for gradient, other in zip(torch.autograd.grad(found, leaves), wanted, strict=True):
        torch.testing.assert_close(gradient, other, atol=1e-5, rtol=1e-4)


def test_closed_forms() -> None:
    """A batch of one has nothing to compare; of n equal rows every softmax is uniform."""
    one = make(batch=1)
    assert float(make_objective()(one).loss) == 0.0
    same = {r: Encoded(e.rows.repeat(6, 1), e.present.repeat(6)) for r, e in one.encoded.items()}
    numbers = torch.arange(6)
    terms = make_objective()(Tensors(same, one.scalars, numbers, numbers)).terms
    assert len(terms) == 4
    for term in terms.values():
        assert float(term.mean) == pytest.approx(math.log(6), rel=1e-6)


def test_a_teacher_that_equals_the_student_asks_for_no_change() -> None:
    tensors, objective = make(2), make_objective()
    encoded = dict(tensors.encoded)
    for name in NAMES:
        encoded[objective.teacher_request(name)] = encoded[objective.request(name)]
    equal = replace(
        tensors, encoded=encoded, scalars={"logit_scale": torch.tensor(math.log(TEACHER_SCALE))}
    )
    detached = {
        r: Encoded(e.rows.detach(), e.present) if r.tower == "teacher" else e
        for r, e in equal.encoded.items()
    }
    terms = objective(replace(equal, encoded=detached)).terms
    torch.stack(
        [t.mean for name, t in terms.items() if name.startswith("distill")]
    ).sum().backward()
    for name in NAMES:
        gradient = encoded[objective.request(name)].rows.grad
        torch.testing.assert_close(gradient, torch.zeros_like(gradient), atol=1e-6, rtol=0.0)


def test_the_ranks_parts_make_the_whole() -> None:
    tensors, objective = make(5, share=0.8), make_objective()
    parts = [objective(replace(tensors, own=slice(*ends))) for ends in ((0, 2), (2, 6))]
    for name, term in objective(tensors).terms.items():
        total = torch.stack([part.terms[name].total for part in parts]).sum()
        torch.testing.assert_close(total, term.total)
        assert sum(int(part.terms[name].count) for part in parts) == int(term.count)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_low_precision_rows_give_a_float32_loss(dtype: torch.dtype) -> None:
    tensors = replace(make(2), scalars={"logit_scale": torch.tensor(math.log(100.0))})
    low = {r: Encoded(e.rows.to(dtype), e.present) for r, e in tensors.encoded.items()}
    with torch.autocast("cpu", torch.bfloat16):
        loss = make_objective()(replace(tensors, encoded=low)).loss
    assert loss.dtype == torch.float32
    assert float(loss.detach()) == pytest.approx(float(make_objective()(tensors).loss), rel=0.05)


def build_model(scalars: dict[str, float], image_size: int = 8) -> Model:
    parts = {
        "preprocess": {"name": "image", "image_size": image_size},
        "encoder": {"name": "vit", "patch_size": 4, "dim": 8, "depth": 1, "num_heads": 2},
    }
    config = {"name": "small", "embed_dim": 4, "modalities": dict.fromkeys(NAMES, parts)}
    channels = tuple(Channel(name, "") for name in "rgb")
    schemas = {m: Schema(m, ("height", "width", "channel"), channels) for m in NAMES}
    return Model.build(ModelConfig.from_dict(config), schemas, plugins().registries, scalars)


def load(folder: Path, **settings: Any) -> Distillation:
    objective = Distillation(NAMES, str(folder), **settings)
    objective.load(plugins().registries)
    return objective


@pytest.mark.parametrize("inside", ["", "model"])
def test_the_teacher_is_a_frozen_model_folder(tmp_path: Path, inside: str) -> None:
    teacher = build_model({"logit_scale": 2.0})
    teacher.save(tmp_path / inside, "")
    objective = load(tmp_path)
    objective.bind(build_model({"logit_scale": 1.0}))
    objective.train()
    assert objective.teacher is not None
    assert not objective.teacher.training
    assert not any(p.requires_grad for p in objective.parameters())
    assert float(objective.teacher_scale(NAMES)) == pytest.approx(math.exp(2.0))
    for name, tensor in objective.teacher.state_dict().items():
        assert torch.equal(tensor, teacher.state_dict()[name])


def test_teachers_that_do_not_fit(tmp_path: Path) -> None:
    build_model({"logit_scale_b_a": 2.0}).save(tmp_path / "fits", "")
    assert float(load(tmp_path / "fits").teacher_scale(NAMES)) == pytest.approx(math.exp(2.0))
    with pytest.raises(ConfigError, match="prepares a otherwise"):
        load(tmp_path / "fits").bind(build_model({}, image_size=12))
    build_model({"logit_bias": 0.0}).save(tmp_path / "no_scale", "")
    with pytest.raises(ConfigError, match="has no scale for a-b"):
        load(tmp_path / "no_scale")
    other = Distillation(("a", "c"), str(tmp_path / "fits"))
    with pytest.raises(UnknownNameError, match="no modality 'c'"):
        other.load(plugins().registries)
