"""What holds for every objective: its gradients under autocast, compile, chunks and ranks."""

import importlib
import importlib.util
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from shared.data.batch import Batch
from shared.objectives.base import Position
from shared.training.passes import Cached, Plain
from shared.training.runner import Runner

HERE = Path(__file__).resolve()
TOY = HERE.parents[2] / "toy_domain"
WORKER = HERE.with_name("objective_ranks.py")
RUNS: dict[str, list[str]] = {
    name: settings
    for name, settings in yaml.safe_load((TOY / "smoke.yaml").read_text()).items()
    # here the passes are chosen by the test
    if not any(text.startswith("passes") for text in settings)
}

Make = Callable[[str], tuple[Runner, Batch]]


@pytest.fixture(scope="module")
def worker() -> Any:
    spec = importlib.util.spec_from_file_location("objective_ranks", WORKER)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def runs(toy: Path, worker: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Settings by name, with a model of random weights as TEACHER."""
    folder = tmp_path_factory.mktemp("teacher")
    worker.make_run(RUNS["contrastive"])[0].model.save(folder, "")
    return {n: [t.replace("TEACHER", str(folder)) for t in texts] for n, texts in RUNS.items()}


@pytest.fixture
def make(runs: dict[str, list[str]], worker: Any) -> Make:
    return lambda name: worker.make_run(runs[name])


@pytest.fixture
def gradients_of(worker: Any) -> Callable[..., dict[str, Tensor]]:
    def run(runner: Runner, batch: Batch, passes: Any = None) -> dict[str, Tensor]:
        # without dropout, which draws in another order when rows come otherwise
        runner.eval()
        (passes or Plain())(runner, batch, Position(), Tensor.backward)
        found: dict[str, Tensor] = worker.gradients(runner)
        runner.zero_grad()
        return found

    return run


def assert_equal(found: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Equal up to rounding, measured by the largest gradient of the parameter and of all."""
    assert found.keys() == expected.keys()
    largest = {name: float(gradient.abs().max()) for name, gradient in expected.items()}
    assert max(largest.values()) > 0
    for name, gradient in expected.items():
        atol = 1e-3 * largest[name] + 1e-7 * max(largest.values())
        torch.testing.assert_close(
            found[name], gradient, atol=atol, rtol=1e-3, msg=lambda m, n=name: f"{n}: {m}"
        )


@pytest.mark.parametrize("name", RUNS)
def test_every_trained_parameter_gets_a_gradient(make: Make, worker: Any, name: str) -> None:
    """DDP waits for all of them."""
    runner, batch = make(name)
    runner.train()
    Plain()(runner, batch, Position(), Tensor.backward)
    trained = {n for n, p in runner.named_parameters() if p.requires_grad}
    found = worker.gradients(runner)
    assert found.keys() == trained
    assert all(gradient.isfinite().all() for gradient in found.values())


@pytest.mark.parametrize("rows", [0, 1])
@pytest.mark.parametrize("name", RUNS)
def test_small_batches(make: Make, worker: Any, name: str, rows: int) -> None:
    """The end of a validation may leave a rank one sample, or none."""
    runner, batch = make(name)
    runner.eval()
    loss = runner(worker.part_of(batch, slice(0, rows), runner)).loss
    assert loss.isfinite()
    assert rows or loss == 0
    loss.backward()
    found = worker.gradients(runner)
    assert found.keys() == {n for n, p in runner.named_parameters() if p.requires_grad}
    assert all(gradient.isfinite().all() for gradient in found.values())


@pytest.mark.parametrize("name", RUNS)
def test_losses_are_float32_under_autocast(make: Make, name: str) -> None:
    runner, batch = make(name)
    terms = []
    for _, objective in runner.named_objectives():
        objective.register_forward_hook(lambda _m, _a, output: terms.extend(output.terms.values()))
    with torch.autocast("cpu", torch.bfloat16):
        loss = runner(batch).loss
    loss.backward()
    assert loss.isfinite()
    assert {term.total.dtype for term in terms} == {torch.float32}
    assert all(p.grad.isfinite().all() for p in runner.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", RUNS)
def test_compiled_equals_plain(
    make: Make, gradients_of: Callable[..., dict[str, Tensor]], name: str
) -> None:
    runner, batch = make(name)
    plain = gradients_of(runner, batch)
    teachers = [o.teacher for _, o in runner.named_objectives() if o.teacher is not None]
    for model in (runner.model, *teachers):
        for encoder in model.encoders.values():
            encoder.compile(backend="aot_eager")
    assert_equal(gradients_of(runner, batch), plain)


@pytest.mark.parametrize("name", RUNS)
def test_cached_equals_plain(
    make: Make, gradients_of: Callable[..., dict[str, Tensor]], name: str
) -> None:
    runner, batch = make(name)
    assert_equal(gradients_of(runner, batch, Cached(2)), gradients_of(runner, batch))


@pytest.fixture(scope="module", params=[5, 8])
def ranks(
    runs: dict[str, list[str]], worker: Any, request: pytest.FixtureRequest
) -> list[dict[str, dict[str, Tensor]]]:
    """By rank and run, gradients averaged over two processes with five and three rows of the batch,
    or with eight and none, as the end of a validation may leave them."""
    run_ranks = runpy.run_path(str(HERE.with_name("ranks.py")))["run_ranks"]
    found: list[dict[str, dict[str, Tensor]]]
    found = run_ranks(2, worker.rank_gradients, runs, request.param)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("name", RUNS)
def test_two_ranks_equal_the_joint_batch(
    ranks: list[dict[str, dict[str, Tensor]]],
    make: Make,
    gradients_of: Callable[..., dict[str, Tensor]],
    name: str,
) -> None:
    joint = gradients_of(*make(name))
    for found in ranks:
        assert_equal(found[name], joint)
