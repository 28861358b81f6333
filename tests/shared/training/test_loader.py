"""Order of batches: a function of seed and epoch, the same for any number of ranks and workers."""

import subprocess
import sys
from types import MappingProxyType

import numpy as np
import pytest
import torch

from domains.astro.datasets.simulated import SimulatedVariableStars
from domains.astro.preprocess.light_curve import LightCurve
from domains.astro.preprocess.metadata import MetadataTable
from shared.data.captions import CAPTIONS
from shared.data.dataset import Dataset, Raw, SampleTable
from shared.data.prepared import PreparedDataset
from shared.preprocessors.clip_tokens import CLIPTokens
from shared.random import sample_seed
from shared.training.loader import CountedLoader


@pytest.fixture(scope="module")
def data() -> PreparedDataset:
    dataset = SimulatedVariableStars(n_stars=20)
    preprocessors = {
        "photometry": LightCurve(dataset.schemas["photometry"], max_length=40),
        "metadata": MetadataTable(dataset.schemas["metadata"]),
    }
    preprocessors["metadata"].fit(dataset[row]["metadata"] for row in range(20))
    data = PreparedDataset(dataset, preprocessors, seed=1)
    data.load(range(20))
    return data


def loader(data: PreparedDataset, epoch: int, start: int = 0, **settings: int) -> CountedLoader:
    rows = np.arange(20)
    return CountedLoader(data, rows, 6, position=lambda: (epoch, start), seed=3, **settings)


def test_epochs_differ_and_repeat(data: PreparedDataset) -> None:
    first, again, second = (loader(data, 0).plan(e) for e in (0, 0, 1))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert not np.array_equal(np.concatenate(first), np.concatenate(second))
    assert len(first) == 3  # the last two samples are no batch of six
    assert len(set(np.concatenate(first).tolist())) == 18


def test_starting_in_the_middle_gives_the_same_batches(data: PreparedDataset) -> None:
    whole, rest = list(loader(data, 2)), list(loader(data, 2, start=1))
    assert len(rest) == 2
    for a, b in zip(whole[1:], rest, strict=True):
        assert torch.equal(a.rows, b.rows)
        for name, tensor in a.inputs["photometry"].items():
            assert torch.equal(tensor, b.inputs["photometry"][name])


def test_random_windows_depend_on_epoch_and_id_only(data: PreparedDataset) -> None:
    crops = [data[epoch, 5].inputs["photometry"]["time"] for epoch in (0, 0, 1, 2)]
    assert np.array_equal(crops[0], crops[1])
    assert not all(np.array_equal(crops[0], crop) for crop in crops[2:])
    # the row is another one in a part of the data
    name = str(data.dataset.table.ids[5])
    for epoch in (2, None):
        assert data[epoch, 5].seed == sample_seed(1, epoch, name)


def test_ranks_share_a_batch(data: PreparedDataset) -> None:
    joint = loader(data, 1).plan(1)
    parts = [loader(data, 1, rank=rank, world_size=2).plan(1) for rank in (0, 1)]
    for batch, first, second in zip(joint, *parts, strict=True):
        assert np.array_equal(batch, np.concatenate([first, second]))


@pytest.mark.slow
def test_workers_change_nothing(data: PreparedDataset) -> None:
    for a, b in zip(loader(data, 0), loader(data, 0, num_workers=2), strict=True):
        assert torch.equal(a.rows, b.rows)
        assert torch.equal(a.seeds, b.seeds)
        assert torch.equal(a.inputs["photometry"]["values"], b.inputs["photometry"]["values"])


def test_validation_takes_every_sample_in_order(data: PreparedDataset) -> None:
    batches = list(CountedLoader(data, np.arange(20), 6))
    assert torch.cat([b.rows for b in batches]).tolist() == list(range(20))
    assert [len(b) for b in batches] == [6, 6, 6, 2]


class Captioned(Dataset):
    """Forty samples of five texts each, of which none stands twice."""

    name, schemas = "captioned", MappingProxyType({"text": CAPTIONS})

    def make_table(self) -> SampleTable:
        return SampleTable([f"sample {i}" for i in range(40)])

    def read(self, index: int) -> Raw:
        return {"text": tuple(f"{index} {said}" for said in "abcde")}

    def content_fingerprint(self) -> str:
        return "1"


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
def test_captions_are_drawn_anew_each_epoch_and_the_same_again(workers: int) -> None:
    dataset = Captioned()
    tokens = {"text": CLIPTokens(CAPTIONS, context_length=8)}
    data = PreparedDataset(dataset, tokens, seed=1)
    data.load(range(40))
    said = [tokens["text"](dataset[row]["text"])["input_ids"].tolist() for row in range(40)]

    def drawn(epoch: int, **settings: int) -> list[int]:
        batches = CountedLoader(
            data, np.arange(40), 8, position=lambda: (epoch, 0), seed=3, **settings
        )
        chosen = {
            row: said[row].index(ids)
            for batch in batches
            for row, ids in zip(
                batch.rows.tolist(), batch.inputs["text"]["input_ids"].tolist(), strict=True
            )
        }
        return [chosen[row] for row in range(40)]

    first, second = (drawn(epoch, num_workers=workers) for epoch in (0, 1))
    assert set(first) == set(second) == set(range(5))
    assert sum(a != b for a, b in zip(first, second, strict=True)) > 20
    assert drawn(0) == first


def test_workers_end_with_a_process_that_keeps_their_loader() -> None:
    """They outlive SIGTERM, by which `multiprocessing` would end them before it waits."""
    code = """
import sys
from torch.utils.data import DataLoader
from shared.training import loader
sys.kept = iter(DataLoader(list(range(64)), num_workers=1, worker_init_fn=loader.outlive))
next(sys.kept)
raise ValueError("told")
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "ValueError: told"
