"""From what a protocol found to scores: value, interval, and the values without a model."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from shared.evaluation.baselines import tag_baseline
from shared.evaluation.embeddings.embedding_set import LABEL, TAGS, EmbeddingSet
from shared.evaluation.outcomes import Outcome, SeededOutcome, TagOutcome
from shared.evaluation.protocol import Output
from shared.evaluation.statistics import Intervals, bootstrap

MIN_SUBGROUP = 5
"""Test rows below which a subgroup's score would be an anecdote."""
MAX_TAGS = 50
"""Above this number scores of every tag would bury those of all."""


@dataclass(frozen=True)
class Score:
    """One metric of one task.

    Attributes:
        metric: Its name.
        value: Point estimate; None where `missing` says why.
        missing: Why there is no value.
        low: Lower end of the interval; None where `ci_missing` says why.
        high: Upper end of the interval.
        ci_missing: Why there is no interval.
        chance: Expected value of a uniform guess; None where that has none.
        trivial: Value of the trivial baseline.
        simple: Value of the same protocol on simple features.
        seed_values: By seed, where the protocol has several.
    """

    metric: str
    value: float | None = None
    missing: str | None = None
    low: float | None = None
    high: float | None = None
    ci_missing: str | None = None
    chance: float | None = None
    trivial: float | None = None
    simple: float | None = None
    seed_values: Mapping[int, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Scores:
    """All metrics of one task, on all of its test rows or on those of a subgroup.

    Attributes:
        scores: One a metric.
        n: Test rows.
        n_groups: Units of resampling among them.
        n_per_class: Test rows of each class, or with each tag; empty for other targets.
        ci_level: Coverage of the intervals.
        ci_method: How they were made.
        subgroup: Such as `hospital=A`, or `tag=…` for one of several tags; empty for all rows.
    """

    scores: tuple[Score, ...]
    n: int
    n_groups: int
    n_per_class: Mapping[str, int]
    ci_level: float
    ci_method: str
    subgroup: str = ""

    def __getitem__(self, metric: str) -> Score:
        return next(score for score in self.scores if score.metric == metric)


def score(
    output: Output,
    target: str,
    embeddings: EmbeddingSet,
    simple: Output | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
    subgroup: str = "",
) -> Scores:
    """Point estimates, intervals over whole groups, and baselines on the same rows.

    Args:
        output: What a protocol found.
        target: Of its task.
        embeddings: What it was run on.
        simple: The same of simple features; the same rows.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap; 0 gives no intervals.
        subgroup: What the rows of the output are, where they are a part.
    """
    outcome, rows = output.outcome, output.rows
    groups = embeddings.groups[rows]
    n_groups = len(np.unique(groups))
    if outcome is None:
        scores = tuple(Score(metric, missing=output.missing) for metric in output.metrics)
        per_class = n_per_class(target, embeddings, rows)
        return Scores(scores, len(rows), n_groups, per_class, 0.95, "none", subgroup)
    intervals = bootstrap(outcome, groups, n_resamples=n_resamples, seed=seed)
    values, trivial = values_of(outcome), values_of(output.trivial)
    if output.trivial is None and output.trivial_name:
        trivial = dict(output.chance)  # the baseline is a random guess itself
    on_simple = values_of(None if simple is None else simple.outcome)
    scores = tuple(
        Score(
            metric,
            values.get(metric),
            None if metric in values else outcome.reasons().get(metric, "it has no value here"),
            *_ends(intervals, i, metric, metric in values),
            chance=output.chance.get(metric),
            trivial=trivial.get(metric),
            simple=on_simple.get(metric),
            seed_values=seed_values(outcome, metric),
        )
        for i, metric in enumerate(outcome.metrics)
    )
    per_class = n_per_class(target, embeddings, rows)
    level, method = intervals.level, intervals.method
    return Scores(scores, len(rows), n_groups, per_class, level, method, subgroup)


def score_subgroups(
    output: Output,
    target: str,
    embeddings: EmbeddingSet,
    simple: Output | None = None,
    seed: int = 0,
    n_resamples: int = 1000,
) -> list[Scores]:
    """The same on the test rows of each subgroup, by name and value, and of each of several tags
    (`tag=…`) on the rows where it is known; none where it did not run, or where its numbers are of
    the whole set and not of its rows.

    A subgroup with fewer than `MIN_SUBGROUP` rows is listed with its n, and its scores are missing.
    Ranks are those among all candidates: a subgroup's queries still search the whole split. Above
    `MAX_TAGS` there are no scores of single tags.
    """
    found: list[Scores] = []
    if output.outcome is None or not output.outcome.resampled or not len(output.rows):
        return found
    for name, column in embeddings.subgroups.items():
        of_rows = column[output.rows]
        for value in np.unique(of_rows[of_rows != ""]).tolist():
            at = np.flatnonzero(of_rows == value)
            whole = len(at) >= MIN_SUBGROUP
            part = _take(output, at) if whole else None
            reason = f"fewer than {MIN_SUBGROUP} test rows"
            chosen = part or Output(
                output.rows[at], None, missing=reason, metrics=output.outcome.metrics
            )
            other = _take(simple, at) if whole and simple is not None and simple.outcome else None
            subgroup = f"{name}={value}"
            found.append(score(chosen, target, embeddings, other, seed, n_resamples, subgroup))
    if isinstance(output.outcome, TagOutcome) and 1 < len(output.outcome.tags) <= MAX_TAGS:
        found += [
            _score_tag(tag, output, embeddings, simple, seed, n_resamples)
            for tag in output.outcome.tags
        ]
    return found


def _score_tag(
    tag: str,
    output: Output,
    embeddings: EmbeddingSet,
    simple: Output | None,
    seed: int,
    n_resamples: int,
) -> Scores:
    """Scores of one tag, with its own chance: of an average precision that is the prevalence."""
    part = _of_tag(output, tag)
    assert isinstance(part.outcome, TagOutcome)
    n_tag = {tag: int(part.outcome.truth.sum())}
    if len(part.rows) < MIN_SUBGROUP:
        part = replace(part, outcome=None, missing=f"fewer than {MIN_SUBGROUP} test rows")
    other = None if simple is None or simple.outcome is None else _of_tag(simple, tag)
    scores = score(part, TAGS, embeddings, other, seed, n_resamples, f"tag={tag}")
    return replace(scores, n_per_class=n_tag)


def _of_tag(output: Output, tag: str) -> Output:
    """The output of one tag on the rows where it is known."""
    assert isinstance(output.outcome, TagOutcome)
    outcome, at = output.outcome.of_tag(tag)
    trivial = output.trivial.of_tag(tag)[0] if isinstance(output.trivial, TagOutcome) else None
    chance = tag_baseline(outcome.truth, outcome.truth, (tag,))[1]
    return replace(
        output,
        rows=output.rows[at],
        outcome=outcome,
        metrics=outcome.metrics,
        trivial=trivial,
        chance=chance,
    )


def _take(output: Output, at: NDArray[np.int64]) -> Output:
    """The output of some of its rows; chance is that of all rows, and left out."""
    assert output.outcome is not None
    trivial = None if output.trivial is None else output.trivial.take(at)
    return Output(
        output.rows[at],
        output.outcome.take(at),
        trivial=trivial,
        trivial_name=output.trivial_name,
        settings=output.settings,
        seeds=output.seeds,
    )


def _ends(
    intervals: Intervals, i: int, metric: str, there: bool
) -> tuple[float | None, float | None, str | None]:
    """Low, high, and why there are none."""
    low = None if intervals.low is None else float(intervals.low[i])
    high = None if intervals.high is None else float(intervals.high[i])
    if low is None or high is None:
        return None, None, intervals.method.removeprefix("none: ")
    if not there:
        return None, None, "there is no value"
    if not (np.isfinite(low) and np.isfinite(high)):
        return None, None, intervals.missing.get(metric, "it has none here")
    return low, high, None


def values_of(outcome: Outcome | None) -> dict[str, float]:
    """By metric, of all rows; a metric without a value is left out."""
    if outcome is None or len(outcome) == 0:
        return {}
    values = outcome.statistic(np.ones((1, len(outcome))))[0].tolist()
    pairs = zip(outcome.metrics, values, strict=True)
    return {metric: value for metric, value in pairs if np.isfinite(value)}


def seed_values(outcome: Outcome, metric: str) -> dict[int, float]:
    """The metric seed by seed; empty where there are no seeds."""
    if not isinstance(outcome, SeededOutcome):
        return {}
    pairs = zip(outcome.seeds, map(values_of, outcome.outcomes), strict=True)
    return {seed: values[metric] for seed, values in pairs if metric in values}


def n_per_class(target: str, embeddings: EmbeddingSet, rows: NDArray[np.int64]) -> dict[str, int]:
    """Test rows of each class, or with each tag."""
    if target == LABEL:
        counts = np.bincount(embeddings.labels[rows], minlength=len(embeddings.classes))
        return dict(zip(embeddings.classes, counts.tolist(), strict=True))
    if target == TAGS:
        return {name: int(np.nansum(column[rows])) for name, column in embeddings.tags.items()}
    return {}
