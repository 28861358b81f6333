"""MAE through the runner: what it reads, what counts, precision, parts of a batch."""

from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from shared.data.batch import Batch
from shared.encoders.patch_tokens import PatchTokens
from shared.encoders.vit import VisionTransformer
from shared.errors import ConfigError, DataError
from shared.model import Model
from shared.model_config import ModalityConfig, ModelConfig
from shared.objectives.mae import MAE
from shared.objectives.masked_patches import patchify
from shared.training.runner import Runner

DECODER = {"decoder_dim": 8, "decoder_depth": 1, "decoder_num_heads": 2}


def make(**settings: Any) -> Runner:
    torch.manual_seed(0)
    encoder = VisionTransformer(
        8,
        3,
        patch_size=2,
        dim=8,
        depth=1,
        num_heads=2,
        layer_scale=None,
        positions="sincos",
        init="xavier",
    )
    config = ModelConfig("mae", 8, {"image": ModalityConfig({}, {}, head=None)})
    model = Model(config, {}, {"image": encoder}, None, {})
    return Runner(model, {"mae": MAE(["image"], **DECODER, **settings)}, {"mae": 1.0})


def make_batch(images: Tensor, present: Tensor | None = None) -> Batch:
    """`images` are of the samples that are present."""
    if present is None:
        present = torch.ones(len(images), dtype=torch.bool)
    rows = torch.arange(len(present))
    return Batch({"image": {"values": images}}, {"image": present}, rows - 1, *[rows] * 3)


def with_noise(runner: Runner, batch: Batch, noise: Tensor) -> Batch:
    objective = runner.objectives["mae"]
    assert isinstance(objective, MAE)
    views = objective.views(batch.inputs["image"]["values"], noise, batch.present["image"])
    batch.views = {f"mae/{name}": view for name, view in views.items()}
    return batch


def gradients(runner: Runner, batch: Batch) -> dict[str, Tensor]:
    runner.zero_grad()
    runner(batch).loss.backward()
    return {n: p.grad.clone() for n, p in runner.named_parameters() if p.grad is not None}


def assert_equal(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(found[name], gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(("ratio", "visible"), [(0.75, 4), (0.7, 4), (0.9, 1), (0.5, 8)])
def test_the_view(ratio: float, visible: int) -> None:
    runner = make(mask_ratio=ratio)
    batch = runner.make_views(make_batch(torch.randn(3, 3, 8, 8)))
    view = batch.views["mae/masked"]
    assert view.inputs["image"]["ids_keep"].shape == (3, visible)
    assert view.targets["mask"].sum(1).tolist() == [16 - visible] * 3
    (term,) = runner(batch).terms.values()
    assert int(term.count) == 3 * (16 - visible)


@pytest.mark.parametrize("batch_size", [1, 4])
@pytest.mark.parametrize("norm_pix_loss", [False, True])
def test_every_parameter_is_trained(norm_pix_loss: bool, batch_size: int) -> None:
    runner = make(norm_pix_loss=norm_pix_loss)
    found = gradients(runner, runner.make_views(make_batch(torch.randn(batch_size, 3, 8, 8))))
    assert found.keys() == dict(runner.named_parameters()).keys()
    assert all(gradient.isfinite().all() for gradient in found.values())


def test_the_prediction_does_not_depend_on_hidden_pixels() -> None:
    runner, noise = make(norm_pix_loss=False).eval(), torch.rand(2, 16)
    images = torch.randn(2, 3, 8, 8)
    before = with_noise(runner, make_batch(images), noise)
    mask = before.views["mae/masked"].targets["mask"]
    hidden = mask.view(2, 1, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    after = with_noise(runner, make_batch(torch.where(hidden, 0.0, images)), noise)
    found: list[Tensor] = []
    objective = runner.objectives["mae"]
    objective.decoder.register_forward_hook(lambda _m, _i, out: found.append(out))  # type: ignore[union-attr]
    losses = [float(runner(batch).loss.detach()) for batch in (before, after)]
    torch.testing.assert_close(found[0], found[1])
    for loss, target in zip(losses, (images, images * 0), strict=True):
        error = (found[0] - patchify(target, 2)).square().mean(2)
        assert loss == pytest.approx(float(error[mask].mean().detach()), rel=1e-5)


def test_constant_images_have_target_zero() -> None:
    runner = make()
    batch = runner.make_views(make_batch(torch.full((2, 3, 8, 8), 5.0)))
    assert not batch.views["mae/masked"].targets["patches"].any()
    assert all(gradient.isfinite().all() for gradient in gradients(runner, batch).values())


def test_absent_samples_do_not_count() -> None:
    runner, images, noise = make().eval(), torch.randn(3, 3, 8, 8), torch.rand(3, 16)
    full = gradients(runner, with_noise(runner, make_batch(images), noise))
    present = torch.tensor([False, True, True, False, True])
    assert_equal(gradients(runner, with_noise(runner, make_batch(images, present), noise)), full)
    for batch_size in (0, 2):
        nobody = make_batch(images[:0], torch.zeros(batch_size, dtype=torch.bool))
        nobody = with_noise(runner, nobody, noise[:0])
        assert float(runner(nobody).loss.detach()) == 0
        assert not any(gradient.any() for gradient in gradients(runner, nobody).values())


def test_order_and_parts_of_a_batch() -> None:
    """What makes uneven ranks and accumulation exact: totals and counts add up."""
    runner, images, noise = make().eval(), torch.randn(5, 3, 8, 8), torch.rand(5, 16)

    def term(rows: Tensor | slice) -> tuple[float, float]:
        (found,) = runner(with_noise(runner, make_batch(images[rows]), noise[rows])).terms.values()
        return float(found.total), float(found.count)

    total, count = term(slice(None))
    assert term(torch.tensor([3, 1, 4, 0, 2])) == pytest.approx((total, count), rel=1e-5)
    parts = [term(slice(0, 2)), term(slice(2, 5))]
    assert [sum(values) for values in zip(*parts, strict=True)] == pytest.approx([total, count])


def test_float32_under_autocast() -> None:
    runner = make()
    batch = runner.make_views(make_batch(torch.randn(2, 3, 8, 8)))
    with torch.autocast("cpu", torch.bfloat16):
        output = runner(batch)
    assert output.loss.dtype == torch.float32
    output.loss.backward()
    full = runner(batch)
    torch.testing.assert_close(output.loss, full.loss, rtol=0.02, atol=0)


def test_gradients_are_those_of_finite_differences() -> None:
    runner = make().double().eval()
    batch = make_batch(torch.randn(2, 3, 8, 8, dtype=torch.float64))
    batch = with_noise(runner, batch, torch.rand(2, 16))
    token = runner.get_parameter("objectives.mae.decoder.mask_token")
    loss = runner(batch).loss
    (gradient,) = torch.autograd.grad(loss, token)
    step = 1e-2 * torch.ones_like(token)
    with torch.no_grad():
        token.add_(step)
        above = runner(batch).loss
        token.sub_(2 * step)
        below = runner(batch).loss
    # the loss itself is float32
    assert float(above - below) == pytest.approx(float(2 * (gradient * step).sum()), rel=1e-2)


def test_mistakes_are_messages() -> None:
    with pytest.raises(ConfigError, match="modality=None has to be one of a, b"):
        MAE(["a", "b"])
    with pytest.raises(ConfigError, match="mask_ratio"):
        MAE(["a"], mask_ratio=1.0)
    runner = make()
    with pytest.raises(DataError, match=r"10 × 8.*made for 8 × 8"):
        runner.make_views(make_batch(torch.randn(1, 3, 10, 8)))
    config = ModelConfig("m", 8, {"image": ModalityConfig({}, {}, head=None)})
    tokens = PatchTokens(8, 3, patch_size=2, dim=8)
    with pytest.raises(ConfigError, match="cannot leave out patches"):
        MAE(["image"]).bind(Model(config, {}, {"image": tokens}, None, {}))
