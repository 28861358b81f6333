"""The protocols on published labelled data, with simple features as the model.

python -m benchmarks.real.run --data FOLDER [--only esol bbbp] [--out DIR]

Prints two Markdown tables: what the READMEs of the data state beside what our protocols find by
the same scheme, and every protocol on every set (its first metric, on the test split); then why
some have none. With `--out`, the results and predictions of each set lie in a folder of their own.
"""

import argparse
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.real.cases import CASES, FIVE, ONE_TO_ALL, Case, Figure
from shared.evaluation.cross_validation import cross_validated
from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.protocol import Protocol, Task
from shared.evaluation.results.result import save_results
from shared.evaluation.results.store import EvaluationStore
from shared.evaluation.run import Run, evaluate_arrays
from shared.evaluation.scoring import Score
from zoo.plugins import plugins

N_FOLDS = 5
WIDTH_IN_ERRORS = 2 * 1.96
"""Of a 95 % interval, in standard errors."""
README_HEADER = (
    "| set | inputs → target | protocol, scheme | n (groups) | metric | trivial | ours (95 %) "
    "| README | difference / standard error |"
)
ALL_HEADER = (
    "| set | protocol | inputs → target | n (groups) | metric | trivial | value (95 %) | s |"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="the folder of the sets")
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--out", type=Path, help="where results are kept, and read from again")
    parser.add_argument("--resamples", type=int, default=1000)
    options = parser.parse_args()
    registry = plugins().registries.protocols
    protocols = {entry.name: registry.get(entry.name) for entry in registry}
    beside: list[str] = []
    everything: list[str] = []
    missing: Counter[str] = Counter()
    began = time.perf_counter()
    for name in options.only:
        case, start = CASES[name], time.perf_counter()
        embeddings = case.load(options.data)
        folder = None if options.out is None else options.out / name
        for number, figure in enumerate(case.figures):
            place = folder and folder / f"readme-{number}"
            beside += _beside_readme(figure, case, embeddings, protocols, place, options.resamples)
        if case.prepare is not None:
            embeddings = case.prepare(embeddings)
        fitting = [protocol for protocol in protocols.values() if protocol.applies(embeddings)]
        runs = _judge(embeddings, fitting, folder and folder / "test-split", options.resamples)
        everything += [_line_of_run(run, embeddings) for run in runs if run.output.outcome]
        missing.update(f"{r.protocol.name}: {r.output.missing}" for r in runs if r.output.missing)
        print(f"<!-- {name}: {time.perf_counter() - start:.1f} s -->", flush=True)
    _print_table(README_HEADER, beside)
    _print_table(ALL_HEADER, everything)
    print("\n".join(["", *(f"- {n} × {reason}" for reason, n in missing.most_common())]))
    print(f"\n{time.perf_counter() - began:.0f} s")


def _judge(
    embeddings: EmbeddingSet, protocols: Sequence[Protocol], folder: Path | None, n_resamples: int
) -> tuple[Run, ...]:
    """The runs, which are kept in the folder and read from there when they are."""
    store = None if folder is None else EvaluationStore(folder)
    evaluation = evaluate_arrays(embeddings, protocols, n_resamples=n_resamples, store=store)
    if folder is not None:
        save_results(folder, evaluation.results)
    return evaluation.runs


def _beside_readme(
    figure: Figure,
    case: Case,
    embeddings: EmbeddingSet,
    protocols: dict[str, Protocol],
    folder: Path | None,
    n_resamples: int,
) -> Iterator[str]:
    """A line for each value of a figure, found by the scheme of the README."""
    if not figure.grouped:
        embeddings = replace(embeddings, groups=embeddings.ids)
    if figure.tag:
        embeddings = replace(embeddings, tags={figure.tag: embeddings.tags[figure.tag]})
    if figure.scheme == ONE_TO_ALL:
        embeddings = replace(embeddings, splits=np.full(len(embeddings), SPLIT))
    inputs = "->".join(figure.inputs)
    task = Task(figure.inputs, figure.target, inputs=inputs)
    protocol = replace(protocols[figure.protocol], tasks=lambda *_: [task])
    if figure.scheme == FIVE:
        protocol = cross_validated(protocol, N_FOLDS, prepare=case.prepare)
    (run,) = _judge(embeddings, [protocol], folder, n_resamples)
    target = figure.tag or figure.target
    scheme = figure.scheme if figure.grouped else f"{figure.scheme}, groups divided"
    for metric, published in figure.values.items():
        score = _score(run, metric)
        yield (
            f"| {embeddings.dataset} | {_question(inputs, target)} | {figure.protocol}, {scheme} "
            f"| {run.scores.n} ({run.scores.n_groups}) | {metric} | {_number(score.trivial)} "
            f"| {_with_interval(score)} | {published:.3f} | {_difference(score, published)} |"
        )


def _line_of_run(run: Run, embeddings: EmbeddingSet) -> str:
    score = run.scores.scores[0]
    task = run.task
    inputs = " ".join(filter(None, (task.inputs, task.variant)))
    return (
        f"| {embeddings.dataset} | {run.protocol.name} | {_question(inputs, task.target)} "
        f"| {run.scores.n} ({run.scores.n_groups}) | {score.metric} | {_number(score.trivial)} "
        f"| {_with_interval(score)} | {run.seconds:.2f} |"
    )


def _score(run: Run, metric: str) -> Score:
    found = [score for score in run.scores.scores if score.metric == metric]
    return found[0] if found else Score(metric, missing=run.output.missing)


def _question(inputs: str, target: str) -> str:
    return f"{inputs} → {target}" if target else inputs


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _with_interval(score: Score) -> str:
    if score.value is None:
        return f"missing: {score.missing}"
    if score.low is None or score.high is None:
        return f"{score.value:.3f}"
    return f"{score.value:.3f} ({score.low:.3f} to {score.high:.3f})"


def _difference(score: Score, published: float) -> str:
    if score.value is None or score.low is None or score.high is None or score.low == score.high:
        return ""
    error = (score.high - score.low) / WIDTH_IN_ERRORS
    return f"{(score.value - published) / error:+.1f}"


def _print_table(header: str, lines: Sequence[str]) -> None:
    print(f"\n{header}\n{'|---' * (header.count('|') - 1)}|")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
