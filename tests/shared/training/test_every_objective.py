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


@pytest.fixture(scope="module", params=[2, 3])
def ranks(runs: dict[str, list[str]], worker: Any, request: pytest.FixtureRequest) -> Any:
    """By rank, what its steps were, by run and layout."""
    run_ranks = runpy.run_path(str(HERE.with_name("ranks.py")))["run_ranks"]
    matrix = worker.matrix(runs)
    matrix |= worker.with_options(matrix, worker.PER_RANK)
    for settings in matrix.values():
        # once, for all ranks
        worker.make_run(settings)
    return run_ranks(request.param, worker.rank_steps, matrix)


@pytest.mark.slow
def test_ranks_equal_the_joint_batch(ranks: Any, runs: dict[str, list[str]], worker: Any) -> None:
    """Loss, gradients and the state after a step, whatever rows and modalities each rank has."""
    layouts = worker.LAYOUTS[len(ranks)]
    for name, settings in worker.matrix(runs).items():
        for number, joint in enumerate(worker.joint_steps(settings, layouts)):
            for found in ranks:
                loss, gradient, change = worker.differences(found[name][number], joint)
                where = f"{name}, {layouts[number]}: {loss:.1e}, {gradient:.1e}, {change:.1e}"
                assert loss < 1e-5, where
                assert max(gradient, change) < 3e-4, where


@pytest.mark.slow
def test_rows_of_other_ranks_without_gradient(
    ranks: Any, runs: dict[str, list[str]], worker: Any
) -> None:
    """The towers' gradients are those of the joint batch over the number of ranks."""
    layouts = worker.LAYOUTS[len(ranks)]
    joints = worker.joint_steps(runs["contrastive"], layouts)
    for number, joint in enumerate(joints):
        expected = {
            name: gradient if name.startswith("model.scalars") else gradient / len(ranks)
            for name, gradient in joint.gradients.items()
        }
        for found in ranks:
            step = worker.Step(*found["contrastive, no gradient between ranks"][number])
            torch.testing.assert_close(step.loss, joint.loss)
            assert_equal(step.gradients, expected)


@pytest.mark.slow
def test_neighbours_of_a_rank(ranks: Any, runs: dict[str, list[str]], worker: Any) -> None:
    """Instead of the joint batch's KoLeo the mean of those of the ranks' rows, by their number."""
    name = "dinov2, neighbours of a rank"
    settings = worker.with_options(worker.matrix(runs), worker.PER_RANK)[name]
    layout = worker.LAYOUTS[len(ranks)][0]
    weights = {"with": 0.1, "without": 0.0}
    gradients = {}
    for key, weight in weights.items():
        changed = [*settings, f"objective.dinov2.koleo_weight={weight}"]
        gradients[key] = []
        for number in range(len(layout.parts)):
            runner, batch = worker.make_run(changed)
            part = worker.part_of(batch, layout.rows_of(number), runner)
            gradients[key].append(worker.take_step(changed, runner, part).gradients)
    joint = worker.joint_steps([*settings, "objective.dinov2.koleo_weight=0"], [layout])[0]
    expected = dict(joint.gradients)
    # a row that is alone has no neighbour, and does not count
    rows = [number for number in layout.parts if number > 1]
    for number, part in enumerate(layout.parts):
        if part > 1:
            for parameter in expected:
                one, other = (gradients[key][number][parameter] for key in weights)
                expected[parameter] = expected[parameter] + (one - other) * part / sum(rows)
    for found in ranks:
        assert_equal(worker.Step(*found[name][0]).gradients, expected)
