"""AstroM3's preprocessing: of raw samples, and the cropping and padding of processed ones."""

import random
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from domains.astro.preprocess.metadata import transform_columns
from domains.astro.schemas import (
    CATALOGUE_PHOTOMETRY,
    META_COLUMNS,
    METADATA,
    PHOTO_COLUMNS,
    PROCESSED_PHOTOMETRY,
    SPECTRA,
)
from shared.preprocess import Preprocessor
from shared.schema import Array, Schema
from zoo.plugins import plugins


def build(name: str, schema: Schema, **settings: Any) -> Preprocessor:
    prepare: Preprocessor = plugins().registries.preprocessors.build(
        name, "parity", schema, **settings
    )
    return prepare


class Drawn:
    """Starts of windows, drawn as upstream drew them."""

    def __init__(self, integers: Callable[[int, int], int]) -> None:
        self.integers = integers


def add_columns(curve: Array, columns: Array) -> Array:
    """Photometry (n, 7) of a star with these catalogue columns."""
    return np.hstack([curve, np.tile(columns, (len(curve), 1))])


def prep_lc(case: Any) -> dict[str, Tensor]:
    inputs, spec = case.tensors("inputs"), case.spec
    columns = inputs["aux"].double().numpy()
    columns[PHOTO_COLUMNS.index("period")] = 10 ** columns[PHOTO_COLUMNS.index("period")]
    prepare = build(
        "astrom3_light_curve",
        CATALOGUE_PHOTOMETRY,
        columns=list(PHOTO_COLUMNS),
        max_length=spec["seq_len"],
        time_dtype=spec["raw_dtype"],
        padding="columns",
    )
    # upstream's columns are standardised already
    prepare.load_state({"mean": [0.0] * len(columns), "std": [1.0] * len(columns)})
    rng = None
    if spec["split"] == "train":
        # its upper bound is exclusive
        legacy = np.random.RandomState(spec["numpy_seed_before_call"])
        rng = Drawn(lambda low, high: int(legacy.randint(low, high - 1)))
    made = prepare(add_columns(inputs["light_curve"].double().numpy(), columns))
    cropped = prepare.crop(made, rng)  # type: ignore[arg-type]
    found = {name: torch.from_numpy(array) for name, array in cropped.items()}
    return {"photometry": found["values"], "mask": found["mask"].float()}


def prep_spectra(case: Any) -> dict[str, Tensor]:
    # upstream takes spectra however little of the grid they cover
    prepare = build("spectrum", SPECTRA, min_coverage=0.0)
    raw = case.tensors("inputs")["spectrum"].double().numpy()
    return {"spectra": torch.from_numpy(prepare(raw)["values"])}


def prep_metadata(case: Any) -> dict[str, Tensor]:
    raw = case.tensors("inputs")["raw"].numpy()
    names, split = (*PHOTO_COLUMNS, *META_COLUMNS), len(PHOTO_COLUMNS)
    assert names == tuple(case.spec["all_cols"])
    train = raw[: case.spec["train_rows"]]
    metadata = build("astrom3_metadata", METADATA)
    metadata.fit(train[:, split:])
    curve = build("astrom3_light_curve", CATALOGUE_PHOTOMETRY, columns=list(PHOTO_COLUMNS))
    times = np.arange(9.0)[:, None] ** [1, 2, 0]
    curve.fit(add_columns(times, row[:split]) for row in train)
    mean, std = (
        np.concatenate([part.state()[name] for part in (curve, metadata)])
        for name in ("mean", "std")
    )
    transformed = transform_columns(names, raw)
    standardised = (transformed - mean) / std
    for row, expected in zip(raw, standardised, strict=True):
        made = curve(add_columns(times, row[:split]))["values"]
        np.testing.assert_array_equal(made[:, 3 : 3 + split] - expected[:split].astype("f4"), 0)
    found = {
        "mean": mean,
        "std": std,
        "transformed": transformed,
        "standardised": standardised,
        "photo_cols": standardised[:, :split],
        "meta_cols": np.stack([metadata(row[split:])["values"] for row in raw]),
    }
    return {name: torch.from_numpy(array) for name, array in found.items()}


def processed_collate(case: Any) -> dict[str, Tensor]:
    tables, spec = case.tensors("inputs"), case.spec
    prepare = build("processed_light_curve", PROCESSED_PHOTOMETRY, max_length=spec["seq_len"])
    rng = None
    if spec["how"] == "random":
        drawn = random.Random(spec["python_random_seed_before_call"])
        rng = Drawn(lambda low, high: drawn.randint(low, high - 1))
    samples = [
        prepare.crop(prepare(tables[f"table.{index}"].double().numpy()), rng)  # type: ignore[arg-type]
        for index in range(len(tables))
    ]
    batch = prepare.collate(samples)
    # the encoder pads what is missing when all are short
    missing = spec["seq_len"] - batch["mask"].shape[1]
    photometry = torch.nn.functional.pad(batch["values"], (0, 0, 0, missing))
    mask = torch.nn.functional.pad(batch["mask"], (0, missing))
    return {"photometry": photometry, "mask": mask.float()}


ADAPTERS = {
    "prep_lc": prep_lc,
    "prep_spectra": prep_spectra,
    "prep_metadata": prep_metadata,
    "processed_collate": processed_collate,
}
