"""Class predictions of a model on a dataset, and their file."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from shared import inference
from shared.data.dataset import Dataset
from shared.data.prepared import Progress, silent
from shared.data.skipping import Skipped, skipped_of
from shared.devices import Precision
from shared.errors import ConfigError, DataError, suggest
from shared.files import atomic_path
from shared.model import Model
from shared.preprocess import Prepared

if TYPE_CHECKING:
    from torch import Tensor

SUFFIXES = (".csv", ".parquet")


@dataclass(frozen=True)
class Predictions:
    """What a model's classifier says of samples that have at least one modality.

    Attributes:
        ids: (n,) names of the samples.
        probabilities: (n, num_classes) float32, rows sum to 1.
        classes: Names of the columns; `class_0`, … where the model knows none.
        labels: (n,) names of the true classes, empty where unknown.
        splits: (n,) `train`, `val` or `test`.
        present: By modality that was read, (n,) whether the sample has it.
        without: Samples that were left out, having none of these modalities.
        dataset: Name of the data.
        model: What predicted.
        synthetic: Whether the data are simulated.
        skipped: What of the data could not be used.
    """

    ids: NDArray[np.str_]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...]
    labels: NDArray[np.str_]
    splits: NDArray[np.str_]
    present: Mapping[str, NDArray[np.bool_]]
    without: int
    dataset: str
    model: str
    synthetic: bool
    skipped: tuple[Skipped, ...] = ()

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def predicted(self) -> NDArray[np.str_]:
        """(n,) the class of the largest probability."""
        names: NDArray[np.str_] = np.asarray(self.classes, np.str_)
        chosen: NDArray[np.str_] = names[self.probabilities.argmax(axis=1)]
        return chosen

    @cached_property
    def judged(self) -> NDArray[np.bool_]:
        """(n,) whether the label is known and one of the model's classes."""
        known: NDArray[np.bool_] = np.isin(self.labels, self.classes)
        return known

    def save(self, path: str | Path) -> None:
        """Write a table: `id`, `prediction`, `probability` (of the prediction), `p_<class>` each,
        `label` (where any is known), `split`, `has_<modality>` each.

        Raises:
            ConfigError: Another suffix than .csv or .parquet, or the file is there already.
            DataError: It cannot be written.
        """
        import pyarrow as pa
        from pyarrow import csv, parquet

        path = Path(path)
        check_out(path)
        columns: dict[str, Any] = {
            "id": self.ids,
            "prediction": self.predicted,
            "probability": self.probabilities.max(axis=1, initial=0.0),
        }
        columns |= {f"p_{name}": self.probabilities[:, i] for i, name in enumerate(self.classes)}
        if (self.labels != "").any():
            columns["label"] = [label or None for label in self.labels.tolist()]
        columns["split"] = self.splits
        columns |= {f"has_{modality}": there for modality, there in self.present.items()}
        table = pa.table(columns)
        with atomic_path(path) as temporary:
            if path.suffix == ".csv":
                csv.write_csv(table, temporary)
            else:
                parquet.write_table(table, temporary)


def check_out(path: Path) -> None:
    """Raise a ConfigError unless predictions can be written there: a known suffix, a new file."""
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"out={path}: the suffix must be {' or '.join(SUFFIXES)}.")
    if path.exists():
        raise ConfigError(f"out={path} exists: nothing is overwritten. Choose another file.")


def predict_dataset(
    model: Model,
    dataset: Dataset,
    name: str,
    *,
    split: str = "all",
    modalities: Sequence[str] | None = None,
    batch_size: int = 64,
    device: str = "auto",
    precision: Precision = "float32",
    progress: Progress = silent,
) -> Predictions:
    """Predict the class of every sample of a dataset from the modalities it has.

    Args:
        model: With a classifier.
        dataset: The samples.
        name: Of the model, for the file.
        split: `train`, `val`, `test` or `all`.
        modalities: Those that are read; None: all that model and data share.
        batch_size: Samples a forward pass.
        device: Where to compute.
        precision: Of the encoders.
        progress: Wraps the iteration with a progress bar.

    Raises:
        ConfigError: No classifier, or an unknown split.
        SchemaError, UnknownNameError: Model and data do not share the modalities.
        DataError: A sample cannot be read, or there is none in the split.
    """
    inference.require_classifier(model, name)
    if split not in ("all", "train", "val", "test"):
        raise ConfigError(f"split={split!r}. {suggest(split, ('all', 'train', 'val', 'test'))}")
    rows = np.arange(len(dataset)) if split == "all" else dataset.indices(split)
    if not len(rows):
        raise DataError(f"{dataset.name} has no sample in the {split} split.")
    chosen = inference.shared_modalities(model, name, dataset.schemas, modalities)
    kept, probabilities = [], []
    present: dict[str, list[NDArray[np.bool_]]] = {m: [] for m in chosen}
    with inference.ready(model, device, batch_size):
        for chunk, features, there in batches(
            model, dataset, rows, chosen, batch_size, precision, progress
        ):
            kept.append(chunk)
            probabilities.append(inference.classifier_probabilities(model, features, there))
            for modality in chosen:
                present[modality].append(there[modality].cpu().numpy())
    if not kept:
        raise DataError(f"{dataset.name}: no sample has any of {', '.join(chosen)}.")
    rows_kept = np.concatenate(kept)
    known = {m: np.concatenate(parts) for m, parts in present.items()}
    dataset.check_skipped({m: int(p.sum()) for m, p in known.items()}, len(rows))
    names = np.asarray([*dataset.classes, ""], np.str_)
    return Predictions(
        ids=dataset.ids[rows_kept],
        probabilities=np.concatenate(probabilities),
        classes=class_names(model),
        labels=names[dataset.labels[rows_kept]],
        splits=dataset.splits[rows_kept],
        present=known,
        without=len(rows) - len(rows_kept),
        dataset=dataset.title,
        model=name,
        synthetic=dataset.synthetic,
        skipped=tuple(skipped_of(dataset)),
    )


def class_names(model: Model) -> tuple[str, ...]:
    """Of the classifier's logits, `class_0`, … where they are unknown."""
    config = model.config.classifier
    assert config is not None
    return tuple(config.classes or (f"class_{i}" for i in range(config.num_classes or 0)))


def batches(
    model: Model,
    dataset: Dataset,
    rows: NDArray[np.int64],
    modalities: Sequence[str],
    batch_size: int,
    precision: Precision,
    progress: Progress,
) -> Iterator[tuple[NDArray[np.int64], "dict[str, Tensor]", "dict[str, Tensor]"]]:
    """What the classifier reads of these rows, a batch at a time; the model is `ready`.

    Yields:
        Rows that have at least one of the modalities, and by modality of the model their features
        and presence.
    """
    positions = {
        m: dataset.schemas[m].select(
            model.schemas[m].channels,
            taker=model.config.name,
            given_by=dataset.name,
            remedy=model.preprocessors[m].remedy,
        )
        for m in modalities
    }
    chunk: dict[int, dict[str, Prepared]] = {}
    last = int(rows[-1])
    for row in progress(rows.tolist(), f"predicting {dataset.name}"):
        raw = dataset[row]
        prepared = {}
        for modality in modalities:
            if modality in raw:
                value = raw[modality]
                value = value[..., positions[modality]] if positions[modality] else value
                try:
                    prepared[modality] = inference.prepare(model, modality, [value])[0]
                except DataError as error:
                    dataset.refuse(
                        row, modality, DataError(f"{dataset.where(row, modality)}: {error}")
                    )
        if have := {m: p for m, p in prepared.items() if p is not None}:
            chunk[row] = have
        if chunk and (len(chunk) == batch_size or row == last):
            columns = {m: [sample.get(m) for sample in chunk.values()] for m in modalities}
            yield np.array(list(chunk)), *inference.classifier_features(model, columns, precision)
            chunk = {}
