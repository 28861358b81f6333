"""What is random for a sample is a function of (seed, epoch, id): crops and views."""

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor

import zoo
from shared.data.batch import Batch, PreparedSample, View
from shared.data.build import build_dataset
from shared.data.prepared import PreparedDataset
from shared.objectives.base import Position
from shared.training.build import build_runner
from shared.training.config import TrainConfig
from shared.training.module import PretrainModule
from shared.training.passes import Plain
from shared.training.runner import Runner
from zoo.config import compose_config, typed
from zoo.plugins import plugins

SMOKE = Path(__file__).resolve().parents[2] / "toy_domain" / "smoke.yaml"
RUNS: dict[str, list[str]] = yaml.safe_load(SMOKE.read_text())
VIEWED = [
    "dinov2",
    "mae",
    "masked_fusion",
    "masked_light_curve",
    "masked_series_and_contrastive",
    "multimae",
    "multimae_tasks",
]
OF_A_BATCH = {"token_mask", "masked", "weights"}
"""DINOv2's masks, of which there is a fixed number a batch."""
SHORT = [
    "evaluator=null",
    "loader.batch_size=16",
    "trainer.max_epochs=2",
    "trainer.device=cpu",
    "trainer.log_every_n_steps=1",
]
ROWS = 8
# some of them, in another order
SOME = [6, 1, 5]


@dataclass
class Run:
    runner: Runner
    data: PreparedDataset

    def views(self, rows: Sequence[int], epoch: int | None = 0) -> tuple[Batch, dict[str, View]]:
        batch = self.data.collate([self.data[epoch, row] for row in rows])
        return batch, self.runner.make_views(batch).views


@pytest.fixture(scope="module")
def make(toy: Path) -> Callable[[str], Run]:
    def run(name: str) -> Run:
        config = typed(TrainConfig, compose_config("train", RUNS[name]))
        registries = plugins().registries
        dataset = build_dataset(config.data, registries)
        runner = build_runner(config, dataset, registries)
        data = PreparedDataset(dataset, runner.model.preprocessors, config.seed)
        data.fit_preprocessors(range(ROWS))
        data.load(range(ROWS))
        return Run(runner, data)

    return run


def of_sample(batch: Batch, views: dict[str, View], place: int) -> Iterator[tuple[str, Tensor]]:
    """What the views hold of one sample of the batch: (copies, …)."""
    for name, view in views.items():
        parts = {f"inputs/{m}": (named, batch.present[m]) for m, named in view.inputs.items()}
        everyone = torch.ones(len(batch), dtype=torch.bool)
        parts |= {"joint": (view.joint, everyone), "targets": (view.targets, everyone)}
        for part, (named, there) in parts.items():
            for key, tensor in named.items():
                if key not in OF_A_BATCH and there[place]:
                    rows = tensor.unflatten(0, (view.copies, int(there.sum())))
                    yield f"{name}/{part}/{key}", rows[:, int(there[:place].sum())]


def assert_alike(found: Tensor, expected: Tensor, name: str) -> None:
    """Equal where both have something: a batch of shorter samples has less padding."""
    shapes = zip(found.shape, expected.shape, strict=True)
    common = tuple(slice(min(sizes)) for sizes in shapes)
    for tensor in (found, expected):
        outside = tensor.clone()
        outside[common] = 0
        # of places that were not drawn nothing is read
        assert not outside.any() or name.endswith(("_places", "_ids")), name
    assert torch.equal(found[common], expected[common]), name


@pytest.mark.parametrize("name", VIEWED)
def test_a_sample_has_its_view_in_whichever_batch(make: Callable[[str], Run], name: str) -> None:
    run = make(name)
    whole = run.views(range(ROWS))
    for rows in (SOME, range(3), [7]):
        some = run.views(rows)
        assert some[1].keys() == whole[1].keys()
        for place, row in enumerate(rows):
            found, expected = (dict(of_sample(*v)) for v in ((*some, place), (*whole, row)))
            assert found.keys() == expected.keys()
            for key, tensor in found.items():
                assert_alike(tensor, expected[key], key)


@pytest.mark.parametrize("name", VIEWED)
def test_views_change_with_the_epoch_and_not_in_validation(
    make: Callable[[str], Run], name: str
) -> None:
    run = make(name)

    def look(epoch: int | None) -> dict[str, Tensor]:
        return dict(of_sample(*run.views(range(ROWS), epoch), 2))

    torch.manual_seed(1)
    first, again, later, fixed = (look(epoch) for epoch in (0, 0, 1, None))
    torch.manual_seed(2)
    for key, tensor in look(None).items():
        assert torch.equal(tensor, fixed[key])
        assert torch.equal(first[key], again[key])
    pairs = [(tensor, later[key]) for key, tensor in first.items()]
    assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in pairs)


def test_objectives_and_modalities_draw_independently(make: Callable[[str], Run]) -> None:
    run = make("mae")
    objective = run.runner.objectives["mae"]
    batch, views = run.views(range(ROWS))
    run.runner.objectives = torch.nn.ModuleDict({"mae": objective, "second": objective})
    both = run.runner.make_views(batch).views
    masks = {name: view.targets["mask"] for name, view in both.items()}
    assert torch.equal(masks["mae/masked"], views["mae/masked"].targets["mask"])
    assert not torch.equal(masks["mae/masked"], masks["second/masked"])
    run = make("multimae")
    batch, _ = run.views(range(ROWS))
    assert not set(batch.seeds_of("image").tolist()) & set(batch.seeds_of("depth").tolist())


def disturb(number: int) -> None:
    """Set every state that the parts of a process share."""
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dinov2", "mae", "masked_series_and_contrastive"])
def test_shared_states_and_workers_change_nothing(
    toy: Path, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(folder: str, workers: int) -> tuple[dict[str, Tensor], str]:
        settings = [*RUNS[name], *SHORT, f"loader.num_workers={workers}"]
        run = zoo.train(*settings, f"run_folder={tmp_path / folder}")
        return run.model.state_dict(), (run.folder / "metrics.csv").read_text()

    weights, metrics = train("plain", 0)
    read, after_step = PreparedDataset.__getitem__, Runner.after_step

    def disturbed_read(data: PreparedDataset, key: tuple[int | None, int]) -> PreparedSample:
        disturb(key[1])
        return read(data, key)

    def disturbed_step(runner: Runner, position: Position) -> None:
        after_step(runner, position)
        disturb(position.step)

    monkeypatch.setattr(PreparedDataset, "__getitem__", disturbed_read)
    monkeypatch.setattr(Runner, "after_step", disturbed_step)
    for workers in (0, 2):
        found = train(f"disturbed{workers}", workers)
        assert found[1] == metrics
        assert found[0].keys() == weights.keys()
        assert all(torch.equal(tensor, weights[key]) for key, tensor in found[0].items())


def test_a_step_sets_every_state(make: Callable[[str], Run]) -> None:
    config = typed(TrainConfig, compose_config("train", RUNS["mae"]))
    module = PretrainModule(make("mae").runner, Plain(), config, {"total_steps": 1})

    def draw(batch: int) -> list[float]:
        module.on_train_batch_start(Batch({}, {}, *[torch.zeros(0)] * 4), batch)
        return [float(torch.rand(())), float(np.random.rand()), random.random()]

    first, second = draw(0), draw(1)
    disturb(5)
    assert draw(0) == first
    assert not set(first) & set(second)
