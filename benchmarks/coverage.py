"""How often the intervals hold the true value, and how often equal models are called different.

    python benchmarks/coverage.py [--n 50 200 1000] [--replications 1000] [--resamples 500]

Data are drawn from distributions whose true metric is known, in closed form or from a million rows
(calibration error, and the metrics of five classes); intervals are those of
`shared.evaluation.statistics.bootstrap` at 95 %. With groups, four rows share a group whose effect
is 30 % of the variance, and for classes also the class. The Monte-Carlo standard error of a share
of 95 % in 1000 replications is 0.7 points. `none`: replications without an interval. Beside it, up
to 200 rows, the plain percentile interval of the same draws. The second table is of paired
comparisons of two models that are equally good: the share of p < 0.05. Each cell runs on one
thread; both tables take some twelve minutes on two cores.
"""

import argparse
import os
import warnings
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, ndtr, softmax

from shared.evaluation.outcomes import (
    ClassOutcome,
    Outcome,
    RankOutcome,
    SeededOutcome,
    ValueOutcome,
)
from shared.evaluation.statistics import bootstrap, draw_weights, mcnemar, paired_difference

Floats = NDArray[np.float64]
Draw = Callable[[np.random.Generator, int, int], Outcome]
LEVEL, ICC, MILLION = 0.95, 0.3, 1_000_000
SHARES = np.array([0.5, 0.25, 0.15, 0.07, 0.03])
RHO = 0.8


def normal(rng: np.random.Generator, n: int, size: int) -> Floats:
    """(n,) standard normal; rows of a group of `size` share 30 % of the variance."""
    own: Floats = rng.normal(size=n)
    if size == 1:
        return own
    shared = np.repeat(rng.normal(size=n // size), size)
    together: Floats = np.sqrt(ICC) * shared + np.sqrt(1 - ICC) * own
    return together


def two_classes(rng: np.random.Generator, n: int, size: int, *, distance: float) -> ClassOutcome:
    """Scores of two classes, normal with a distance between the means; too sure by half."""
    truth = np.repeat(rng.integers(2, size=n // size), size)
    score = distance * (truth - 0.5) + normal(rng, n, size)
    p = expit(1.5 * distance * score)
    return ClassOutcome(truth, (p > 0.5).astype(np.int64), ("a", "b"), np.stack([1 - p, p], axis=1))


def five_classes(rng: np.random.Generator, n: int, size: int) -> ClassOutcome:
    """Five classes, the rarest 3 % of the rows."""
    truth = np.repeat(rng.choice(5, p=SHARES, size=n // size), size)
    score = np.stack([normal(rng, n, size) for _ in range(5)], axis=1) + 2 * np.eye(5)[truth]
    p = softmax(2 * score, axis=1)
    return ClassOutcome(truth, p.argmax(axis=1), tuple("abcde"), p)


def ranking(rng: np.random.Generator, n: int, size: int) -> RankOutcome:
    """Log-normal ranks."""
    ranks = np.ceil(np.exp(1 + 1.3 * normal(rng, n, size)) - 1).astype(np.int64)
    return RankOutcome(np.clip(ranks, 1, 10_000), 10_000)


def regression(
    rng: np.random.Generator, n: int, size: int, *, skewed: bool = False
) -> ValueOutcome:
    """Truth and prediction with a correlation of 0.8, as they are or as logarithms."""
    predicted = RHO * normal(rng, n, size)
    truth = predicted + np.sqrt(1 - RHO**2) * normal(rng, n, size)
    if skewed:
        truth, predicted = np.exp(truth / 2), np.exp(predicted / 2)
    return ValueOutcome(truth, predicted)


def seeds(rng: np.random.Generator, n: int, size: int) -> SeededOutcome:
    """Five seeds, which differ in how far apart they bring the two classes."""
    truth = np.repeat(rng.integers(2, size=n // size), size)
    common = normal(rng, n, size)
    of_seeds = []
    for distance in 1.2 + 0.2 * rng.normal(size=5):
        noise = np.sqrt(0.8) * common + np.sqrt(0.2) * rng.normal(size=n)
        p = expit(distance * (truth - 0.5) + noise)
        of_seeds.append(
            ClassOutcome(truth, (p > 0.5).astype(np.int64), ("a", "b"), np.stack([1 - p, p], 1))
        )
    return SeededOutcome(tuple(of_seeds), tuple(range(5)))


@dataclass(frozen=True)
class Case:
    """What is drawn, which metrics are told, and those whose true value has a closed form."""

    draw: Draw
    metrics: tuple[str, ...]
    truth: dict[str, float]


def _binormal(distance: float) -> dict[str, float]:
    """All accuracies of two equally frequent classes are alike by symmetry."""
    accuracy = float(ndtr(distance / 2))
    same = dict.fromkeys(("accuracy", "balanced_accuracy", "macro_f1"), accuracy)
    return {**same, "auroc": float(ndtr(distance / np.sqrt(2)))}


OF_CLASSES = ("accuracy", "balanced_accuracy", "macro_f1", "auroc", "log_loss", "brier", "ece")
OF_VALUES = ("r2", "rmse", "spearman", "pearson")
SPEARMAN = float(6 / np.pi * np.arcsin(RHO / 2))
RECALLS = {f"recall@{k}": float(ndtr((np.log(k + 1) - 1) / 1.3)) for k in (1, 5, 10)}
CASES = {
    "two classes": Case(partial(two_classes, distance=1.2), OF_CLASSES, _binormal(1.2)),
    "two classes, easy": Case(partial(two_classes, distance=3.3), OF_CLASSES, _binormal(3.3)),
    "five classes, rarest 3 %": Case(five_classes, OF_CLASSES, {}),
    "ranking": Case(ranking, ("recall@1", "recall@10", "mrr", "median_rank"), RECALLS),
    "regression": Case(
        regression,
        OF_VALUES,
        {"r2": RHO**2, "rmse": float(np.sqrt(1 - RHO**2)), "spearman": SPEARMAN, "pearson": RHO},
    ),
    "regression, log-normal": Case(
        partial(regression, skewed=True), OF_VALUES, {"spearman": SPEARMAN}
    ),
    "five seeds": Case(seeds, ("accuracy", "auroc"), {}),
}


def true_values(case: Case, size: int) -> dict[str, float]:
    rng = np.random.default_rng(2**32)
    parts = [case.draw(rng, MILLION // 50, size) for _ in range(50)]
    if not isinstance(parts[0], SeededOutcome):  # their mean is over as many seeds as parts
        parts = [case.draw(rng, MILLION, size)]
    values = dict(zip(parts[0].metrics, np.mean([p.values() for p in parts], axis=0), strict=True))
    return {**values, **case.truth}


def coverage(job: tuple[str, int, int, argparse.Namespace]) -> list[list[str]]:
    """Lines of the table of one case, number of rows and size of groups."""
    name, n, size, options = job
    case = CASES[name]
    truth = true_values(case, size)
    rng = np.random.default_rng(n + size)
    groups = (np.arange(n) // size).astype(str)
    codes = np.unique(groups, return_inverse=True)[1]
    ours, plain, values = [], [], []
    warnings.filterwarnings("ignore", "All-NaN")  # AUROC of one class has no percentiles
    for r in range(options.replications):
        outcome = case.draw(rng, n, size)
        target = np.array([truth[metric] for metric in outcome.metrics])
        found = bootstrap(outcome, groups, n_resamples=options.resamples, seed=r, level=LEVEL)
        assert found.low is not None
        assert found.high is not None
        held = (found.low <= target) & (target <= found.high)
        ours.append(np.where(np.isnan(found.low), np.nan, held))
        values.append(outcome.values())
        if n <= 200:
            blocks = draw_weights(codes, n // size, options.resamples, r)
            draws = np.concatenate([outcome.statistic(block.T) for block in blocks])
            low, high = np.nanquantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
            plain.append((low <= target) & (target <= high))
    lines = []
    for metric in case.metrics:
        i = outcome.metrics.index(metric)
        column = np.array(ours)[:, i]
        there = ~np.isnan(column)
        percentile = f"{100 * np.mean(plain, axis=0)[i]:.1f}" if plain else "–"
        bias = np.nanmean(np.array(values)[:, i]) - truth[metric]
        share = column[there].mean()
        error = np.sqrt(share * (1 - share) / there.sum())
        cells = [name, str(n), str(n // size), metric, f"{truth[metric]:.3f}", f"{bias:+.3f}"]
        cells += [f"{100 * share:.1f} ± {100 * error:.1f}", f"{100 * (1 - there.mean()):.1f}"]
        lines.append([*cells, percentile])
    return lines


def equal_models(rng: np.random.Generator, n: int, size: int, alike: float) -> list[list[Outcome]]:
    """Pairs of models with errors of correlation `alike` and the same true metrics."""
    truth = np.repeat(rng.integers(2, size=n // size), size)
    common = np.sqrt(alike) * normal(rng, n, size)
    classes: list[Outcome] = []
    values: list[Outcome] = []
    ranks: list[Outcome] = []
    target = rng.normal(size=n)
    for _ in range(2):
        noise = common + np.sqrt(1 - alike) * normal(rng, n, size)
        p = expit(2.0 * (truth - 0.5) + noise)
        predicted = (p > 0.5).astype(np.int64)
        classes.append(ClassOutcome(truth, predicted, ("a", "b"), np.stack([1 - p, p], 1)))
        values.append(ValueOutcome(target, target + noise))
        ranks.append(RankOutcome(np.maximum(np.ceil(np.exp(1 + noise) - 1), 1).astype(int), 1000))
    return [classes, values, ranks]


NULL = ("accuracy", "balanced_accuracy", "auroc", "brier", "recall@1", "mrr", "spearman", "r2")


def false_findings(job: tuple[float, int, int, argparse.Namespace]) -> list[list[str]]:
    """Shares of p < 1 - LEVEL between equal models."""
    alike, n, size, options = job
    rng = np.random.default_rng(n + size)
    groups = (np.arange(n) // size).astype(str)
    found: dict[str, list[bool]] = {}
    for r in range(options.replications):
        pairs = equal_models(rng, n, size, alike)
        for a, b in pairs:
            tested = paired_difference(a, b, groups, n_resamples=options.resamples, seed=r)
            for metric, p in zip(tested.metrics, tested.p_value, strict=True):
                found.setdefault(metric, []).append(bool(p < 1 - LEVEL))
        a, b = pairs[0]
        assert isinstance(a, ClassOutcome)
        assert isinstance(b, ClassOutcome)
        p = mcnemar(a.predicted == a.truth, b.predicted == b.truth)
        found.setdefault("accuracy, exact McNemar", []).append(p < 1 - LEVEL)
    names = (*NULL, "accuracy, exact McNemar") if size == 1 else NULL
    shares = {name: float(np.mean(found[name])) for name in names}
    head = [f"{alike:.2f}", str(n), str(n // size)]
    count = options.replications
    return [
        [*head, name, f"{100 * p:.1f} ± {100 * np.sqrt(p * (1 - p) / count):.1f}"]
        for name, p in shares.items()
    ]


def print_table(head: Sequence[str], cells: Iterable[Sequence[Sequence[str]]]) -> None:
    """Markdown, line by line as the cells are done."""
    for line in (head, ["---"] * len(head)):
        print("| " + " | ".join(line) + " |", flush=True)
    for cell in cells:
        for line in cell:
            print("| " + " | ".join(line) + " |", flush=True)
    print(flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, nargs="+", default=[50, 200, 1000])
    parser.add_argument("--replications", type=int, default=1000)
    parser.add_argument("--resamples", type=int, default=500)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--case", nargs="*", choices=CASES, default=list(CASES))
    parser.add_argument("--correlation", type=float, nargs="*", default=[0.5, 0.95])
    options = parser.parse_args()
    sizes = [(n - n % size, size) for n in options.n for size in (1, 4)]
    of_cases = [(name, n, size, options) for n, size in sizes for name in options.case]
    of_pairs = [(alike, n, size, options) for n, size in sizes for alike in options.correlation]
    with ProcessPoolExecutor(options.jobs) as pool:
        head = ["data", "n", "groups", "metric", "true", "bias", "coverage %", "none %"]
        print_table([*head, "percentile %"], pool.map(coverage, of_cases))
        head = ["correlation", "n", "groups", "metric", "p < 0.05, %"]
        print_table(head, pool.map(false_findings, of_pairs))


if __name__ == "__main__":
    main()
