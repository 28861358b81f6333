"""Intervals and paired tests that resample the units which are independent (stars, patients).

One method for all metrics, chosen by simulation (`benchmarks/coverage.py`): the bootstrap over
whole groups gives the standard error, and the interval is Student's t with (groups - 1) degrees of
freedom on the scale on which the metric is close to symmetric (`Metric.scale`): the logit of an
AUROC, Fisher's z of a correlation, the logarithm of an error or of 1 - R². Against percentile, BCa
and untransformed intervals its coverage was the nearest to nominal for AUROC close to 1 and for few
groups, and it stays inside the metric's range. Shares of rows (accuracy, recall@k) have Wilson's
interval, for as many independent rows as would have that standard error. Only the median rank,
which jumps from one whole number to the next, has the percentile interval.

Sources: Efron & Tibshirani 1993, An Introduction to the Bootstrap, ch. 6 (standard error) and 12.6
(transformations); Davison & Hinkley 1997, Bootstrap Methods, Section 3.8 (groups are drawn, and all
rows of a drawn group kept); Dean & Pagano 2015, J. Surv. Stat. Methodol. 3:484 (Wilson's interval
with the effective number of rows and the t quantile).
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtr, stdtrit

from shared.errors import EvaluationError
from shared.evaluation.calibration import wilson_interval
from shared.evaluation.metrics import METRICS, Metric
from shared.evaluation.outcomes import Outcome, SeededOutcome

Floats = NDArray[np.float64]

MAX_UNDEFINED = 0.5
"""Share of draws without a value from which on a metric has no interval."""
_ROUNDING = 1e-12
"""Relative to a metric, spread of draws that comes from the order of their sums."""
_WIDEST = np.log(1e6)
"""Logarithm of the factor by which an end may differ from the value; beyond it says nothing."""
_BLOCK_ELEMENTS = 1_000_000
"""Weights held at a time; bounds memory whatever the number of samples."""


@dataclass(frozen=True)
class Intervals:
    """Intervals of m metrics.

    Attributes:
        low: (m,) lower ends, NaN where `missing` says why; None where nothing can be resampled.
        high: (m,) upper ends.
        level: Nominal coverage.
        method: In words; "none: …" with the reason where nothing can be resampled.
        n_groups: Units that are drawn.
        undefined: (m,) share of the draws in which a metric had no value; they are left out.
        missing: By metric, why it has no interval.
    """

    low: Floats | None
    high: Floats | None
    level: float
    method: str
    n_groups: int = 0
    undefined: Floats = field(default_factory=lambda: np.empty(0))
    missing: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Paired:
    """Differences b - a of m metrics on the same rows.

    Attributes:
        metrics: m names.
        difference: (m,) NaN where `missing` says why.
        low: (m,) lower ends of the intervals.
        high: (m,) upper ends.
        p_value: (m,) two-sided, of no difference; not corrected for their number.
        level: Nominal coverage.
        method: In words.
        n_groups: Units that are drawn.
        missing: By metric, why there is no interval and no p.
    """

    metrics: tuple[str, ...]
    difference: Floats
    low: Floats
    high: Floats
    p_value: Floats
    level: float
    method: str
    n_groups: int
    missing: Mapping[str, str] = field(default_factory=dict)


def bootstrap(
    outcome: Outcome,
    groups: NDArray[np.str_],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Intervals:
    """Intervals of the metrics of an outcome.

    The same seed and groups give the same draws. With several seeds (`SeededOutcome`) the variance
    between seeds, over their number, is added to that of the draws, and the degrees of freedom are
    Satterthwaite's. Where a share of rows is at its limit (all right, all wrong) no draw differs;
    the interval then is that of as many independent rows as there are groups. Other metrics that no
    draw changes have no interval.

    Args:
        outcome: Of n test rows.
        groups: (n,) unit of resampling.
        n_resamples: Number of resamples; 0 gives no interval.
        seed: Of the draws.
        level: Coverage of the intervals.

    Raises:
        EvaluationError: Another number of groups than rows.
    """
    names, group_of_row = _grouped(groups, len(outcome))
    n_groups = len(names)
    if reason := _reason_not_to_resample(outcome, n_groups, n_resamples):
        return Intervals(None, None, level, f"none: {reason}", n_groups)
    draws = _draws(outcome, group_of_row, n_groups, n_resamples, seed)
    value, of_seeds = outcome.values(), _of_seeds(outcome)
    spread = _spread(draws, n_groups, [] if of_seeds is None else [of_seeds], np.abs(value))
    low, high = np.full((2, len(value)), np.nan)
    for i, name in enumerate(outcome.metrics):
        metric = METRICS[name]
        if metric.scale == "percentile" and not isinstance(outcome, SeededOutcome):
            low[i], high[i] = _percentiles(draws[:, i], level)
        elif spread.error[i] > 0:
            low[i], high[i] = _t_interval(metric, value[i], spread.error[i], spread.df[i], level)
        elif metric.scale == "share" and value[i] in (0.0, 1.0):
            low[i], high[i] = wilson_interval(value[i], n_groups, level, spread.df[i])
    missing = _without_interval(outcome.metrics, spread, ~np.isnan(low)) | dict(outcome.reasons())
    gone = [name in missing for name in outcome.metrics]
    low[gone] = high[gone] = np.nan
    scales = "on a transformed scale; Wilson for shares of rows"
    method = f"{_method(n_resamples, n_groups, outcome)} {scales}"
    return Intervals(low, high, level, method, n_groups, spread.undefined, missing)


def paired_difference(
    a: Outcome,
    b: Outcome,
    groups: NDArray[np.str_],
    *,
    n_resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Paired:
    """Whether b differs from a on the same rows: both on the same draws.

    Student's t with the bootstrap standard error of the difference, for interval and p alike: p is
    below 1 - level exactly where the interval leaves out 0. For shares of rows (accuracy, recall@k)
    one row that speaks for a and one that speaks for b are added to the variance (Bonett & Price
    2012, Br. J. Math. Stat. Psychol. 65:430), without which a handful of rows would pass for many.
    Seeds that both have are paired; else their variances are added.

    Args:
        a: Of n rows.
        b: Of the same rows in the same order.
        groups: (n,) unit of resampling.
        n_resamples: Number of resamples, at least 1.
        seed: Of the draws.
        level: Coverage of the intervals.

    Raises:
        EvaluationError: The two differ in rows, in kind or in the numbers of groups.
    """
    if len(a) != len(b) or _single(a).kind != _single(b).kind:
        raise EvaluationError(
            f"{len(a)} rows of {_single(a).kind} and {len(b)} of {_single(b).kind}: a paired "
            "comparison needs the same rows of the same kind in both."
        )
    metrics = tuple(name for name in a.metrics if name in b.metrics)
    names, group_of_row = _grouped(groups, len(a))
    n_groups = len(names)
    values = [_pick(o, metrics, o.values()) for o in (a, b)]
    difference = values[1] - values[0]
    low, high, p_value = np.full((3, len(metrics)), np.nan)
    missing = {m: why for o in (b, a) for m, why in o.reasons().items() if m in metrics}
    method = f"paired, {_method(n_resamples, n_groups, a)}"
    if reason := _reason_not_to_resample(a, n_groups, n_resamples):
        method, missing = f"none: {reason}", dict.fromkeys(metrics, reason) | missing
    else:
        draws_a, draws_b = (
            _pick(o, metrics, _draws(o, group_of_row, n_groups, n_resamples, seed)) for o in (a, b)
        )
        of_seeds, size = _seeds_of_difference(a, b, metrics), np.abs(values).max(axis=0)
        spread = _spread(draws_b - draws_a, n_groups, of_seeds, size)
        shares = np.array([METRICS[name].scale == "share" for name in metrics])
        error = np.sqrt(spread.error**2 + shares * 2 / len(a) ** 2)
        missing = _without_interval(metrics, spread, error > 0) | missing
        there = np.array([name not in missing for name in metrics])
        df, error, centre = spread.df[there], error[there], difference[there]
        half = stdtrit(df, (1 + level) / 2) * error
        widest = np.array([np.subtract(*METRICS[name].ends[::-1]) for name in metrics])[there]
        low[there] = np.maximum(centre - half, -widest)
        high[there] = np.minimum(centre + half, widest)
        p_value[there] = 2 * stdtr(df, -np.abs(centre) / error)
    return Paired(metrics, difference, low, high, p_value, level, method, n_groups, missing)


def _without_interval(
    metrics: Sequence[str], spread: "_Spread", differs: NDArray[np.bool_]
) -> dict[str, str]:
    """By metric, why its draws give no interval."""
    missing = {}
    columns = zip(metrics, spread.undefined, spread.error, differs, strict=True)
    for name, undefined, error, spreads in columns:
        if undefined > MAX_UNDEFINED:
            missing[name] = f"no value in {undefined:.0%} of the draws"
        elif not spreads:
            scattered = "the draws scatter too widely" if error > 0 else ""
            missing[name] = scattered or "every draw gives the same"
    return missing


def mcnemar(a_right: NDArray[np.bool_], b_right: NDArray[np.bool_]) -> float:
    """Exact two-sided p of equal accuracy on the same independent rows: a binomial test of the rows
    on which only one is right (McNemar 1947, Psychometrika 12:153)."""
    from scipy.stats import binomtest

    only_a, only_b = (int((x & ~y).sum()) for x, y in ((a_right, b_right), (b_right, a_right)))
    return float(binomtest(only_b, only_a + only_b).pvalue) if only_a + only_b else 1.0


def holm(p_values: Sequence[float] | Floats) -> Floats:
    """p-values of a family of tests, adjusted so that the chance of any false finding is kept
    (Holm 1979, Scand. J. Stat. 6:65); NaN stays and does not count."""
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    order = np.argsort(p)[: int((~np.isnan(p)).sum())]
    times = len(order) - np.arange(len(order))
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * times), 1.0)
    return adjusted


def draw_weights(
    group_of_row: NDArray[np.int64], n_groups: int, n_resamples: int, seed: int
) -> Iterator[Floats]:
    """(n, b) blocks of how often each row is drawn: whole groups with replacement. What is drawn
    does not depend on the size of the blocks."""
    rng = np.random.default_rng(seed)
    size = max(1, _BLOCK_ELEMENTS // len(group_of_row))
    for done in range(0, n_resamples, size):
        b = min(size, n_resamples - done)
        cells = rng.integers(n_groups, size=(b, n_groups)) * b + np.arange(b)[:, None]
        counts = np.bincount(cells.ravel(), minlength=b * n_groups).reshape(n_groups, b)
        yield counts.astype(np.float64)[group_of_row]


@dataclass(frozen=True)
class _Spread:
    """(m,) standard errors, degrees of freedom and shares of undefined draws."""

    error: Floats
    df: Floats
    undefined: Floats


def _spread(draws: Floats, n_groups: int, of_seeds: Sequence[Floats], size: Floats) -> _Spread:
    """Of (b, m) draws, and of independent sets of seeds with (S, m) values each; (m,) size of the
    metrics, next to which rounding of the draws is no spread."""
    defined = ~np.isnan(draws)
    count = defined.sum(axis=0)
    centre = np.where(defined, draws, 0.0).sum(axis=0) / np.maximum(count, 1)
    squares = np.where(defined, (draws - centre) ** 2, 0.0).sum(axis=0)
    variances = [squares / np.maximum(count - 1, 1)]
    freedom = [n_groups - 1]
    variances[0][variances[0] <= (_ROUNDING * size) ** 2] = 0.0
    for values in of_seeds:
        if len(values) > 1:
            variances.append(np.nan_to_num(values.var(axis=0, ddof=1)) / len(values))
            freedom.append(len(values) - 1)
    total = np.sum(variances, axis=0)
    parts = np.sum([v**2 / k for v, k in zip(variances, freedom, strict=True)], axis=0)
    df = np.divide(total**2, parts, out=np.full_like(total, n_groups - 1), where=parts > 0)
    return _Spread(np.sqrt(total), df, 1 - count / len(draws))


def _t_interval(
    metric: Metric, value: float, error: float, df: float, level: float
) -> tuple[float, float]:
    """Student's t on the scale of the metric; the standard error goes there by the derivative. NaN
    where that makes it endless."""
    t = float(stdtrit(df, (1 + level) / 2))
    scale = metric.scale
    if scale == "share":
        ends = np.array(wilson_interval(value, value * (1 - value) / error**2, level, df))
    elif scale == "logit":
        ends = expit(logit(value) + np.array([-t, t]) * error / (value * (1 - value)))
    elif scale == "fisher":
        ends = np.tanh(np.arctanh(value) + np.array([-t, t]) * error / (1 - value**2))
    elif scale in ("log", "log_rest"):
        size = value if scale == "log" else 1 - value
        if t * error > _WIDEST * size:
            return np.nan, np.nan
        ends = size * np.exp(np.array([-t, t]) * error / size)
        ends = ends if scale == "log" else 1 - ends[::-1]
    else:
        ends = value + np.array([-t, t]) * error
    low, high = np.clip(ends, *metric.ends)
    return float(low), float(high)


def _percentiles(draws: Floats, level: float) -> tuple[float, float]:
    defined = draws[~np.isnan(draws)]
    if len(defined) == 0:
        return np.nan, np.nan
    low, high = np.quantile(defined, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def _draws(
    outcome: Outcome, group_of_row: NDArray[np.int64], n_groups: int, n_resamples: int, seed: int
) -> Floats:
    """(b, m) metrics of the draws."""
    weights = draw_weights(group_of_row, n_groups, n_resamples, seed)
    return np.concatenate([outcome.statistic(block.T) for block in weights])


def _of_seeds(outcome: Outcome) -> Floats | None:
    """(S, m) metrics of all rows, seed by seed; None without seeds."""
    if not isinstance(outcome, SeededOutcome):
        return None
    return np.stack([of_seed.values() for of_seed in outcome.outcomes])


def _seeds_of_difference(a: Outcome, b: Outcome, metrics: Sequence[str]) -> list[Floats]:
    """Differences seed by seed where the two have the same seeds; else the values of each."""
    both = [_pick(o, metrics, v) for o in (a, b) if (v := _of_seeds(o)) is not None]
    paired = isinstance(a, SeededOutcome) and isinstance(b, SeededOutcome) and a.seeds == b.seeds
    return [both[1] - both[0]] if paired else both


def _pick(outcome: Outcome, metrics: Sequence[str], values: Floats) -> Floats:
    """The columns of some metrics, in their order."""
    return values[..., [outcome.metrics.index(name) for name in metrics]]


def _single(outcome: Outcome) -> Outcome:
    return outcome.outcomes[0] if isinstance(outcome, SeededOutcome) else outcome


def _grouped(groups: NDArray[np.str_], n: int) -> tuple[NDArray[np.str_], NDArray[np.int64]]:
    """Distinct groups, sorted, and the place of each row's group among them."""
    if len(groups) != n:
        raise EvaluationError(f"{len(groups)} groups of {n} rows: one each.")
    names, group_of_row = np.unique(groups, return_inverse=True)
    return names, group_of_row


def _reason_not_to_resample(outcome: Outcome, n_groups: int, n_resamples: int) -> str | None:
    if not outcome.resampled:
        return "a number of the set as a whole, whose rows cannot be drawn again"
    if n_groups < 2:
        return "no test rows" if n_groups == 0 else "one group cannot be resampled"
    return "no resamples" if n_resamples < 2 else None


def _method(n_resamples: int, n_groups: int, outcome: Outcome) -> str:
    n_seeds = len(outcome.seeds) if isinstance(outcome, SeededOutcome) else 1
    seeds = f" and {n_seeds} seeds" if n_seeds > 1 else ""
    return f"t with bootstrap standard error, {n_resamples} resamples of {n_groups} groups{seeds}"
