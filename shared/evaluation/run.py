"""Run protocols on a set of embeddings and collect the results."""

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from shared.errors import ConfigError, EvaluationError, suggest
from shared.evaluation.embeddings.copies import with_copies
from shared.evaluation.embeddings.embedding_set import LABEL, SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import standardisation
from shared.evaluation.evaluator import Drawing
from shared.evaluation.hygiene.checks import Hygiene, check_hygiene
from shared.evaluation.hygiene.label_errors import LabelErrors, find_label_errors
from shared.evaluation.hygiene.outliers import Outliers, find_outliers
from shared.evaluation.metrics import METRICS
from shared.evaluation.protocol import Output, Protocol, Settings, Task
from shared.evaluation.protocols.classifier import with_classes
from shared.evaluation.results.result import Result, now, package_versions
from shared.evaluation.scoring import Score, Scores, score, score_subgroups

if TYPE_CHECKING:
    from shared.evaluation.results.store import EvaluationStore

Progress = Callable[[str, int, int], None]
"""(what runs now, how many are done, how many there are)."""


@dataclass(frozen=True)
class Run:
    """A task with what came of it.

    Attributes:
        protocol: What was run.
        task: On what.
        settings: Of the protocol, the user's over its own.
        output: Outcome and baselines.
        simple: The same on simple features; None where there are none.
        scores: On all test rows.
        subgroups: On those of each subgroup.
        seconds: Without the simple features.
        created: When, UTC, ISO 8601.
        key: Hash of all that determines the numbers.
    """

    protocol: Protocol
    task: Task
    settings: Settings
    output: Output
    simple: Output | None
    scores: Scores
    subgroups: tuple[Scores, ...]
    seconds: float
    created: str
    key: str

    def ids(self, embeddings: EmbeddingSet) -> NDArray[np.str_]:
        """(n,) of the rows behind the outcome, in its order."""
        return embeddings.ids[self.output.rows]


@dataclass(frozen=True)
class Evaluation:
    """Outcome of `evaluate_arrays`.

    Attributes:
        embeddings: What was judged.
        runs: One a task.
        seed: Of the bootstrap.
        drawing: What the pictures need beside the embeddings.
    """

    embeddings: EmbeddingSet
    runs: tuple[Run, ...]
    seed: int
    drawing: Drawing = field(default_factory=Drawing)

    @cached_property
    def results(self) -> list[Result]:
        """One a task, metric and subgroup."""
        return [
            result for run in self.runs for result in results_of(run, self.embeddings, self.seed)
        ]

    @cached_property
    def outliers(self) -> Outliers | None:
        """Test rows far from the centre of their class, or from any training row."""
        return find_outliers(self.embeddings)

    @cached_property
    def hygiene(self) -> Hygiene:
        """What is wrong with the data, and which samples may be copies."""
        folded = any("folds" in run.settings for run in self.runs)
        return check_hygiene(self.embeddings, np.arange(len(self.embeddings)) if folded else None)

    @property
    def warnings(self) -> list[str]:
        """What makes the scores other than they seem, in a sentence each."""
        return self.hygiene.warnings

    @cached_property
    def label_errors(self) -> LabelErrors | str:
        """Labels that may be wrong, or why none were looked for."""
        return find_label_errors(self.embeddings)


def evaluate_arrays(
    embeddings: EmbeddingSet,
    protocols: Sequence[Protocol],
    *,
    settings: Mapping[str, Settings] | None = None,
    simple_features: EmbeddingSet | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
    store: "EvaluationStore | None" = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Judge embeddings on the test split, with intervals and baselines.

    What the data do not allow becomes a result with a reason, not an exception.

    Args:
        embeddings: Vectors, targets, splits and groups.
        protocols: What to run, in this order.
        settings: By name of a protocol, what differs from its own settings.
        simple_features: The same ids in the same order with features that need no training,
            standardised here by their train rows; the same protocol on them stands beside every
            score. Retrieval needs them equally wide in both modalities.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap.
        store: Where finished tasks are kept, and read from; None: nowhere.
        progress: Called before each task and at the end.

    Raises:
        ConfigError: A setting that a protocol does not have.
        EvaluationError: The simple features are of other samples.
    """
    chosen = {p.name: merge_settings(p, (settings or {}).get(p.name, {})) for p in protocols}
    embeddings = with_copies(with_classes(embeddings, embeddings.classified))
    simple = None if simple_features is None else _align(simple_features, embeddings)
    tasks = [(p, task) for p in protocols for task in p.tasks(embeddings, chosen[p.name])]
    report = progress or (lambda *_: None)
    runs = []
    for done, (protocol, task) in enumerate(tasks):
        report(f"{protocol.name} on {task.inputs} {task.variant}".strip(), done, len(tasks))
        key = key_of(protocol, task, chosen[protocol.name], embeddings, simple, seed, n_resamples)
        run = None if store is None else store.load(key, protocol, task, embeddings)
        if run is None:
            run = _run(
                protocol, task, chosen[protocol.name], embeddings, simple, key, seed, n_resamples
            )
            if store is not None:
                store.save(run, embeddings, results_of(run, embeddings, seed))
        runs.append(run)
    report("done", len(tasks), len(tasks))
    return Evaluation(embeddings, tuple(runs), seed)


def merge_settings(protocol: Protocol, given: Settings) -> Settings:
    """The settings of a protocol with those that the user gives.

    Raises:
        ConfigError: One that it does not have.
    """
    for name in given:
        if name not in protocol.settings:
            raise ConfigError(
                f"settings.{protocol.name}.{name}: {protocol.name} has no such setting. "
                f"{suggest(name, protocol.settings)}"
            )
    return {**protocol.settings, **given}


def key_of(
    protocol: Protocol,
    task: Task,
    settings: Settings,
    embeddings: EmbeddingSet,
    simple: EmbeddingSet | None,
    seed: int,
    n_resamples: int,
) -> str:
    """16 hex digits that are equal only for equal numbers: of protocol, settings, task, vectors and
    what is predicted, splits, simple features, and the bootstrap."""
    digest = hashlib.sha256()
    named = {
        "protocol": [protocol.name, protocol.version],
        "settings": dict(settings),
        "task": [list(task.modalities), task.target, task.variant],
        "data": [embeddings.fingerprint, embeddings.split_fingerprint, embeddings.classes],
        "bootstrap": [seed, n_resamples],
    }
    digest.update(json.dumps(named, sort_keys=True, default=str).encode())
    for each in (embeddings, simple):
        # simple features may lack a modality; the task is then not run on them
        there = each is not None and set(task.modalities) <= set(each.vectors)
        hashed = each.array_hash(task.modalities, task.target) if each and there else b"none"
        digest.update(hashed)
    return digest.hexdigest()[:16]


def _run(
    protocol: Protocol,
    task: Task,
    settings: Settings,
    embeddings: EmbeddingSet,
    simple: EmbeddingSet | None,
    key: str,
    seed: int,
    n_resamples: int,
) -> Run:
    start = time.perf_counter()
    output = protocol.run(task, embeddings, settings)
    seconds = time.perf_counter() - start
    on_simple = _run_simple(protocol, task, settings, simple, embeddings)
    judged = (output, task.target, embeddings, on_simple, seed, n_resamples)
    return Run(
        protocol=protocol,
        task=task,
        settings=settings,
        output=output,
        simple=on_simple,
        scores=score(*judged),
        subgroups=tuple(score_subgroups(*judged)),
        seconds=seconds,
        created=now(),
        key=key,
    )


def _align(simple: EmbeddingSet, embeddings: EmbeddingSet) -> EmbeddingSet | None:
    """The simple features, standardised by their train rows, with the splits of the embeddings."""
    if not np.array_equal(simple.ids, embeddings.ids):
        raise EvaluationError(
            f"The simple features of {simple.dataset} and the embeddings of {embeddings.dataset} "
            "are not of the same samples in the same order."
        )
    both = simple.known(LABEL) & embeddings.known(LABEL)
    if simple.classes == embeddings.classes and (simple.labels != embeddings.labels)[both].any():
        raise EvaluationError(
            f"The simple features of {simple.dataset} and the embeddings of {embeddings.dataset} "
            "have other labels for the same ids: are their rows in the same order? Give both files "
            "a column id."
        )
    vectors = {}
    for modality, values in simple.vectors.items():
        train = (embeddings.splits == "train") & simple.present[modality]
        if train.any():
            mean, scale = standardisation(values[train])
            vectors[modality] = ((values - mean) / scale).astype(np.float32)
    present = {modality: simple.present[modality] for modality in vectors}
    if not vectors:
        return None
    return replace(embeddings, vectors=vectors, present=present, prompts=None, classified=None)


def _run_simple(
    protocol: Protocol,
    task: Task,
    settings: Settings,
    simple: EmbeddingSet | None,
    embeddings: EmbeddingSet,
) -> Output | None:
    """The task on simple features, where every row judged has them."""
    if not protocol.baselines or simple is None or not set(task.modalities) <= set(simple.vectors):
        return None
    present = {m: simple.present[m] & embeddings.present[m] for m in task.modalities}
    if any((embeddings.present[m] & ~present[m]).any() for m in task.modalities):
        return None
    vectors = {m: simple.vectors[m] for m in task.modalities}
    return protocol.run(task, replace(simple, vectors=vectors, present=present), settings)


def results_of(run: Run, embeddings: EmbeddingSet, seed: int) -> list[Result]:
    """One a metric, of all test rows and then of each subgroup."""
    versions = package_versions()
    return [
        _result(run, scores, each, embeddings, seed, versions)
        for scores in (run.scores, *run.subgroups)
        for each in scores.scores
    ]


def _result(
    run: Run,
    scores: Scores,
    each: Score,
    embeddings: EmbeddingSet,
    seed: int,
    versions: Mapping[str, str],
) -> Result:
    protocol, task, output = run.protocol, run.task, run.output
    return Result(
        key=run.key,
        protocol=protocol.name,
        protocol_version=protocol.version,
        inputs=task.inputs,
        target=task.target,
        variant=task.variant,
        subgroup=scores.subgroup,
        metric=each.metric,
        better=METRICS[each.metric].better,
        value=each.value,
        missing=each.missing,
        n=scores.n,
        n_groups=scores.n_groups,
        n_per_class=scores.n_per_class,
        ci_low=each.low,
        ci_high=each.high,
        ci_level=scores.ci_level,
        ci_method=scores.ci_method,
        ci_missing=each.ci_missing,
        chance=each.chance,
        trivial=each.trivial,
        trivial_name=output.trivial_name,
        simple_features=each.simple,
        seeds=output.seeds or (seed,),
        seed_values={str(seed): value for seed, value in each.seed_values.items()},
        split=f"{run.settings['folds']} folds" if "folds" in run.settings else SPLIT,
        dataset=embeddings.dataset,
        synthetic=embeddings.synthetic,
        data_fingerprint=embeddings.fingerprint,
        split_fingerprint=embeddings.split_fingerprint,
        model=embeddings.model,
        model_revision=embeddings.revision,
        versions=versions,
        seconds=run.seconds,
        created=run.created,
        settings={**run.settings, **output.settings},
    )
