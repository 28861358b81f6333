"""The one schema of results, its file and its table."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING

from shared.errors import EvaluationError
from shared.evaluation.output import Setting
from shared.files import write_json

if TYPE_CHECKING:
    from rich.table import Table

RESULT_SCHEMA_VERSION = 1


@dataclass(frozen=True, kw_only=True)
class Result:
    """One metric of one protocol on one input.

    Attributes:
        protocol: Name of the protocol.
        protocol_version: A higher version may give other numbers.
        metric: Name of the metric.
        inputs: `photometry`, `photometry->spectra`, or `all`.
        value: The score; None where the protocol could not run.
        missing: Why there is no value.
        n: Test rows.
        n_per_class: Test rows of each class; may be empty.
        ci_low: Lower end of the interval.
        ci_high: Upper end of the interval.
        ci_level: Coverage of the interval.
        ci_method: How it was made.
        chance: Expected value of a guess.
        trivial: Value of the trivial baseline.
        trivial_name: What that is.
        simple_features: The same protocol on simple features; None where there are none.
        seeds: Of whatever was random.
        split: Judged on.
        dataset: Name of the data.
        synthetic: Whether the data are simulated.
        data_fingerprint: Of the data.
        model: What was judged.
        versions: Of the packages behind the number.
        seconds: The protocol took, over all its metrics.
        settings: What was chosen on the way.

    Raises:
        EvaluationError: A field of a wrong type, a number that is not finite, an interval that is
            not one, or a result with neither or both of value and reason.
    """

    protocol: str
    protocol_version: int
    metric: str
    inputs: str
    value: float | None
    n: int
    seeds: tuple[int, ...]
    split: str
    dataset: str
    synthetic: bool
    data_fingerprint: str
    model: str
    versions: Mapping[str, str]
    seconds: float
    missing: str | None = None
    n_per_class: Mapping[str, int] = field(default_factory=dict)
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float = 0.95
    ci_method: str = "none"
    chance: float | None = None
    trivial: float | None = None
    trivial_name: str = ""
    simple_features: float | None = None
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (kind, words) in _KINDS.items():
            value = getattr(self, name)
            right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
            if not right or (isinstance(value, float) and not math.isfinite(value)):
                raise EvaluationError(f"Result: {name} is {value!r}, expected {words}.")
        if (self.value is None) == (self.missing is None):
            raise EvaluationError(
                f"Result {self.protocol} {self.metric}: give either a value or, in 'missing', the "
                "reason why there is none."
            )
        if (self.ci_low is None) != (self.ci_high is None) or (
            self.ci_low is not None and self.ci_high is not None and self.ci_low > self.ci_high
        ):
            raise EvaluationError(
                f"Result {self.protocol} {self.metric}: [{self.ci_low}, {self.ci_high}] is no "
                "interval."
            )


_NUMBER = ((int, float, type(None)), "a finite number or null")
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(
        ("protocol", "metric", "inputs", "split", "dataset", "data_fingerprint", "model"),
        (str, "text"),
    ),
    **dict.fromkeys(("ci_method", "trivial_name"), (str, "text")),
    **dict.fromkeys(("protocol_version", "n"), (int, "a whole number")),
    **dict.fromkeys(("value", "ci_low", "ci_high", "chance", "trivial"), _NUMBER),
    "simple_features": _NUMBER,
    **dict.fromkeys(("seconds", "ci_level"), ((int, float), "a finite number")),
    **dict.fromkeys(("versions", "n_per_class", "settings"), (Mapping, "a mapping")),
    "missing": ((str, type(None)), "text or null"),
    "seeds": (tuple, "a list of whole numbers"),
    "synthetic": (bool, "true or false"),
}


def save_results(path: str | Path, results: Sequence[Result]) -> None:
    """Write results as JSON with the version of their schema; atomically, and never NaN."""
    content = {
        "schema_version": RESULT_SCHEMA_VERSION,
        "results": [asdict(result) for result in results],
    }
    try:
        write_json(Path(path), content)
    except (TypeError, ValueError) as error:
        raise EvaluationError(
            f"{path}: the results hold something that JSON has no word for ({error})."
        ) from error


def load_results(path: str | Path) -> list[Result]:
    """Read what `save_results` wrote.

    Raises:
        EvaluationError: Missing or damaged file, another schema version, or a result that lacks a
            field or has a wrong one.
    """
    path = Path(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise EvaluationError(f"{path}: there is no such file.") from error
    except (OSError, ValueError) as error:
        raise EvaluationError(f"{path}: not a readable JSON file ({error}).") from error
    if not isinstance(content, dict) or not isinstance(content.get("results"), list):
        raise EvaluationError(f"{path}: no list 'results'; expected a file of `zoo eval`.")
    if content.get("schema_version") != RESULT_SCHEMA_VERSION:
        raise EvaluationError(
            f"{path}: result schema version {content.get('schema_version')!r}; this zoo reads "
            f"version {RESULT_SCHEMA_VERSION}. Evaluate again, or use the zoo that wrote it."
        )
    return [_parse(item, f"{path}: result {i}") for i, item in enumerate(content["results"])]


def _parse(item: object, where: str) -> Result:
    if not isinstance(item, dict):
        raise EvaluationError(f"{where} is not a JSON object.")
    names = {f.name for f in fields(Result)}
    if names != set(item):
        raise EvaluationError(
            f"{where}: missing fields {sorted(names - set(item))}, unknown fields "
            f"{sorted(set(item) - names)}."
        )
    seeds = item["seeds"]
    if not isinstance(seeds, list) or not all(type(seed) is int for seed in seeds):
        raise EvaluationError(f"{where}: seeds is {seeds!r}, expected a list of whole numbers.")
    try:
        return Result(**{**item, "seeds": tuple(seeds)})
    except EvaluationError as error:
        raise EvaluationError(f"{where}: {error}") from error


HEADLINES = ("accuracy", "balanced_accuracy", "recall@1", "recall@10")


def results_table(results: Sequence[Result], metrics: Sequence[str] = HEADLINES) -> "Table":
    """The headline metrics side by side with chance, the trivial baseline and simple features.

    Metrics that are missing for one reason share a row.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    first = results[0] if results else None
    title = "" if first is None else f"{first.model} on {first.dataset}"
    if any(result.synthetic for result in results):
        title += " (synthetic data)"
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, pad_edge=False, padding=0)
    level = 95 if first is None else round(100 * first.ci_level)
    table.add_column("inputs")
    table.add_column("metric")
    for name in (f"value [{level} % CI]", "n", "chance", "trivial", "simple"):
        table.add_column(Text(name), justify="right", no_wrap=True)
    told: set[str] = set()
    for protocol, inputs, group in _grouped(results):
        if protocol not in told:
            table.add_section()
            table.add_row("", Text(protocol, style="bold"))
        told.add(protocol)
        if group[0].missing is not None:
            table.add_row(Text(inputs), "not run", Text(group[0].missing), str(group[0].n))
            continue
        shown = [result for result in group if result.metric in metrics]
        # a pair of modalities takes two lines, as its two metrics do: the table fits 80 columns
        names = inputs.replace("->", "\n-> ").split("\n")
        for label, result in zip_longest(names, shown):
            if result is None:
                table.add_row(Text(label))
                continue
            baselines = (result.chance, result.trivial, result.simple_features)
            table.add_row(
                Text(label or ""),
                Text(result.metric),
                Text(_with_interval(result)),
                str(result.n),
                *(_number(value, result.metric) for value in baselines),
            )
    return table


def _grouped(results: Sequence[Result]) -> list[tuple[str, str, list[Result]]]:
    """Results by protocol and inputs, in the order of their first appearance."""
    groups: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        groups.setdefault((result.protocol, result.inputs), []).append(result)
    return [(protocol, inputs, group) for (protocol, inputs), group in groups.items()]


def _number(value: float | None, metric: str) -> str:
    """Ranks with one decimal, shares with three; a dash where there is no number."""
    if value is None:
        return "–"
    return f"{value:.1f}" if metric.endswith("rank") else f"{value:.3f}"


def _with_interval(result: Result) -> str:
    value, low, high = (
        _number(number, result.metric) for number in (result.value, result.ci_low, result.ci_high)
    )
    return value if result.ci_low is None else f"{value} [{low}, {high}]"
