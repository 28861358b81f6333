"""Results as tables for the screen, none wider than 80 columns for usual names."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from shared.evaluation.metrics import METRICS
from shared.evaluation.protocol import ALL
from shared.evaluation.results.result import Result

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

    from shared.evaluation.results.compare import Comparison, Difference

HEADLINES = (
    ("accuracy", "balanced_accuracy", "auroc"),
    ("auroc", "mean_average_precision"),
    ("r2", "spearman"),
    ("recall@1", "recall@10", "map"),
    ("nmi",),
    ("rmi", "rsu", "ras", "rda"),
)
"""By kind of outcome, the first of whose metrics tells it: what the table shows of a task."""
SHORT = {"balanced_accuracy": "balanced acc.", "mean_average_precision": "mAP"}
MISSING = "missing"
"""In place of a value; the reason stands below the table."""
NONE = "–"
"""Where there is no number."""
BY_SUBGROUP = ("classifier", "zero_shot", "linear_probe", "ridge_probe")
"""Protocols whose subgroups the screen shows; those of all stand in the report."""
MAX_SUBGROUPS = 20
"""Lines of a task on the screen."""


def headlines(metrics: Sequence[str], variant: str = "") -> list[str]:
    """Of the metrics of a task, those that a table and a comparison show; the first is the one
    that stands for all, and the only one of a variant, of which there are many (a curve of shots
    would fill a comparison). Three of a kind that is not known here."""
    for kind in HEADLINES:
        if kind[0] in metrics:
            return [metric for metric in kind if metric in metrics][: 1 if variant else None]
    return list(metrics[: 1 if variant else 3])


def results_table(results: Sequence[Result]) -> "Table":
    """The headline metrics side by side with chance, the trivial baseline and simple features.

    A task that is missing for one reason takes one line. With several inputs a task takes no more
    lines than its name, and a curve (shots) those of its ends: the rest is in the report.
    """
    of_all = [result for result in results if not result.subgroup]
    blocks = _blocks(of_all)
    brief = len({block[0].inputs for block in blocks}) > 1
    lines = []
    for block in blocks:
        names = _name_lines(replace(block[0], variant=""))
        lines.append((block[0].protocol, names, _rows(block, len(names) if brief else None)))
    table = _table(_title(results))
    level = round(100 * results[0].ci_level) if results else 95
    columns = (f"value [{level} % CI]", "n", "chance", "trivial", "simple")
    _add_protocols(table, columns, lines)
    _tell_reasons(table, of_all)
    return table


def subgroup_table(results: Sequence[Result]) -> "Table | None":
    """The first headline metric of the tasks of `BY_SUBGROUP` by subgroup, below all rows together;
    of other tasks where there are none of these, and None where there are no subgroups."""
    blocks = [block for block in _blocks(_together(results)) if any(r.subgroup for r in block)]
    told = [block for block in blocks if block[0].protocol in BY_SUBGROUP] or blocks
    if not told:
        return None
    table = _table("by subgroup")
    table.add_column("")
    for name in ("value [CI]", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    below: list[Result] = []
    for block in told:
        metric = headlines([result.metric for result in block])[0]
        variant = _end(block)
        whole, *parts = [r for r in block if (r.metric, r.variant) == (metric, variant)]
        head = f"{whole.protocol} on {_words(whole)}: {_short(metric)}"
        table.add_row(_text(head, "bold"), *map(_text, (_with_interval(whole), str(whole.n))))
        for part in parts[:MAX_SUBGROUPS]:
            cells = (f"  {part.subgroup}", _with_interval(part), str(part.n))
            table.add_row(*map(_text, cells))
        if len(parts) > MAX_SUBGROUPS:
            table.add_row(_text(f"  … and {len(parts) - MAX_SUBGROUPS} more", "dim"))
        below += parts[:MAX_SUBGROUPS]
    _tell_reasons(table, below)
    return table


def summary_table(results: Sequence[Result]) -> "Table":
    """Models and datasets of a sweep: for every task its first headline metric, model by model.

    Of the tasks on one modality or all together only the latter, of a curve its end: the rest is in
    the reports.
    """
    table = _table("models by task")
    table.add_column("", overflow="fold")
    for name in ("value [CI]", "n", "chance", "simple"):
        table.add_column(name, justify="right", no_wrap=True)
    told: list[Result] = []
    for block in _blocks(_together([result for result in results if not result.subgroup])):
        metric = headlines(list(dict.fromkeys(result.metric for result in block)))[0]
        variant = _end(block)
        shown = [r for r in block if (r.metric, r.variant) == (metric, variant)]
        table.add_row(_text(f"{shown[0].protocol} on {_words(shown[0])}: {_short(metric)}", "bold"))
        for result in sorted(shown, key=lambda each: each.dataset):
            numbers = (number_text(v, metric) for v in (result.chance, result.simple_features))
            name = f"  {result.model} on {result.dataset}"
            row = (name, _with_interval(result), str(result.n), *numbers)
            table.add_row(*map(_text, row))
        told += shown
    _tell_reasons(table, told)
    return table


def comparison_tables(comparison: "Comparison") -> "list[Table]":
    """A table a model: its headline metrics beside those of the baseline, and the verdict."""
    return [_comparison_table(comparison, model) for model in comparison.models]


def _comparison_table(comparison: "Comparison", model: str) -> "Table":
    found = [d for d in comparison.differences if d.model == model]
    mark = " (synthetic data)" if comparison.synthetic else ""
    table = _table(f"{model} minus {comparison.baseline}\non {comparison.dataset}{mark}")
    level = round(100 * found[0].ci_level) if found else 95
    columns = ("base", "model", f"difference [{level} % CI]", "p", "verdict")
    tasks: dict[tuple[str, ...], list[Difference]] = {}
    for d in found:
        tasks.setdefault(d.task, []).append(d)
    lines, reasons = [], dict[tuple[str, str], list[str]]()
    for group in tasks.values():
        first, words = group[0], _words(group[0])
        names = comparison.metrics or headlines([d.metric for d in group], first.variant)
        shown = [d for d in group if d.metric in names]
        if all(d.missing for d in group):
            why = f"missing, because {first.missing}"
            reasons.setdefault((first.protocol, why), []).append(words)
            continue
        lines.append((first.protocol, _name_lines(first), list(map(_compared, shown))))
        for d in shown:
            if d.missing or (d.p_value is None and d.ci_missing):
                why = "missing" if d.missing else "no p"
                asked = first.protocol, f"{why}, because {d.missing or d.ci_missing}"
                reasons.setdefault(asked, []).append(f"{words} {_short(d.metric)}")
    _add_protocols(table, columns, lines)
    counts = sorted({(d.n, d.n_groups) for d in found if d.missing is None})
    rows = ", ".join(f"{n} rows of {n_groups} groups" for n, n_groups in counts)
    tests = sum(d.p_adjusted is not None for d in comparison.differences)
    correction = f"p after Holm's correction for {tests} tests; undecided does not mean equal"
    told = [f"{rows}; {correction}" if rows else "no test row can be compared", *_told(reasons)]
    table.caption = _text("\n".join(told), style="dim")
    table.caption_justify = "left"
    return table


def _compared(d: "Difference") -> tuple[str, ...]:
    """Metric, both values, their difference with its interval, p and verdict."""
    if d.difference is None:
        return _short(d.metric), "", "", MISSING, "", ""
    numbers = (number_text(value, d.metric) for value in (d.baseline_value, d.value))
    difference = f"{'+' if d.difference > 0 else ''}{number_text(d.difference, d.metric)}"
    low, high = (number_text(end, d.metric) for end in (d.ci_low, d.ci_high))
    interval = difference if d.ci_low is None else f"{difference} [{low}, {high}]"
    p = NONE if d.p_adjusted is None else f"{d.p_adjusted:.3f}"
    p = "<.001" if p == "0.000" else p
    return _short(d.metric), *numbers, interval, p, d.verdict


def number_text(value: float | None, metric: str) -> str:
    """With the decimals of the metric; a dash where there is no number."""
    if value is None:
        return NONE
    decimals = METRICS[metric].decimals if metric in METRICS else 3
    return f"{value:.{decimals}f}"


def _rows(block: Sequence[Result], room: int | None) -> list[tuple[str, ...]]:
    """The lines of one block: metric, value, n and baselines; or that it was not run, and why.

    Args:
        block: Results of one protocol, inputs and target.
        room: Lines of a task that there is room for; None: for any.
    """
    variants: dict[str, list[Result]] = {}
    for result in block:
        variants.setdefault(result.variant, []).append(result)
    shown = list(variants.items())
    if room is not None and len(shown) > 2:
        ends = {shown[0][0], _end(block)}
        shown = [each for each in shown if each[0] in ends]
    return [
        row
        for variant, results in shown
        for row in _rows_of_task(variant, results, 1 if variant else room)
    ]


def _end(block: Sequence[Result]) -> str:
    """Of a curve the last variant that has a value."""
    return next((r.variant for r in reversed(block) if r.missing is None), block[-1].variant)


def _rows_of_task(
    variant: str, results: Sequence[Result], room: int | None
) -> list[tuple[str, ...]]:
    reasons = {result.missing for result in results}
    if None not in reasons and len(reasons) == 1:
        return [(variant or "not run", MISSING, str(results[0].n), "", "", "")]
    names = headlines([result.metric for result in results])[:room]
    return [
        (
            f"{_short(result.metric)} {variant}".strip(),
            _with_interval(result),
            str(result.n),
            number_text(result.chance, result.metric),
            number_text(result.trivial, result.metric),
            number_text(result.simple_features, result.metric),
        )
        for result in results
        if result.metric in names
    ]


def _blocks(results: Sequence[Result]) -> list[list[Result]]:
    """Results of one protocol, inputs and target, in the order of their first appearance; the
    protocols, too, one after another."""
    groups: dict[str, dict[tuple[str, str], list[Result]]] = {}
    for result in results:
        tasks = groups.setdefault(result.protocol, {})
        tasks.setdefault((result.inputs, result.target), []).append(result)
    return [block for tasks in groups.values() for block in tasks.values()]


def _together(results: Sequence[Result]) -> list[Result]:
    """Where a model was judged on all modalities together, the results of a protocol and target on
    these alone."""

    def asked(result: Result) -> tuple[str, ...]:
        return result.model, result.dataset, result.protocol, result.target

    whole = {asked(result) for result in results if result.inputs == ALL}
    return [r for r in results if r.inputs == ALL or asked(r) not in whole]


def _add_protocols(
    table: "Table",
    columns: Sequence[str],
    lines: Sequence[tuple[str, Sequence[str], Sequence[Sequence[str]]]],
) -> None:
    """Columns, and the lines of every task below the heading of its protocol. Names of tasks and
    metrics share the first column, so that a heading has the room of both.

    Args:
        table: Without columns.
        columns: Behind the first one.
        lines: Of each task its protocol, the lines of its name, and the cells from its metrics on.
    """
    width = max((len(name) for _, names, _ in lines for name in names), default=0)
    table.add_column(f" {'inputs':<{width}} metric")
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    told = ""
    for protocol, names, rows in lines:
        if protocol != told:
            table.add_row(_text(protocol, "bold"))
            told = protocol
        for name, row in zip_longest(names, rows):
            metric, *cells = row or ("",)
            table.add_row(*map(_text, (f" {name or '':<{width}} {metric}".rstrip(), *cells)))


def _with_interval(result: Result) -> str:
    if result.value is None:
        return MISSING
    value, low, high = (
        number_text(number, result.metric)
        for number in (result.value, result.ci_low, result.ci_high)
    )
    return value if result.ci_low is None else f"{value} [{low}, {high}]"


def _tell_reasons(table: "Table", results: Sequence[Result]) -> None:
    """Below a table, why values are missing: once for metrics and tasks that share a reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in results:
        if result.missing is not None:
            where = " ".join(filter(None, (_words(result), result.subgroup)))
            wheres = reasons.setdefault((result.protocol, result.missing), [])
            wheres += [where] if where not in wheres else []
    if reasons:
        lines = _told({(p, f"missing, because {why}"): w for (p, why), w in reasons.items()})
        table.caption = _text("\n".join(lines), style="dim")
        table.caption_justify = "left"


def _name_lines(asked: "Result | Difference") -> list[str]:
    """The same in lines of their own, as a task has several metrics: the table fits 80 columns."""
    target = "" if asked.target == "label" else asked.target
    further = [f"  {words}" for words in (target, asked.variant) if words]
    inputs = asked.inputs.replace("->", "\n-> ").replace("+", "\n+")
    return [*inputs.split("\n"), *further]


def _words(asked: "Result | Difference") -> str:
    """Inputs, target and variant of a task."""
    target = "" if asked.target == "label" else asked.target
    return " ".join(filter(None, (asked.inputs, target, asked.variant)))


def _told(reasons: Mapping[tuple[str, str], Sequence[str]]) -> list[str]:
    """By protocol and reason, where it is so: a line a reason, whatever shares it."""
    wheres: dict[str, list[str]] = {}
    for (protocol, why), words in reasons.items():
        wheres.setdefault(why, []).append(f"{protocol} on {', '.join(words)}")
    return [f"{'; '.join(where)}: {why}" for why, where in wheres.items()]


def _short(metric: str) -> str:
    return SHORT.get(metric, metric)


def _title(results: Sequence[Result]) -> str:
    if not results:
        return ""
    mark = " (synthetic data)" if any(result.synthetic for result in results) else ""
    return f"{results[0].model} on {results[0].dataset}{mark}"


def _table(title: str) -> "Table":
    from rich import box
    from rich.table import Table

    return Table(
        title=_text(title, "bold"),
        title_justify="left",
        box=box.SIMPLE_HEAD,
        show_edge=False,
        padding=0,
    )


def _text(words: str, style: str = "") -> "Text":
    """Words that are shown as they are: names are not read as markup."""
    from rich.text import Text

    return Text(words, style=style)
