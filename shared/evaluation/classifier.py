"""The model's own classifier on the test split, on every subset of modalities of use."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.data.dataset import Dataset
from shared.data.prepared import Progress, silent
from shared.evaluation.classification import METRICS, classification_output, reason_not_to_classify
from shared.evaluation.embedding_set import EmbeddingSet
from shared.evaluation.output import ProtocolOutput, Rows, missing_output

if TYPE_CHECKING:
    from shared.devices import Precision
    from shared.model import Model

NAME = "classifier"
VERSION = 1


@dataclass(frozen=True)
class ClassifierOutput:
    """What a classifier says of a dataset.

    Attributes:
        classes: Names of its classes in the order of the columns; None: unknown.
        probabilities: By subset of modalities, (n, num_classes) of all rows of the dataset; NaN
            outside the test split and where a row lacks one of the modalities.
    """

    classes: tuple[str, ...] | None
    probabilities: Mapping[tuple[str, ...], NDArray[np.float32]]


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Each modality alone, each pair, and all together."""
    sizes = sorted({1, 2, len(modalities)} & set(range(1, len(modalities) + 1)))
    return [subset for size in sizes for subset in combinations(modalities, size)]


def classify_subsets(
    model: "Model",
    dataset: Dataset,
    modalities: Sequence[str],
    *,
    split: str,
    batch_size: int = 64,
    device: str = "auto",
    precision: "Precision" = "float32",
    progress: Progress = silent,
) -> ClassifierOutput:
    """Probabilities from every subset of modalities; each row is encoded once.

    With fusion by mean the classifier reads the mean over the subset (AstroM3,
    arXiv:2411.08842, averages its embeddings likewise), with concatenation zeros for the others.

    Args:
        model: With a classifier.
        dataset: The samples.
        modalities: Those that model and data share.
        split: Whose rows are judged.
        batch_size: Samples a forward pass.
        device: Where to compute.
        precision: Of the encoders.
        progress: Wraps the iteration with a progress bar.
    """
    from shared import inference
    from shared.prediction import batches

    assert model.classifier is not None
    assert model.config.classifier is not None
    shape = (len(dataset), model.classifier.out_features)
    found = {s: np.full(shape, np.nan, np.float32) for s in subsets(modalities)}
    rows = dataset.indices(split)
    with inference.ready(model, device, batch_size):
        for chunk, features, present in batches(
            model, dataset, rows, modalities, batch_size, precision, progress
        ):
            there = {m: p.cpu().numpy() for m, p in present.items()}
            for subset, values in found.items():
                have = np.all([there[m] for m in subset], axis=0)
                scores = inference.classifier_probabilities(model, features, present, subset)
                values[chunk[have]] = scores[have]
    names = model.config.classifier.classes
    return ClassifierOutput(None if names is None else tuple(names), found)


def with_classes(embeddings: EmbeddingSet, output: ClassifierOutput | None) -> EmbeddingSet:
    """The same set; its classes are followed by those that only the classifier knows."""
    if output is None or output.classes is None:
        return embeddings
    more = tuple(name for name in output.classes if name not in embeddings.classes)
    return replace(embeddings, classes=(*embeddings.classes, *more)) if more else embeddings


def judge(
    output: ClassifierOutput | None,
    embeddings: EmbeddingSet,
    modalities: tuple[str, ...],
    rows: NDArray[np.int64],
    *,
    seed: int,
    n_resamples: int,
) -> ProtocolOutput:
    """Scores of the predictions from one subset of modalities.

    Args:
        output: Of `classify_subsets`; None where there is no classifier.
        embeddings: Labels, groups and splits, of `with_classes`.
        modalities: The subset.
        rows: Labelled test rows that have all of it.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap.
    """
    reason, unknown = None, []
    if output is None:
        reason = "needs a model with a classifier, not embeddings alone"
    elif output.classes is None:
        reason = "the names of the classifier's classes are not known"
    elif (embeddings.labels < 0).all():
        reason = "no labels"
    else:
        named = [embeddings.classes[i] for i in np.unique(embeddings.labels[rows]).tolist()]
        unknown = [name for name in named if name not in output.classes]
        if named and len(unknown) == len(named):
            ours, theirs = ", ".join(output.classes), ", ".join(named)
            reason = f"the classifier knows {ours}; the data have {theirs}"
    train_rows = embeddings.rows("train", *modalities, labelled=True)
    train, test = (
        # the predictions are made: only labels and groups are read
        Rows(np.zeros((len(r), 0)), embeddings.labels[r], embeddings.groups[r])
        for r in (train_rows, rows)
    )
    reason = reason or reason_not_to_classify(train, test)
    if reason is not None or output is None or output.classes is None:
        return missing_output(NAME, VERSION, METRICS, len(rows), reason or "")
    index = np.array([embeddings.classes.index(name) for name in output.classes])
    predicted = index[output.probabilities[modalities][rows].argmax(axis=1)]
    return classification_output(
        NAME,
        VERSION,
        train=train,
        test=test,
        predicted=predicted.astype(np.int64),
        classes=embeddings.classes,
        settings={"modalities": list(modalities), "classes_unknown_to_the_model": unknown},
        seed=seed,
        n_resamples=n_resamples,
    )
