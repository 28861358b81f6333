"""Ways of running a step: what they leave in the gradients."""

import runpy
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from shared.data.batch import Batch
from shared.distributed import rank
from shared.errors import ConfigError
from shared.objectives.base import Position
from shared.training.build import build_passes
from shared.training.chunks import InChunks, Part, Rows, Trial, at_once
from shared.training.micro_batch import try_out
from shared.training.passes import Cached, Perturbed, Plain
from shared.training.runner import Runner


def gradients(passes, runner: Runner, batch) -> dict[str, Tensor]:
    runner.zero_grad()
    torch.manual_seed(0)
    passes(runner, batch, Position(), torch.Tensor.backward)
    return {n: p.grad.clone() for n, p in runner.named_parameters() if p.grad is not None}


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert found.keys() == expected.keys()
    for name, gradient in expected.items():
        scale = gradient.abs().max()
        torch.testing.assert_close(found[name], gradient, atol=2e-5 * scale, rtol=1e-4)


def twice(batch: Batch) -> Batch:
    """A batch and the same once more."""

    def cat(tensor: Tensor) -> Tensor:
        return torch.cat([tensor, tensor])

    inputs = {m: {k: cat(t) for k, t in named.items()} for m, named in batch.inputs.items()}
    present = {m: cat(t) for m, t in batch.present.items()}
    others = (batch.labels, batch.groups, batch.rows, batch.seeds)
    return Batch(inputs, present, *map(cat, others))


def without_spectra(batch: Batch) -> Batch:
    spectra = {name: tensor[:0] for name, tensor in batch.inputs["spectra"].items()}
    present = torch.zeros(len(batch), dtype=torch.bool)
    return replace(
        batch,
        inputs={**batch.inputs, "spectra": spectra},
        present={**batch.present, "spectra": present},
    )


def kept_bytes(function: Callable[[], object], ignored: Iterable[Tensor]) -> int:
    """Of the tensors that the graph of what a function gives holds."""
    known = {tensor.untyped_storage().data_ptr() for tensor in ignored}
    kept: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(count, lambda tensor: tensor):
        given = function()
    assert given is not None
    return sum(kept.values())


@pytest.mark.parametrize("micro_batch", [1, 3, 100])
def test_cached_equals_plain(make_run, micro_batch: int) -> None:
    _, runner, batch = make_run("objective=[astrom3]")
    runner.eval()  # dropout draws in another order when rows come in chunks
    if micro_batch == 3:
        batch = without_spectra(batch)
    plain = gradients(Plain(), runner, batch)
    assert_equal(gradients(Cached(micro_batch), runner, batch), plain)


def test_cached_under_autocast(make_run) -> None:
    """Weights are cast once a step, and again where a chunk is computed again."""
    _, runner, batch = make_run("modalities=[spectra,metadata]")
    runner.eval()
    with torch.autocast("cpu", torch.bfloat16):
        plain, cached = gradients(Plain(), runner, batch), gradients(Cached(3), runner, batch)
    whole, chunks = (torch.cat([g.flatten() for g in f.values()]) for f in (plain, cached))
    # bfloat16 has 8 bits, and the sum over chunks another order
    assert (chunks - whole).norm() <= 0.05 * whole.norm()


def test_cached_replays_dropout(make_run) -> None:
    """Encoding a chunk again draws what the first time drew: the gradient is that of the loss."""
    _, runner, batch = make_run("+model.modalities.metadata.encoder.dropout=0.5")
    runner.train()
    scale = runner.model.heads["metadata"].bias
    gradient = gradients(Cached(4), runner, batch)["model.heads.metadata.bias"]

    def loss() -> float:
        torch.manual_seed(0)
        with torch.no_grad():
            return runner(runner.make_views(batch), Position(), InChunks(4)).value

    step = 1e-2 * torch.nn.functional.normalize(gradient, dim=0)
    with torch.no_grad():
        scale += step
        above = loss()
        scale -= 2 * step
        below = loss()
    expected = float(2e-2 * gradient.norm())
    assert above - below == pytest.approx(expected, rel=0.05)


def add_norm(runner: Runner, **settings: bool) -> torch.nn.BatchNorm1d:
    """A batch norm before the head of spectra, with statistics of its own."""
    norm = torch.nn.BatchNorm1d(runner.model.encoders["spectra"].dim, **settings)
    if norm.running_mean is not None:
        norm.running_mean.fill_(0.1)
    runner.model.heads["spectra"] = torch.nn.Sequential(norm, runner.model.heads["spectra"])
    return norm


def test_cached_refuses_batch_norm(make_run) -> None:
    _, runner, _ = make_run()
    add_norm(runner)
    with pytest.raises(ConfigError, match=r"heads\.spectra\.0 of the model is a batch norm"):
        Cached().check(runner)
    # what is frozen as a whole uses its statistics anyway
    runner.model.heads["spectra"].requires_grad_(False)
    Cached().check(runner)


def test_cached_with_frozen_batch_norm(make_run) -> None:
    """As plain with the norm in eval mode: its statistics stay, its scale and shift train."""
    _, runner, batch = make_run()
    norm, frozen = add_norm(runner), Cached(3, batch_norm="frozen")
    frozen.check(runner)
    runner.eval()
    norm.train()
    cached = gradients(frozen, runner, batch)
    assert (norm.running_mean == 0.1).all()
    assert int(norm.num_batches_tracked) == 0
    runner.eval()
    plain = gradients(Plain(), runner, batch)
    assert plain["model.heads.spectra.0.weight"].any()
    assert_equal(cached, plain)


def test_a_norm_without_statistics_cannot_be_frozen(make_run) -> None:
    _, runner, _ = make_run()
    add_norm(runner, track_running_stats=False)
    with pytest.raises(ConfigError, match="without running statistics"):
        Cached(batch_norm="frozen").check(runner)


def test_activations_do_not_grow_with_the_batch(make_run) -> None:
    _, runner, batch = make_run()
    double = twice(batch)
    grown = {}
    for name, chunking in {"whole": at_once, "cached": InChunks(2)}.items():
        sizes = []
        for given in (batch, double):
            inputs = [t for named in given.inputs.values() for t in named.values()]
            ignored = [*runner.parameters(), *runner.buffers(), *inputs]
            step = partial(runner, given, Position(), chunking)
            sizes.append(kept_bytes(step, ignored))
        grown[name] = sizes[1] - sizes[0]
    # embeddings and the loss grow
    assert 0 < grown["cached"] < 0.05 * grown["whole"]


def test_trial_counts_what_the_graph_keeps(make_run) -> None:
    _, runner, batch = make_run()
    constants = [*runner.parameters(), *runner.buffers()]
    trial, counted = Trial(constants), []

    def watched(part: Part, rows: Rows) -> Rows:
        counted.append(kept_bytes(lambda: part(rows), [*constants, *rows.values()]))
        return part(rows)

    runner(batch, Position(), trial)
    runner(batch, Position(), watched)
    assert trial.rows == 8
    assert trial.bytes_of(8) == trial.bytes_of(100) == pytest.approx(sum(counted), rel=0.01)


def test_auto(make_run) -> None:
    """The largest power of two whose activations fit; nothing is left of the search."""
    _, runner, batch = make_run("+model.modalities.metadata.encoder.dropout=0.5")
    everything = try_out(runner, batch, Position()).bytes_of(8) / 2**30
    torch.manual_seed(3)
    state, before = torch.get_rng_state(), {k: t.clone() for k, t in runner.state_dict().items()}
    for share, expected in ((0.99, 4), (0.3, 2), (1.0, 8)):
        passes, budget = Cached("auto", memory_gib=share * everything), share * everything
        line = passes.prepare(runner, batch, Position())
        assert passes.state_dict() == {"micro_batch": expected}
        assert line.startswith(f"micro-batch {expected}: ")
        assert f"{budget:.3g} GiB budget" in line
        assert passes.prepare(runner, batch, Position()) == ""
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(t, before[k]) for k, t in runner.state_dict().items())


def test_auto_by_what_is_free(make_run) -> None:
    _, runner, batch = make_run()
    passes = Cached("auto")
    assert " GiB budget" in passes.prepare(runner, batch, Position())
    assert passes.state_dict() == {"micro_batch": 8}


def test_auto_where_nothing_fits(make_run) -> None:
    _, runner, batch = make_run()
    with pytest.raises(ConfigError, match=r"one row fits: .* GiB of activations, 1e-06 GiB budget"):
        Cached("auto", memory_gib=1e-6).prepare(runner, batch, Position())


def test_a_resumed_run_takes_what_was_found(make_run) -> None:
    _, runner, batch = make_run()
    passes = Cached("auto", memory_gib=1e-6)
    passes.load_state_dict({"micro_batch": 4})
    assert passes.prepare(runner, batch, Position()) == ""
    assert passes.state_dict() == {"micro_batch": 4}


@pytest.mark.parametrize("micro_batch", [3, "auto"])
def test_a_checkpoint_may_hold_nothing_found(micro_batch) -> None:
    passes = Cached(micro_batch)
    before = passes.state_dict()
    passes.load_state_dict({})
    assert passes.state_dict() == before


def test_ranks_find_one_number(make_run) -> None:
    """That of the rank with the fewest; all of them fail where one has to."""
    _, runner, batch = make_run()

    def find(budgets: list[float]) -> object:
        passes = Cached("auto", memory_gib=budgets[rank()])
        try:
            passes.prepare(runner, batch, Position())
        except ConfigError as error:
            return str(error)
        return passes.state_dict()["micro_batch"]

    budget = 0.6 * try_out(runner, batch, Position()).bytes_of(8) / 2**30
    run_ranks = runpy.run_path(str(Path(__file__).with_name("ranks.py")))["run_ranks"]

    def both() -> list[object]:
        return [find([budget, 1.0]), find([1e-6, 1.0])]

    for number, message in run_ranks(2, both):
        assert number == 4
        assert "not even one row fits" in message


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
        ({"name": "cached", "micro": 3}, "Did you mean 'micro_batch'"),
        ({"name": "cached", "micro_batch": 0}, "at least 1"),
        ({"name": "cached", "micro_batch": "a"}, "whole number"),
        ({"name": "cached", "batch_norm": "thaw"}, "'refuse' or 'frozen'"),
        ({"name": "cached", "memory_gib": 2.0}, "what micro_batch=auto reads, and .* is 64"),
        ({"name": "cached", "micro_batch": "auto", "memory_gib": 0}, "above 0"),
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
