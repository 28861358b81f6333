"""Ways of running a step: what they leave in the gradients."""

import pytest
import torch
from torch import Tensor

from shared.errors import ConfigError
from shared.objectives.base import Position
from shared.training.build import build_passes
from shared.training.passes import Cached, Perturbed, Plain
from shared.training.runner import Runner


def gradients(passes, runner: Runner, batch) -> dict[str, Tensor]:
    runner.zero_grad()
    torch.manual_seed(0)
    passes(runner, batch, Position(), torch.Tensor.backward)
    return {n: p.grad.clone() for n, p in runner.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("chunk_size", [1, 3, 100])
def test_cached_equals_plain(make_run, chunk_size: int) -> None:
    _, runner, batch = make_run("objective=[astrom3]")
    runner.eval()  # dropout draws in another order when rows come in chunks
    plain, cached = gradients(Plain(), runner, batch), gradients(Cached(chunk_size), runner, batch)
    assert plain.keys() == cached.keys()
    for name in plain:
        scale = plain[name].abs().max()
        torch.testing.assert_close(cached[name], plain[name], atol=2e-5 * scale, rtol=1e-4)


def test_cached_replays_dropout(make_run) -> None:
    """Encoding a chunk again draws what the first time drew: the gradient is that of the loss."""
    _, runner, batch = make_run("+model.modalities.metadata.encoder.dropout=0.5")
    runner.train()
    scale = runner.model.heads["metadata"].bias
    gradient = gradients(Cached(4), runner, batch)["model.heads.metadata.bias"]

    def loss() -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return runner(runner.make_views(batch), Position(), 4).value

    step = 1e-2 * torch.nn.functional.normalize(gradient, dim=0)
    with torch.no_grad():
        scale += step
        above = loss()
        scale -= 2 * step
        below = loss()
    expected = float(2e-2 * gradient.norm())
    assert above - below == pytest.approx(expected, rel=0.05)


def test_cached_refuses_batch_norm(make_run) -> None:
    _, runner, _ = make_run()
    runner.model.encoders["spectra"].extra = torch.nn.BatchNorm1d(3)
    with pytest.raises(ConfigError, match=r"spectra\.extra of the model is a batch norm"):
        Cached().check(runner)


def test_perturbed_with_no_step_is_plain(make_run) -> None:
    _, runner, batch = make_run()
    runner.eval()
    still = Perturbed("metadata", "values", step_size=0.0, steps=3)
    plain, perturbed = gradients(Plain(), runner, batch), gradients(still, runner, batch)
    for name in plain:
        scale = plain[name].abs().max()
        torch.testing.assert_close(perturbed[name], plain[name], atol=1e-5 * scale, rtol=1e-4)


@pytest.mark.parametrize("accumulate", [False, True])
def test_perturbed_inputs(make_run, accumulate: bool) -> None:
    """Every move is a step along a sign, and stays within what the number of steps allows."""
    _, runner, batch = make_run()
    seen = []
    encoder = runner.model.encoders["metadata"]
    encoder.register_forward_pre_hook(lambda _m, args: seen.append(args[0]["values"].detach()))
    gradients(Perturbed("metadata", "values", 0.25, 3, accumulate), runner, batch)
    clean = batch.inputs["metadata"]["values"]
    first, *_, last = shifts = [value - clean for value in seen]
    assert len(shifts) == 3
    assert first.abs().max() <= 0.25
    assert first.std() > 0.1
    if accumulate:
        assert last.abs().max() <= 6 * 0.25 + 1e-6
        moves = (shifts[1] - 2 * first).abs()
    else:
        moves = (shifts[1] - first).abs()
    # a value without gradient does not move
    still = moves < 1e-6
    assert torch.all(still | ((moves - 0.25).abs() < 1e-5))
    assert still.float().mean() < 0.5


def test_perturbed_starts_each_sample_by_its_seed(make_run) -> None:
    _, _, batch = make_run()
    passes, seeds = Perturbed("metadata", "values", 0.25), batch.seeds_of("metadata")
    clean = batch.inputs["metadata"]["values"]
    start = passes.start(clean, seeds)
    assert torch.equal(passes.start(clean[[5, 2]], seeds[[5, 2]]), start[[5, 2]])
    assert start.dtype == clean.dtype
    assert len(start.unique()) > 0.9 * start.numel()


def test_perturbed_raises_the_loss(make_run) -> None:
    _, runner, batch = make_run()
    runner.eval()
    losses = []
    runner.register_forward_hook(lambda _m, _a, output: losses.append(output.value))
    gradients(Perturbed("metadata", "values", 0.05, 4), runner, batch)
    assert losses[-1] > losses[0]


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ({"name": "plane"}, "Did you mean 'plain'"),
        ({"name": "cached", "chunk": 3}, "Did you mean 'chunk_size'"),
        ({"name": "cached", "chunk_size": 0}, "at least 1"),
        ({"name": "cached", "chunk_size": "a"}, "whole number"),
        ({"name": "perturbed", "modality": "a"}, "input"),
        ({"name": "perturbed", "modality": "a", "input": "b", "steps": 0}, "at least 1"),
    ],
)
def test_mistakes(node: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        build_passes(node)


def test_perturbed_names_what_there_is(make_run) -> None:
    _, runner, batch = make_run()
    with pytest.raises(ConfigError, match="photometry, spectra, metadata"):
        Perturbed("image", "values").check(runner)
    with pytest.raises(ConfigError, match="floating-point inputs values"):
        Perturbed("metadata", "mask")(runner, batch, Position(), torch.Tensor.backward)
