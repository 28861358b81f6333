"""A run on a few synthetic stars, up to the point where its trainer would start."""

from collections.abc import Callable

import pytest

from shared.data.batch import Batch
from shared.data.build import build_dataset
from shared.data.prepared import PreparedDataset
from shared.training.build import build_runner
from shared.training.config import TrainConfig
from shared.training.runner import Runner
from zoo.config import compose_config, typed
from zoo.plugins import plugins

Run = tuple[TrainConfig, Runner, Batch]


@pytest.fixture(scope="session")
def make_run() -> Callable[..., Run]:
    """Overrides of `zoo train domain=astro` → config, runner, a batch of eight stars."""

    def make(*overrides: str) -> Run:
        small = ["domain=astro", "data.n_stars=12", *overrides]
        config = typed(TrainConfig, compose_config("train", small))
        registries = plugins().registries
        dataset = build_dataset(config.data, registries)
        runner = build_runner(config, dataset, registries)
        data = PreparedDataset(dataset, runner.model.preprocessors, config.seed)
        data.fit_preprocessors(range(8))
        data.load(range(8))
        return config, runner, data.collate([data[None, row] for row in range(8)])

    return make
