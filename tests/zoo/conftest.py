"""A run of `zoo train` that tests copy, stop and damage; `killing` compares two of them."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from zoo.cli.main import main

HERE = Path(__file__).resolve()
# killing.py and forked.py
sys.path += [str(HERE.parents[2] / "benchmarks" / "reliability"), str(HERE.parent)]


@contextmanager
def single_thread() -> Iterator[None]:
    """Sums over several threads may differ in their last bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def one_thread() -> Iterator[None]:
    with single_thread():
        yield


@pytest.fixture(scope="session")
def tiny() -> list[str]:
    """Settings of a run of three steps an epoch, six in all."""
    return [
        "domain=astro",
        "data.n_stars=90",
        "loader.batch_size=16",
        "trainer.max_epochs=2",
        "trainer.device=cpu",
        "trainer.log_every_n_steps=1",
        "trainer.checkpoint_every_n_steps=1",
        "evaluator=null",
    ]


@pytest.fixture(scope="session")
def run(tiny: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A whole run: `last.ckpt` is of its end, `previous.ckpt` of the step before."""
    folder = tmp_path_factory.mktemp("runs") / "run"
    with single_thread():
        assert main(["train", *tiny, f"run_folder={folder}"]) == 0
    return folder


@pytest.fixture
def copy(run: Path, tmp_path: Path) -> Path:
    """The same run, stopped before its model was saved."""
    folder = tmp_path / "copy"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / "model")
    return folder
