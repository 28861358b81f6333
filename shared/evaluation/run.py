"""Run protocols on a set of embeddings and collect the results."""

import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version

import numpy as np
from numpy.typing import NDArray

from shared.errors import EvaluationError, UnknownNameError, suggest
from shared.evaluation import (
    classifier,
    linear_probe,
    nearest_centroid,
    nearest_neighbour,
    retrieval,
)
from shared.evaluation.classification import METRICS as CLASSIFICATION_METRICS
from shared.evaluation.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.evaluator import Drawing
from shared.evaluation.leakage import describe_leakage
from shared.evaluation.outliers import Outliers, find_outliers
from shared.evaluation.output import ProtocolOutput, Rows, missing_output
from shared.evaluation.results import Result

PROTOCOLS = (linear_probe.NAME, nearest_centroid.NAME, nearest_neighbour.NAME, retrieval.NAME)
ALL = "all"
KNOWN = (classifier.NAME, *PROTOCOLS)
"""The classifier's needs the model, the others embeddings alone."""

_NEAREST = {
    nearest_centroid.NAME: nearest_centroid.nearest_centroid,
    nearest_neighbour.NAME: nearest_neighbour.nearest_neighbour,
}
_VERSIONS = {m.NAME: m.VERSION for m in (linear_probe, nearest_centroid, nearest_neighbour)}

Progress = Callable[[str, int, int], None]
"""(what runs now, how many are done, how many there are)."""


@dataclass(frozen=True)
class Task:
    """One protocol on some modalities; for retrieval, query then candidate modality. `partial`:
    there are more modalities."""

    protocol: str
    modalities: tuple[str, ...]
    partial: bool = False

    @property
    def inputs(self) -> str:
        if self.protocol == retrieval.NAME:
            return "->".join(self.modalities)
        if self.partial or len(self.modalities) == 1:
            return "+".join(self.modalities)
        return ALL


@dataclass(frozen=True)
class Run:
    """A task with its outcome.

    Attributes:
        task: What was run.
        output: Scores, predictions or ranks.
        ids: (n,) the test rows behind `output`, in its order.
        simple: The same on simple features; None where there are none.
        seconds: Without the simple features.
    """

    task: Task
    output: ProtocolOutput
    ids: NDArray[np.str_]
    simple: ProtocolOutput | None
    seconds: float


@dataclass(frozen=True)
class Evaluation:
    """Outcome of `evaluate_arrays`.

    Attributes:
        embeddings: What was judged.
        runs: One a protocol and input, with predictions or ranks by id.
        seed: Of the bootstrap.
        drawing: What the pictures need beside the embeddings.
    """

    embeddings: EmbeddingSet
    runs: tuple[Run, ...]
    seed: int
    drawing: Drawing = field(default_factory=Drawing)

    @cached_property
    def results(self) -> list[Result]:
        """One a protocol, input and metric."""
        versions = _versions()
        return [result for run in self.runs for result in self._results_of(run, versions)]

    @cached_property
    def outliers(self) -> Outliers | None:
        """Test rows far from the centre of their class; None without labels."""
        return find_outliers(self.embeddings)

    @cached_property
    def warnings(self) -> list[str]:
        """What makes the scores better than they are, in a sentence each."""
        return describe_leakage(self.embeddings)

    def _results_of(self, run: Run, versions: Mapping[str, str]) -> list[Result]:
        output, embeddings = run.output, self.embeddings
        simple = {} if run.simple is None else {s.metric: s.value for s in run.simple.scores}
        return [
            Result(
                protocol=output.protocol,
                protocol_version=output.version,
                metric=score.metric,
                inputs=run.task.inputs,
                value=score.value,
                missing=output.missing,
                n=output.n,
                n_per_class=output.n_per_class,
                ci_low=score.low,
                ci_high=score.high,
                ci_level=output.ci_level,
                ci_method=output.ci_method,
                chance=score.chance,
                trivial=score.trivial,
                trivial_name=output.trivial_name,
                simple_features=simple.get(score.metric),
                seeds=(self.seed,),
                split=SPLIT,
                dataset=embeddings.dataset,
                synthetic=embeddings.synthetic,
                data_fingerprint=embeddings.fingerprint,
                model=embeddings.model,
                versions=versions,
                seconds=run.seconds,
                settings=output.settings,
            )
            for score in output.scores
        ]


def evaluate_arrays(
    embeddings: EmbeddingSet,
    *,
    protocols: Sequence[str] = PROTOCOLS,
    simple_features: EmbeddingSet | None = None,
    classified: classifier.ClassifierOutput | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge embeddings on the test split, with intervals and baselines.

    Linear probe, nearest centroid and nearest neighbour: each modality alone and, with several,
    `all` together on the rows that have all of them (probe: concatenated; the others: mean of the
    normalised embeddings).
    Retrieval: each ordered pair of modalities, on the rows that have both, row to row. Classifier:
    each modality, each pair and all, on the rows that have them; a class of the data that it does
    not know counts as missed. What the data do not allow becomes a result with a reason, not an
    exception.

    Args:
        embeddings: Vectors, labels, splits and groups.
        protocols: Names out of `KNOWN`.
        simple_features: The same ids in the same order with features that need no training,
            standardised here by their train rows; the same protocol on them stands beside every
            score. Retrieval needs them equally wide in both modalities.
        classified: What the model's own classifier says of the same samples in the same order.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap.
        progress: Called before each task and at the end.

    Raises:
        UnknownNameError: A protocol that is not there.
        EvaluationError: The simple features are of other samples.
    """
    for name in protocols:
        if name not in KNOWN:
            raise UnknownNameError(f"There is no protocol {name!r}. {suggest(name, KNOWN)}")
    embeddings = classifier.with_classes(embeddings, classified)
    simple = None if simple_features is None else _align(simple_features, embeddings)
    tasks = [task for name in protocols for task in _tasks(name, embeddings.modalities)]
    report = progress or (lambda *_: None)
    runs = []
    for done, task in enumerate(tasks):
        report(f"{task.protocol} on {task.inputs}", done, len(tasks))
        start = time.perf_counter()
        if task.protocol == classifier.NAME:
            rows = _test_rows(task, embeddings)
            output = classifier.judge(
                classified, embeddings, task.modalities, rows, seed=seed, n_resamples=n_resamples
            )
        else:
            output = _run(task, embeddings, seed, n_resamples)
        seconds = time.perf_counter() - start
        ids = embeddings.ids[_test_rows(task, embeddings)]
        runs.append(Run(task, output, ids, _run_simple(task, simple, embeddings), seconds))
    report("done", len(tasks), len(tasks))
    return Evaluation(embeddings, tuple(runs), seed)


def _tasks(protocol: str, modalities: tuple[str, ...]) -> list[Task]:
    if protocol == retrieval.NAME:
        pairs = [Task(protocol, (a, b)) for a in modalities for b in modalities if a != b]
        return pairs or [Task(protocol, modalities)]
    if protocol == classifier.NAME:
        found = classifier.subsets(modalities)
        return [Task(protocol, s, partial=len(s) < len(modalities)) for s in found]
    tasks = [Task(protocol, (modality,)) for modality in modalities]
    return tasks if len(modalities) == 1 else [*tasks, Task(protocol, modalities)]


def _test_rows(task: Task, embeddings: EmbeddingSet) -> NDArray[np.int64]:
    labelled = task.protocol != retrieval.NAME
    return embeddings.rows(SPLIT, *task.modalities, labelled=labelled)


def _run(task: Task, embeddings: EmbeddingSet, seed: int, n_resamples: int) -> ProtocolOutput:
    if task.protocol == retrieval.NAME:
        return _retrieve(task, embeddings, seed, n_resamples)
    probe = task.protocol == linear_probe.NAME
    module_version = _VERSIONS[task.protocol]
    n, reason = len(_test_rows(task, embeddings)), None
    widths = {m: embeddings.vectors[m].shape[1] for m in task.modalities}
    if (embeddings.labels < 0).all():
        reason = "no labels"
    elif not probe and len(set(widths.values())) > 1:
        reason = f"embeddings differ in width ({', '.join(f'{m} {w}' for m, w in widths.items())})"
    if reason is not None:
        return missing_output(task.protocol, module_version, CLASSIFICATION_METRICS, n, reason)
    train, val, test = (
        _rows(split, task.modalities, embeddings, concatenate=probe)
        for split in ("train", "val", SPLIT)
    )
    if probe:
        return linear_probe.linear_probe(
            train, val, test, classes=embeddings.classes, seed=seed, n_resamples=n_resamples
        )
    judge = _NEAREST[task.protocol]
    return judge(train, test, classes=embeddings.classes, seed=seed, n_resamples=n_resamples)


def _rows(
    split: str, modalities: tuple[str, ...], embeddings: EmbeddingSet, *, concatenate: bool
) -> Rows:
    """Labelled rows with all the modalities, concatenated or as mean of unit vectors."""
    rows = embeddings.rows(split, *modalities, labelled=True)
    parts = [embeddings.vectors[modality][rows] for modality in modalities]
    if concatenate:
        vectors = np.concatenate(parts, axis=1).astype(np.float64)
    else:
        vectors = nearest_centroid.unit_mean(parts)
    return Rows(vectors, embeddings.labels[rows], embeddings.groups[rows])


def _retrieve(task: Task, embeddings: EmbeddingSet, seed: int, n_resamples: int) -> ProtocolOutput:
    rows = _test_rows(task, embeddings)
    if len(task.modalities) == 1:
        return missing_output(
            retrieval.NAME, retrieval.VERSION, retrieval.METRICS, len(rows), "needs two modalities"
        )
    query, candidate = task.modalities
    return retrieval.retrieval(
        embeddings.vectors[query][rows],
        embeddings.vectors[candidate][rows],
        groups=embeddings.groups[rows],
        seed=seed,
        n_resamples=n_resamples,
    )


def _align(simple: EmbeddingSet, embeddings: EmbeddingSet) -> EmbeddingSet | None:
    """The simple features, standardised by their train rows, with the splits of the embeddings."""
    if not np.array_equal(simple.ids, embeddings.ids):
        raise EvaluationError(
            f"The simple features of {simple.dataset} and the embeddings of {embeddings.dataset} "
            "are not of the same samples in the same order."
        )
    vectors = {}
    for modality, values in simple.vectors.items():
        train = (embeddings.splits == "train") & simple.present[modality]
        if train.any():
            mean, scale = linear_probe.standardisation(values[train])
            vectors[modality] = ((values - mean) / scale).astype(np.float32)
    present = {modality: simple.present[modality] for modality in vectors}
    return replace(embeddings, vectors=vectors, present=present) if vectors else None


def _run_simple(
    task: Task, simple: EmbeddingSet | None, embeddings: EmbeddingSet
) -> ProtocolOutput | None:
    """The task on simple features, where every row judged has them."""
    if task.protocol == classifier.NAME:
        return None
    if simple is None or not set(task.modalities) <= set(simple.vectors):
        return None
    present = {m: simple.present[m] & embeddings.present[m] for m in task.modalities}
    if any((embeddings.present[m] & ~present[m]).any() for m in task.modalities):
        return None
    vectors = {m: simple.vectors[m] for m in task.modalities}
    return _run(task, replace(simple, vectors=vectors, present=present), seed=0, n_resamples=0)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("domain-zoo", "numpy", "scikit-learn"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:  # a checkout that is not installed
            continue
    return versions
