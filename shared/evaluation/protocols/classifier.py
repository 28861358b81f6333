"""The model's own classifier on the test split, on every subset of modalities of use."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import softmax

from shared.errors import EvaluationError
from shared.evaluation.baselines import MAJORITY, classification_baseline
from shared.evaluation.calibration import fit_temperature
from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import Floats
from shared.evaluation.outcomes import ClassOutcome, SeededOutcome
from shared.evaluation.protocol import ALL, Output, Protocol, Rows, Settings, Task, missing, rows_of

if TYPE_CHECKING:
    from shared.data.dataset import Dataset
    from shared.data.prepared import Progress
    from shared.devices import Precision
    from shared.model import Model

METRICS = ("accuracy", "balanced_accuracy", "macro_f1")
SPLITS = ("val", SPLIT)
"""Whose rows are classified: the temperature is fitted on the first."""

_TINY = float(np.finfo(np.float32).tiny)
"""Below it a float32 probability has lost its logarithm."""


@dataclass(frozen=True)
class ClassifierOutput:
    """What a classifier says of a dataset.

    Attributes:
        classes: Names of its classes in the order of the columns; None: unknown.
        probabilities: By subset of modalities, (n, num_classes) of all rows of the dataset; NaN
            outside the splits that were asked for and where a row lacks one of the modalities.
    """

    classes: tuple[str, ...] | None
    probabilities: Mapping[tuple[str, ...], NDArray[np.float32]]


def subsets(modalities: Sequence[str]) -> list[tuple[str, ...]]:
    """Each modality alone, each pair, and all together."""
    sizes = sorted({1, 2, len(modalities)} & set(range(1, len(modalities) + 1)))
    return [subset for size in sizes for subset in combinations(modalities, size)]


def classify_subsets(
    model: "Model",
    dataset: "Dataset",
    modalities: Sequence[str],
    *,
    splits: Sequence[str] = SPLITS,
    batch_size: int = 64,
    device: str = "auto",
    precision: "Precision" = "float32",
    progress: "Progress | None" = None,
) -> ClassifierOutput:
    """Probabilities from every subset of modalities; each row is encoded once.

    With fusion by mean the classifier reads the mean over the subset (AstroM3,
    arXiv:2411.08842, averages its embeddings likewise), with concatenation zeros for the others.

    Args:
        model: With a classifier.
        dataset: The samples.
        modalities: Those that model and data share.
        splits: Whose rows are classified.
        batch_size: Samples a forward pass.
        device: Where to compute.
        precision: Of the encoders.
        progress: Wraps the iteration with a progress bar; None: without.
    """
    from shared import inference
    from shared.data.prepared import silent
    from shared.prediction import batches

    assert model.classifier is not None
    assert model.config.classifier is not None
    shape = (len(dataset), model.classifier.out_features)
    found = {s: np.full(shape, np.nan, np.float32) for s in subsets(modalities)}
    rows = np.flatnonzero(np.isin(dataset.splits, splits))
    with inference.ready(model, device, batch_size):
        for chunk, features, present in batches(
            model, dataset, rows, modalities, batch_size, precision, progress or silent
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


def _tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
    whole = embeddings.modalities
    if embeddings.classified is None:
        return [Task(whole, LABEL, inputs=ALL if len(whole) > 1 else whole[0])]
    return [
        Task(s, LABEL, inputs=ALL if s == whole and len(s) > 1 else "+".join(s))
        for s in subsets(whole)
    ]


def _run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
    train, val, test = (
        rows_of(task, embeddings, split, concatenate=True) for split in ("train", "val", SPLIT)
    )
    output, classes = embeddings.classified, embeddings.classes
    reason = _reason(task, embeddings, test)
    if reason is not None or output is None or output.classes is None:
        return missing(task, embeddings, METRICS, reason or "")
    table = output.probabilities[task.modalities].astype(np.float64)
    index = np.array([classes.index(name) for name in output.classes])

    def of_all_classes(probabilities: Floats) -> Floats:
        spread = np.zeros((len(probabilities), len(classes)))
        spread[:, index] = probabilities
        return spread

    probabilities = of_all_classes(table[test.index])
    temperature = _temperature(table[val.index], val.targets, index)
    calibrated = None
    if temperature is not None:
        logits = np.log(np.maximum(table[test.index], _TINY))
        calibrated = of_all_classes(softmax(logits / temperature, axis=1))
    trivial = None
    if len(train):
        trivial, _ = classification_baseline(train.targets, test.targets, classes)
    # a uniform guess is one among the classes that it knows
    _, chance = classification_baseline(index, test.targets, classes)
    return Output(
        test.index,
        ClassOutcome(
            test.targets, probabilities.argmax(axis=1), classes, probabilities, calibrated
        ),
        trivial=trivial,
        trivial_name=MAJORITY if len(train) else "",
        chance=chance,
        settings={
            "modalities": list(task.modalities),
            "classes_unknown_to_the_model": _unknown(embeddings, test, output.classes),
            "temperature": temperature,
        },
    )


def _temperature(
    table: Floats, targets: NDArray[np.int64], index: NDArray[np.int64]
) -> float | None:
    """Of the validation rows that were classified and whose class it knows; None without any.

    Args:
        table: (n, K) probabilities; logits are their logarithms, up to a constant a row.
        targets: (n,) classes of the data.
        index: (K,) class of the data that each column is.
    """
    hits = targets[:, None] == index
    usable = np.isfinite(table).all(axis=1) & hits.any(axis=1)
    if not usable.any():
        return None
    logits = np.log(np.maximum(table[usable], _TINY))
    return float(fit_temperature(logits, hits[usable].argmax(axis=1)))


def _reason(task: Task, embeddings: EmbeddingSet, test: Rows) -> str | None:
    """Why the classifier cannot be judged on the rows, or None."""
    output = embeddings.classified
    if output is None:
        return "needs a model with a classifier, not embeddings alone"
    if output.classes is None:
        return "the names of the classifier's classes are not known"
    if len(test) == 0:
        return "no labelled rows in the test split"
    if task.modalities not in output.probabilities:
        return f"the classifier was not run on {'+'.join(task.modalities)}"
    if not np.isfinite(output.probabilities[task.modalities][test.index]).all():
        return "the classifier was not run on all test rows"
    named = [embeddings.classes[i] for i in np.unique(test.targets).tolist()]
    if len(_unknown(embeddings, test, output.classes)) == len(named):
        ours, theirs = ", ".join(output.classes), ", ".join(named)
        return f"the classifier knows {ours}; the data have {theirs}"
    return None


def _unknown(embeddings: EmbeddingSet, test: Rows, known: Sequence[str]) -> list[str]:
    """Classes of the test rows that are none of the known."""
    named = [embeddings.classes[i] for i in np.unique(test.targets).tolist()]
    return [name for name in named if name not in known]


PROTOCOL = Protocol(
    name="classifier",
    version=2,
    title="the model's own classifier, on every subset of modalities",
    tasks=_tasks,
    run=_run,
    baselines=False,
    applies=lambda embeddings: embeddings.classified is not None,
)


def over_seeds(outputs: Mapping[int, ClassifierOutput]) -> Protocol:
    """The protocol of a model that was fine-tuned several times: scores are means over the seeds.

    Args:
        outputs: By seed of the training, what that model's classifier says of the same samples.

    Raises:
        EvaluationError: Nothing, or classifiers of different classes.
    """
    if len({output.classes for output in outputs.values()}) != 1:
        raise EvaluationError(
            f"fine-tuning: {len(outputs)} classifiers; at least one is needed, all of the same "
            "classes in the same order."
        )
    first = next(iter(outputs.values()))

    def tasks(embeddings: EmbeddingSet, settings: Settings) -> list[Task]:
        return _tasks(replace(embeddings, classified=first), settings)

    def run(task: Task, embeddings: EmbeddingSet, settings: Settings) -> Output:
        of_seeds = [
            _run(task, replace(embeddings, classified=output), settings)
            for output in outputs.values()
        ]
        if failed := next((o for o in of_seeds if o.missing is not None), None):
            return failed
        seeds = tuple(outputs)
        outcomes = tuple(o.outcome for o in of_seeds if o.outcome is not None)
        used: dict[str, Any] = dict(of_seeds[0].settings)
        used["temperature"] = [o.settings["temperature"] for o in of_seeds]
        return replace(
            of_seeds[0], outcome=SeededOutcome(outcomes, seeds), settings=used, seeds=seeds
        )

    return replace(
        PROTOCOL,
        name="fine_tuning",
        title="the classifier of the model fine-tuned with several seeds",
        tasks=tasks,
        run=run,
        # results are kept by settings: other classifiers, other settings
        settings={"seeds": list(outputs), "classifiers": _fingerprint(outputs)},
        applies=lambda embeddings: True,
    )


def _fingerprint(outputs: Mapping[int, ClassifierOutput]) -> str:
    """Hash of what the classifiers say, 16 hex digits."""
    digest = hashlib.sha256()
    for output in outputs.values():
        for subset, table in output.probabilities.items():
            digest.update("+".join(subset).encode())
            digest.update(table.tobytes())
    return digest.hexdigest()[:16]
