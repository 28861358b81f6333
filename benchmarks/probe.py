"""The linear probe's sweep over L2 strengths against scikit-learn's, in one process.

    python benchmarks/probe.py [--rows 20000] [--dim 768] [--classes 10 100] [--grid 40]
                               [--peers "warm float32 1e-4" …] [--threads 2]

The data are synthetic: Gaussian classes that overlap, in features whose variances fall as 1 / rank,
turned at random and standardised. scikit-learn solves one strength after the other by L-BFGS with
as many iterations as it asks for, from zero (cold) or from the strength before (warm). A peer is
named by that, its precision and its tolerance (scikit-learn's default is 1e-4, at which it stops
short of the optimum where a penalty is strong or weak). Told are the fastest peer, and the fastest
of those that are at the optimum: losses within 1e-3, accuracies within 0.1 points. Test
accuracies and penalised training losses, computed in float64 for all, are held against ours at a
tolerance of 1e-9 in float64, the optimum: the tests hold that against scikit-learn's. Peak memory
is over that of the process before the fit, in a process of its own; scikit-learn's of one strength,
as it is the same for each.
"""

import argparse
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.special import logsumexp
from sklearn.linear_model import LogisticRegression
from threadpoolctl import threadpool_limits

from shared.evaluation.solvers.logistic import fit_logistic

Floats = NDArray[np.float64]
Data = tuple[NDArray[np.float32], NDArray[np.int64]]
Models = tuple[Floats, Floats]
"""(k, d, C) coefficients and (k, C) intercepts."""
OURS = "zoo"
PEERS = ("cold float32 1e-4", "warm float32 1e-4", "warm float32 1e-6", "warm float64 1e-6")
TEST_ROWS = 5000
ROUNDS = 3
"""Of ours; the median counts."""
SIGNAL = 0.17
"""Deviation of the class means in units of that of the features, times the root of log10(classes).
Chosen so that the best strength is inside the grid and classes overlap."""


def make_data(rows: int, dim: int, classes: int) -> tuple[Data, Data]:
    """Train and test rows."""
    rng = np.random.default_rng(0)
    y = rng.integers(classes, size=rows + TEST_ROWS)
    deviation = np.arange(1, dim + 1) ** -0.5
    centres = rng.normal(size=(classes, dim)) * deviation * (rng.random(dim) < 0.25)
    x = rng.normal(size=(len(y), dim)) * deviation + SIGNAL * np.log10(classes) ** 0.5 * centres[y]
    x = x @ np.linalg.qr(rng.normal(size=(dim, dim)))[0]
    x = ((x - x[:rows].mean(axis=0)) / x[:rows].std(axis=0)).astype(np.float32)
    return (x[:rows], y[:rows]), (x[rows:], y[rows:])


def ours(data: Data, l2: Floats) -> Models:
    x, y = data
    fits = fit_logistic(x, y, int(y.max()) + 1, l2)
    return fits.coef, fits.intercept


def peer(name: str) -> Callable[[Data, Floats], Models]:
    """scikit-learn's sweep, strongest first."""
    start, dtype, tol = name.split()

    def sweep(data: Data, l2: Floats) -> Models:
        x, y = data[0].astype(dtype), data[1]
        warm = start == "warm"
        model = LogisticRegression(tol=float(tol), max_iter=100_000, warm_start=warm)
        found = []
        for strength in l2:
            model.C = 1 / (strength * len(y))
            model.fit(x, y)
            found.append((model.coef_.T.copy(), model.intercept_.copy()))
        coef, intercept = zip(*found, strict=True)
        return np.stack(coef), np.stack(intercept)

    return sweep


def judge(models: Models, train: Data, test: Data, l2: Floats) -> tuple[Floats, Floats]:
    """Penalised loss on train and accuracy on test, of each strength."""
    (x, y), (x_test, y_test) = train, test
    x, x_test = x.astype(np.float64), x_test.astype(np.float64)
    losses, accuracies = [], []
    for coef, intercept, strength in zip(*models, l2, strict=True):
        logits = x @ coef + intercept
        loss = logsumexp(logits, axis=1) - logits[np.arange(len(y)), y]
        losses.append(loss.mean() + strength / 2 * np.square(coef, dtype=np.float64).sum())
        accuracies.append(((x_test @ coef + intercept).argmax(axis=1) == y_test).mean())
    return np.array(losses), np.array(accuracies)


def memory(field: str) -> float:
    """MiB of a field of this process's status: VmRSS now, VmHWM at most so far."""
    status = Path("/proc/self/status").read_text()
    line = next(line for line in status.splitlines() if line.startswith(field))
    return int(line.split()[1]) / 2**10


def print_peak(name: str, options: argparse.Namespace) -> None:
    train, _ = make_data(options.rows, options.dim, options.classes[0])
    grid = strengths(options.grid)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far was of making the data
    before = memory("VmRSS")
    if name == OURS:
        ours(train, grid)
    else:
        peer(name)(train, grid[len(grid) // 2 :][:1])
    print(memory("VmHWM") - before)


def peak(name: str, classes: int, options: argparse.Namespace) -> float:
    """MiB that a sweep needs, in a process of its own."""
    sizes = (options.rows, options.dim, options.grid, classes)
    flags = zip(("--rows", "--dim", "--grid", "--classes"), map(str, sizes), strict=True)
    command = [sys.executable, __file__, *chain.from_iterable(flags), "--peak", name]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def strengths(count: int) -> Floats:
    return np.logspace(2, -6, count)


def compare(classes: int, options: argparse.Namespace, console: Console) -> None:
    l2 = strengths(options.grid)
    train, test = make_data(options.rows, options.dim, classes)
    contenders = {OURS: ours, **{name: peer(name) for name in options.peers}}
    seconds, judged, exact = {}, {}, []
    for name, sweep in contenders.items():
        took = []
        # what takes seconds is at the mercy of whatever else the machine does
        for _ in range(ROUNDS if name == OURS else 1):
            began = time.perf_counter()
            models = sweep(train, l2)
            took.append(time.perf_counter() - began)
        seconds[name] = float(np.median(took))
        console.print(f"{classes} classes, {name}: {', '.join(f'{t:.2f}' for t in took)} s")
        judged[name] = judge(models, train, test, l2)
    best = fit_logistic(*train, classes, l2, dtype=np.float64, tol=1e-9)
    loss, accuracy = judge((best.coef, best.intercept), train, test, l2)
    table = Table(
        title=f"{options.grid} strengths, {options.rows} x {options.dim}, {classes} classes, "
        f"{options.threads} threads; best test accuracy {accuracy.max():.3f} "
        f"at l2 = {l2[accuracy.argmax()]:.1e}"
    )
    columns = ("", "s", "ratio", "MiB", "points from ours", "from the optimum", "loss above it")
    for column in columns:
        table.add_column(column, justify="right")
    for name, (other_loss, other_accuracy) in judged.items():
        apart = [np.abs(other_accuracy - a).max() for a in (judged[OURS][1], accuracy)]
        above = other_loss / loss - 1
        if above.max() <= 1e-3 and apart[1] <= 1e-3:
            exact.append(name)
        table.add_row(
            name,
            f"{seconds[name]:.2f}",
            f"{seconds[name] / seconds[OURS]:.1f}",
            f"{peak(name, classes, options):.0f}",
            *(f"{100 * share:.2f}" for share in apart),
            f"{above.min():.0e} … {above.max():.0e}",
        )
    console.print(table)
    of_peers = {"peers": options.peers, "peers at the optimum": set(exact) - {OURS}}
    for which, names in of_peers.items():
        fastest = min(names, key=lambda name: seconds[name], default=None)
        times = f"{fastest}: {seconds[fastest] / seconds[OURS]:.1f} times" if fastest else "none"
        console.print(f"fastest of the {which}: {times}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 100])
    parser.add_argument("--grid", type=int, default=40)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--peers", nargs="+", default=PEERS)
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    warnings.filterwarnings("ignore")
    with threadpool_limits(options.threads):
        if options.peak:
            print_peak(options.peak, options)
            return
        for classes in options.classes:
            compare(classes, options, Console(width=120))


if __name__ == "__main__":
    main()
