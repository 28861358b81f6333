"""Models against a baseline on the same test rows: paired differences, and what they allow to say.

A model is a run folder, or a folder that holds several: its runs with different seeds.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from shared.errors import EvaluationError, suggest
from shared.evaluation.metrics import METRICS
from shared.evaluation.results.pairing import (
    Judged,
    TaskName,
    named_apart,
    read_judged,
    reason_not_to_pair,
    runs_in,
    shared_rows,
    take,
)
from shared.evaluation.results.store import Predictions
from shared.evaluation.results.table import headlines
from shared.evaluation.statistics import holm, paired_difference
from shared.files import atomic_path

COMPARISON_SCHEMA_VERSION = 1
LINES = "compare.jsonl"
_VERSION = "schema_version"
MIN_GROUPS = 2
BETTER, WORSE, UNDECIDED = "better", "worse", "undecided"


@dataclass(frozen=True, kw_only=True)
class Difference:
    """One metric of one task: a model minus the baseline, on the rows that both were judged on.

    Attributes:
        baseline: What is compared with.
        model: What is compared.
        protocol: Name of the protocol.
        protocol_version: The same of both.
        metric: Name of the metric.
        better: `higher` or `lower`; empty where neither is.
        inputs: As in `Result`.
        target: As in `Result`.
        variant: As in `Result`.
        baseline_value: On the shared rows.
        value: Of the model on the shared rows.
        difference: `value - baseline_value`; None where `missing` says why.
        missing: Why there is no difference.
        ci_low: Lower end of the interval of the difference.
        ci_high: Upper end.
        ci_level: Its nominal coverage.
        ci_missing: Why there is no interval.
        method: How interval and p were made.
        p_value: Two-sided, of no difference; of this test alone.
        p_adjusted: After Holm's correction over the metrics that were chosen, else the headline
            metrics, of all tasks and models; None outside of these.
        verdict: `better`, `worse` or `undecided` by the corrected p; empty outside of these
            metrics. Undecided does not mean equal.
        n: Shared rows.
        n_groups: Independent units among them.
        n_runs: Runs of the baseline and of the model.
    """

    baseline: str
    model: str
    protocol: str
    protocol_version: int
    metric: str
    inputs: str
    target: str = ""
    variant: str = ""
    better: str = ""
    baseline_value: float | None = None
    value: float | None = None
    difference: float | None = None
    missing: str | None = None
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float = 0.95
    ci_missing: str | None = None
    method: str = ""
    p_value: float | None = None
    p_adjusted: float | None = None
    verdict: str = ""
    n: int = 0
    n_groups: int = 0
    n_runs: tuple[int, int] = (1, 1)

    @property
    def task(self) -> tuple[str, ...]:
        """What was asked of which model."""
        return self.model, self.protocol, self.inputs, self.target, self.variant


@dataclass(frozen=True)
class Comparison:
    """Outcome of `compare`.

    Attributes:
        baseline: Its name.
        models: Names of the others.
        dataset: Name of the data of the baseline.
        synthetic: Whether the data are simulated.
        differences: By model, task and metric.
        notes: What was left out or is not quite the same in both, in a sentence each.
        metrics: Those chosen for the verdicts; empty: the headline metrics.
    """

    baseline: str
    models: tuple[str, ...]
    dataset: str
    synthetic: bool
    differences: tuple[Difference, ...]
    notes: tuple[str, ...]
    metrics: tuple[str, ...] = ()


def compare(
    folders: Sequence[str | Path],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
    protocols: Sequence[str] = (),
    metrics: Sequence[str] = (),
) -> Comparison:
    """Compare models, the first one being the baseline.

    Tasks are paired by protocol, version, settings, inputs, target and variant, rows by id. What
    cannot be compared is missing, with the reason.

    Args:
        folders: Run folders of evaluations or trainings, or folders that hold several, which are
            runs of one model with different seeds. One folder alone: its runs are the models.
        n_resamples: Of the bootstrap.
        seed: Of the bootstrap.
        level: Coverage of the intervals; the verdicts hold p against `1 - level`.
        protocols: What is compared; empty: all that both were judged by.
        metrics: What verdicts are on, so that p is corrected for these alone; empty: the headline
            metrics of every task.

    Raises:
        EvaluationError: Fewer than two models, a folder without whole results, models that share
            no task, or a protocol or metric that no task of the baseline has.
    """
    paths = [Path(folder) for folder in folders]
    if len(paths) == 1:
        paths = runs_in(paths[0])
    if len(paths) < 2:
        raise EvaluationError(
            "a comparison takes two run folders at least, or one that holds several."
        )
    baseline, *models = named_apart([read_judged(path) for path in paths])
    tasks = _chosen(baseline, protocols, metrics)
    resampling = _Resampling(n_resamples, seed, level)
    differences = [
        difference
        for model in models
        for task in tasks
        if task in model.tasks
        for difference in _of_task(baseline, model, task, resampling)
    ]
    if not differences:
        raise EvaluationError(
            f"{baseline.name} and {', '.join(m.name for m in models)} share no task: evaluate them "
            "by the same protocols."
        )
    return Comparison(
        baseline.name,
        tuple(model.name for model in models),
        baseline.result().dataset,
        any(each.result().synthetic for each in (baseline, *models)),
        tuple(_decided(differences, metrics, 1 - level)),
        tuple(note for model in models for note in _notes(baseline, model, protocols)),
        tuple(metrics),
    )


def _chosen(
    baseline: Judged, protocols: Sequence[str], metrics: Sequence[str]
) -> Sequence[TaskName]:
    """The tasks of these protocols, that have any of these metrics."""
    there = dict.fromkeys(name for name, *_ in baseline.tasks)
    for name in protocols:
        if name not in there:
            raise EvaluationError(
                f"{baseline.name} was not judged by a protocol {name!r}. {suggest(name, there)}"
            )
    tasks = [task for task in baseline.tasks if not protocols or task[0] in protocols]
    known = dict.fromkeys(metric for task in tasks for metric in baseline.runs[0][task])
    for name in metrics:
        if name not in known:
            raise EvaluationError(
                f"{baseline.name} was not judged by a metric {name!r}. {suggest(name, known)}"
            )
    return [t for t in tasks if not metrics or set(metrics) & set(baseline.runs[0][t])]


def save_comparison(path: Path, comparison: Comparison) -> None:
    """Write one JSON object a difference and line, with the version of the schema; atomically.

    Raises:
        WriteError: The file cannot be written.
    """
    rows = [{_VERSION: COMPARISON_SCHEMA_VERSION, **asdict(d)} for d in comparison.differences]
    lines = [json.dumps(row, allow_nan=False, ensure_ascii=False, sort_keys=True) for row in rows]
    with atomic_path(path) as temporary:
        temporary.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


@dataclass(frozen=True)
class _Resampling:
    """As the arguments of `compare`."""

    n_resamples: int
    seed: int
    level: float


def _notes(a: Judged, b: Judged, protocols: Sequence[str]) -> Iterator[str]:
    """What a reader has to know of two models before their differences."""
    for one, other in ((a, b), (b, a)):
        alone = [task for task in one.tasks if task not in other.tasks]
        if alone := [task for task in alone if not protocols or task[0] in protocols]:
            yield f"only {one.name} was judged by: {_alone(alone, other)}."
    first, second = a.result(), b.result()
    for what, is_other in (
        ("data fingerprints", first.data_fingerprint != second.data_fingerprint),
        ("splits", first.split_fingerprint != second.split_fingerprint),
    ):
        if is_other:
            yield f"{a.name} and {b.name} have different {what}: rows are paired by id alone."


def _alone(tasks: Sequence[TaskName], other: Judged) -> str:
    """Protocols that another was not judged by at all, and of the rest the tasks."""
    known = {protocol for protocol, *_ in other.tasks}
    names = (t[:1] if t[0] not in known else tuple(filter(None, t)) for t in tasks)
    return ", ".join(dict.fromkeys(map(" ".join, names)))


def _of_task(a: Judged, b: Judged, task: TaskName, resampling: _Resampling) -> Iterator[Difference]:
    """All metrics of a task, or why there are none."""
    first = a.result(task)
    blank = Difference(
        baseline=a.name,
        model=b.name,
        protocol=first.protocol,
        protocol_version=first.protocol_version,
        metric="",
        inputs=first.inputs,
        target=first.target,
        variant=first.variant,
        ci_level=resampling.level,
        n_runs=(len(a.runs), len(b.runs)),
    )
    try:
        sides = _sides(a, b, task)
    except EvaluationError as error:
        why = str(error).rstrip(".")
        yield from (replace(blank, metric=metric, missing=why) for metric in a.runs[0][task])
        return
    rows = shared_rows(*sides)
    groups = sides[0].groups[rows[0]]
    n_groups = len(np.unique(groups))
    one, other = (take(side, index) for side, index in zip(sides, rows, strict=True))
    paired = paired_difference(
        one,
        other,
        groups,
        n_resamples=resampling.n_resamples,
        seed=resampling.seed,
        level=resampling.level,
    )
    values = [dict(zip(o.metrics, o.values().tolist(), strict=True)) for o in (one, other)]
    for i, metric in enumerate(paired.metrics):
        reason = paired.missing.get(metric)
        counted = replace(blank, metric=metric, n=len(rows[0]), n_groups=n_groups)
        if not np.isfinite(paired.difference[i]):
            yield replace(counted, missing=reason or "no value on the shared rows")
            continue
        difference, p_value = float(paired.difference[i]), _number(paired.p_value[i])
        # no draw tells apart what is the same on every row
        same = p_value is None and difference == 0 and one.resampled and n_groups > 1
        yield replace(
            counted,
            better=METRICS[metric].better,
            baseline_value=values[0][metric],
            value=values[1][metric],
            difference=difference,
            ci_low=_number(paired.low[i]),
            ci_high=_number(paired.high[i]),
            ci_missing=reason,
            method=paired.method,
            p_value=1.0 if same else p_value,
        )


def _sides(a: Judged, b: Judged, task: TaskName) -> tuple[Predictions, Predictions]:
    """The predictions of both on a task.

    Raises:
        EvaluationError: They cannot be compared.
    """
    reasons = {
        each.name: str(each.result(task).missing)
        for each in (a, b)
        if all(result.missing is not None for result in each.runs[0][task].values())
    }
    if len(reasons) == 2 and len(set(reasons.values())) == 1:
        raise EvaluationError(f"in both {reasons[a.name]}")
    for name, reason in reasons.items():
        raise EvaluationError(f"{name}: {reason}")
    versions = [each.result(task).protocol_version for each in (a, b)]
    if versions[0] != versions[1]:
        raise EvaluationError(f"versions {versions[0]} and {versions[1]} of the protocol")
    one, other = a.predictions(task), b.predictions(task)
    if reason := reason_not_to_pair(one, other):
        raise EvaluationError(reason)
    rows = shared_rows(one, other)[0]
    if one.outcome.resampled and len(np.unique(one.groups[rows])) < MIN_GROUPS:
        raise EvaluationError(f"fewer than {MIN_GROUPS} groups of shared test rows")
    return one, other


def _decided(
    differences: Sequence[Difference], chosen: Sequence[str], alpha: float
) -> Iterator[Difference]:
    """With Holm's correction over the chosen metrics, else the headlines, and a verdict on each."""
    metrics: dict[tuple[str, ...], list[str]] = {}
    for d in differences:
        metrics.setdefault(d.task, []).append(d.metric)
    told = {task: chosen or headlines(names, task[3]) for task, names in metrics.items()}
    family = [i for i, d in enumerate(differences) if d.metric in told[d.task]]
    p_values = [differences[i].p_value for i in family]
    adjusted = holm(np.array([np.nan if p is None else p for p in p_values]))
    p_of = dict(zip(family, adjusted.tolist(), strict=True))
    for i, d in enumerate(differences):
        if i not in p_of or d.difference is None:
            yield d
            continue
        verdict = UNDECIDED
        if p_of[i] < alpha and d.better:
            verdict = BETTER if (d.difference > 0) == (d.better == "higher") else WORSE
        yield replace(d, p_adjusted=_number(p_of[i]), verdict=verdict)


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
