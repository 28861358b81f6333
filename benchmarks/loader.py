"""How fast samples are read and prepared, batches come, and how long training waits for them.

    python benchmarks/loader.py [--data FOLDER] [--stars 600] [--batch-size 64]

Samples: read, checked and prepared by every preprocessor of star-clip, one process. Batches of the
training split, shuffled and cropped: from memory; prepared at each access with 0 and 2 workers; and
the peer, a plain torch DataLoader over a dataset that reads and preprocesses in `__getitem__`, as
AstroM3's code does (what they read and prepare is the same). Waiting: the share of an epoch that
the training loop spends in `next(loader)` (`CountedLoader.wait_seconds`) while the towers of
star-clip go forwards and backwards on the CPU. `--data`, or ZOO_DATA, is the folder of real sets.
"""

import argparse
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch.utils.data import DataLoader, RandomSampler

import zoo
from shared.data.batch import Batch, PreparedSample
from shared.data.dataset import Dataset
from shared.data.prepared import PreparedDataset
from shared.model import Model
from shared.model_config import ModelConfig
from shared.training.loader import CountedLoader
from zoo.config import load_group
from zoo.plugins import plugins

FIGURES = (
    "samples in the training split",
    "samples/s, read and prepared",
    "seconds to statistics and memory",
    "batches/s from memory",
    "batches/s, each access, 0 workers",
    "batches/s, each access, 2 workers",
    "batches/s, peer, 0 workers",
    "batches/s, peer, 2 workers",
    "% of training spent waiting, memory",
    "% of training spent waiting, each access, 0 workers",
)
TO_FLUX = {"photometry": "ab_magnitude_to_flux"}
REAL = {"sdss_s82_rrlyrae": TO_FLUX, "osc_supernovae": TO_FLUX, "snid_supernova_spectra": {}}
"""Names of real sets, and their adapters."""


class EachAccess(torch.utils.data.Dataset[PreparedSample]):
    """The peer: nothing is kept, crops come from torch's generator."""

    def __init__(self, data: PreparedDataset, rows: np.ndarray) -> None:
        self.data, self.rows = data, rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> PreparedSample:
        row = int(self.rows[index])
        raw = self.data.dataset.read(row)
        seed = int(torch.randint(2**31, ()))
        rng = np.random.default_rng(seed)
        inputs = {}
        for modality, preprocessor in self.data.preprocessors.items():
            if modality in raw:
                prepared = preprocessor(self.data.select(raw, modality))
                inputs[modality] = preprocessor.crop(prepared, rng)
        return PreparedSample(inputs, int(self.data.dataset.labels[row]), 0, row, seed)


def datasets(folder: Path | None, n_stars: int) -> dict[str, Dataset]:
    found = {"simulated_variable_stars": zoo.dataset("simulated_variable_stars", n_stars=n_stars)}
    for name, adapters in REAL.items():
        if folder is not None and (root := folder / name).is_dir():
            found[name] = zoo.dataset(name, root=str(root), adapters=adapters)
    return found


def build(dataset: Dataset) -> Model:
    """star-clip:small for the modalities of a dataset."""
    node = load_group("model", "star-clip/small")
    node["modalities"] = {m: p for m, p in node["modalities"].items() if m in dataset.schemas}
    return Model.build(ModelConfig.from_dict(node), dataset.schemas, plugins().registries)


def batches_a_second(batches: Iterable[Batch], epochs: int) -> float:
    began, count = time.perf_counter(), 0
    for _ in range(epochs):
        for _ in batches:
            count += 1
    return count / (time.perf_counter() - began)


def train_epoch(model: Model, loader: CountedLoader) -> float:
    """Share of one epoch that is spent waiting for batches."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    model.train()
    began, waited = time.perf_counter(), loader.wait_seconds
    for batch in loader:
        optimizer.zero_grad()
        loss = torch.zeros(())
        for modality, inputs in batch.inputs.items():
            if batch.present[modality].any():
                pooled = model.encoders[modality](inputs).pooled
                loss = loss + pooled.square().mean()
        loss.backward()
        optimizer.step()
    return (loader.wait_seconds - waited) / (time.perf_counter() - began)


def measure(dataset: Dataset, batch_size: int) -> list[str]:
    model = build(dataset)
    rows = dataset.indices("train")
    began = time.perf_counter()
    kept = PreparedDataset(dataset, model.preprocessors)
    kept.fit_preprocessors(rows.tolist())
    fitted = time.perf_counter()
    kept.load(rows.tolist())
    samples = len(rows) / (time.perf_counter() - fitted)
    setup = time.perf_counter() - began
    fresh = PreparedDataset(dataset, model.preprocessors, in_memory=False)
    fresh.load(rows.tolist())  # the shapes of what a batch may lack

    def loader(data: PreparedDataset, workers: int = 0) -> CountedLoader:
        return CountedLoader(data, rows, batch_size, position=lambda: (0, 0), num_workers=workers)

    def peer(workers: int) -> DataLoader[Any]:
        each = EachAccess(fresh, rows)
        return DataLoader(
            each,
            batch_size=batch_size,
            sampler=RandomSampler(each),
            drop_last=len(rows) >= batch_size,
            collate_fn=fresh.collate,
            num_workers=workers,
        )

    rates = [batches_a_second(loader(kept), 5)]
    rates += [batches_a_second(loader(fresh, workers), 1) for workers in (0, 2)]
    rates += [batches_a_second(peer(workers), 1) for workers in (0, 2)]
    waits = [train_epoch(model, loader(data)) for data in (kept, kept, fresh)][1:]
    figures = [f"{len(rows)}", f"{samples:.0f}", f"{setup:.1f}"]
    return [*figures, *[f"{rate:.1f}" for rate in rates], *[f"{100 * w:.1f}" for w in waits]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, default=os.environ.get("ZOO_DATA"))
    parser.add_argument("--stars", type=int, default=600)
    parser.add_argument("--batch-size", type=int, default=64)
    options = parser.parse_args()
    threads = torch.get_num_threads()
    folder = None if options.data is None else Path(options.data)
    found = datasets(folder, options.stars)
    measured = [measure(dataset, options.batch_size) for dataset in found.values()]
    table = Table("", *found, title=f"batches of {options.batch_size}, threads: {threads}")
    for what, *figures in zip(FIGURES, *measured, strict=True):
        table.add_row(what, *figures)
    Console().print(table)


if __name__ == "__main__":
    main()
