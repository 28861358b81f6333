"""The one schema of results, and its files; docs/results.md explains it field by field."""

import hashlib
import json
import os
import platform
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from shared import environment
from shared.errors import EvaluationError, WriteError, first_line
from shared.evaluation.protocol import Setting
from shared.files import atomic_path, make_folder

RESULT_SCHEMA_VERSION = 2
LINES, PARQUET = "results.jsonl", "results.parquet"
PACKAGES = ("domain-zoo", "numpy", "scipy", "scikit-learn", "torch")
BETTER = ("higher", "lower", "")
_VERSION = "schema_version"


@dataclass(frozen=True, kw_only=True)
class Result:
    """One metric of one protocol on one task, over all test rows or over a subgroup of them.

    Attributes:
        key: Hash of all that determines the number, 16 hexadecimal digits: vectors, data, splits,
            task, protocol, settings, simple features, bootstrap. All metrics and subgroups of a
            task share it.
        protocol: Name of the protocol.
        protocol_version: A higher version may give other numbers.
        metric: Name of the metric.
        better: `higher` or `lower`; empty where neither is.
        inputs: `photometry`, `photometry->spectra`, or `all`.
        target: `label`, `tags` or the name of a regression target; empty: none.
        variant: What else tells tasks of one protocol apart, such as `shots=5`.
        subgroup: `hospital=A`; empty: all rows.
        value: The score; None where there is none.
        missing: Why there is no value.
        n: Test rows.
        n_groups: Independent units among them.
        n_per_class: Test rows of each class; may be empty.
        ci_low: Lower end of the interval.
        ci_high: Upper end of the interval.
        ci_level: Coverage of the interval.
        ci_method: How it was made.
        ci_missing: Why a value has no interval.
        chance: Expected value of a guess.
        trivial: Value of the trivial baseline.
        trivial_name: What that is.
        simple_features: The same protocol on simple features; None where there are none.
        seeds: Of what was random in the protocol, else of the bootstrap.
        seed_values: Value by seed, where the protocol has several.
        split: Judged on.
        split_fingerprint: Of which sample and group is in which split.
        dataset: Name of the data.
        synthetic: Whether the data are simulated.
        data_fingerprint: Of the data.
        model: What was judged.
        model_revision: Hash of the model; empty where it cannot be known.
        versions: Of the packages behind the number.
        seconds: The protocol took, over all its metrics.
        created: UTC time in ISO 8601.
        settings: What was asked for and what was chosen on the way.

    Raises:
        EvaluationError: A field of a wrong type, a number that is not finite, an interval that is
            not one, or a result with neither or both of value and reason.
    """

    key: str
    protocol: str
    protocol_version: int
    metric: str
    inputs: str
    value: float | None
    n: int
    n_groups: int
    seeds: tuple[int, ...]
    split: str
    split_fingerprint: str
    dataset: str
    synthetic: bool
    data_fingerprint: str
    model: str
    model_revision: str
    versions: Mapping[str, str]
    seconds: float
    created: str
    better: str = ""
    target: str = ""
    variant: str = ""
    subgroup: str = ""
    missing: str | None = None
    n_per_class: Mapping[str, int] = field(default_factory=dict)
    ci_low: float | None = None
    ci_high: float | None = None
    ci_level: float = 0.95
    ci_method: str = "none"
    ci_missing: str | None = None
    chance: float | None = None
    trivial: float | None = None
    trivial_name: str = ""
    simple_features: float | None = None
    seed_values: Mapping[str, float] = field(default_factory=dict)
    settings: Mapping[str, Setting] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (kind, words) in _KINDS.items():
            value = getattr(self, name)
            right = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
            # a whole number of JSON may be larger than any float
            number = isinstance(value, int | float)
            if not right or (number and not abs(value) <= sys.float_info.max):
                raise EvaluationError(f"Result: {name} is {value!r}, expected {words}.")
        if problem := self._contradiction():
            raise EvaluationError(f"Result {self.protocol} {self.metric}: {problem}.")

    @property
    def task(self) -> tuple[str, str, str, str]:
        """Protocol, inputs, target and variant: what was asked, whoever was judged."""
        return self.protocol, self.inputs, self.target, self.variant

    def _contradiction(self) -> str:
        """What in it cannot be, in words; empty where nothing is."""
        low, high = self.ci_low, self.ci_high
        if not re.fullmatch("[0-9a-f]{16}", self.key):
            return f"the key {self.key!r} is not of 16 hexadecimal digits"
        if self.better not in BETTER:
            return f"better is {self.better!r}, expected higher, lower or nothing"
        if (self.value is None) == (self.missing is None):
            return "give either a value or, in 'missing', the reason why there is none"
        if (low is None) != (high is None) or (low is not None and high is not None and low > high):
            return f"[{low}, {high}] is no interval"
        if self.value is not None and (low is None) != bool(self.ci_missing):
            return "give either an interval or, in 'ci_missing', the reason why there is none"
        try:
            datetime.fromisoformat(self.created)
        except ValueError:
            return f"created is {self.created!r}, expected a time such as {now()}"
        return ""


_NUMBER = ((int, float, type(None)), "a finite number or null")
_TEXTS = (
    *("key", "protocol", "metric", "better", "inputs", "target", "variant", "subgroup"),
    *("ci_method", "trivial_name", "split", "split_fingerprint", "dataset", "data_fingerprint"),
    *("model", "model_revision", "created"),
)
_MAPPINGS = ("n_per_class", "seed_values", "versions", "settings")
_KINDS: dict[str, tuple[type | tuple[type, ...], str]] = {
    **dict.fromkeys(_TEXTS, (str, "text")),
    **dict.fromkeys(("protocol_version", "n", "n_groups"), (int, "a whole number")),
    **dict.fromkeys(("value", "ci_low", "ci_high", "chance", "trivial"), _NUMBER),
    "simple_features": _NUMBER,
    **dict.fromkeys(("seconds", "ci_level"), ((int, float), "a finite number")),
    **dict.fromkeys(_MAPPINGS, (Mapping, "a mapping")),
    **dict.fromkeys(("missing", "ci_missing"), ((str, type(None)), "text or null")),
    "seeds": (tuple, "a list of whole numbers"),
    "synthetic": (bool, "true or false"),
}


def package_versions() -> dict[str, str]:
    """Of Python and the packages behind the numbers."""
    return {"python": platform.python_version(), **environment.package_versions(PACKAGES)}


def now() -> str:
    """UTC time to the second, in ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def merge(results: Iterable[Result]) -> list[Result]:
    """One of each key, metric and subgroup: the last, in the place of the first. Models that give
    the same vectors share keys, and stay apart by name."""
    return list({(r.model, r.dataset, r.key, r.metric, r.subgroup): r for r in results}.values())


def by_task(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Results by key, in the order of their first appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.key, []).append(result)
    return groups


def hash_results(results: Iterable[Result]) -> str:
    """16 hex digits, equal only for the same results in whatever order and at whatever time."""
    rows = ({**asdict(result), "seconds": 0, "created": ""} for result in results)
    lines = sorted(_json(row, LINES) for row in rows)
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def append_results(path: Path, results: Sequence[Result]) -> None:
    """Add lines to `results.jsonl` and see them on the disk; a torn last line is cut off before.

    Raises:
        WriteError: The file cannot be written.
        EvaluationError: A result holds something that JSON has no word for.
    """
    lines = _lines(path, results)
    make_folder(path.parent)
    try:
        with path.open("ab+") as file:
            file.seek(0)
            file.truncate(file.read().rfind(b"\n") + 1)
            file.write(lines)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WriteError(f"{path} cannot be written: {error.strerror or error}.") from error


def save_results(folder: Path, results: Sequence[Result]) -> None:
    """Write `results.jsonl` and, with the same rows, `results.parquet`; each atomically.

    Raises:
        WriteError: A file cannot be written.
        EvaluationError: A result holds something that JSON has no word for.
    """
    import pyarrow as pa
    from pyarrow import parquet

    lines = _lines(folder / LINES, results)
    columns = {
        f.name: [_cell(getattr(result, f.name)) for result in results] for f in fields(Result)
    }
    schema = pa.schema(
        [pa.field(name, getattr(pa, kind)()) for name, kind in _column_types().items()]
        + [pa.field("seeds", pa.list_(pa.int64()))],
        metadata={_VERSION: str(RESULT_SCHEMA_VERSION)},
    )
    with atomic_path(folder / LINES) as temporary:
        temporary.write_bytes(lines)
    with atomic_path(folder / PARQUET) as temporary:
        table = pa.table(columns, schema=schema)
        parquet.write_table(table, temporary, write_page_checksum=True)


def load_results(path: str | Path) -> list[Result]:
    """The results of a folder, a `.jsonl` or a `.parquet` file, merged.

    Raises:
        EvaluationError: Missing or damaged file, another schema version, or a result that lacks a
            field or has a wrong one.
    """
    return read_results(path)[0]


def read_results(path: str | Path) -> tuple[list[Result], list[str]]:
    """As `load_results`, with notes on what was left out: the last line of a killed run."""
    path = Path(path)
    if path.is_dir():
        found = [path / name for name in (LINES, "results.json") if (path / name).is_file()]
        path = found[0] if found else path / LINES
    if path.suffix == ".parquet":
        return merge(_read_parquet(path)), []
    if path.suffix == ".json":
        raise _wrong_version(path, 1)
    items, notes = read_lines(path)
    results = []
    for number, item in items:
        where = f"{path}: line {number}"
        version = item.pop(_VERSION, None)
        if version != RESULT_SCHEMA_VERSION:
            raise _wrong_version(where, version)
        results.append(_parse(item, where))
    return merge(results), notes


def read_lines(path: Path) -> tuple[list[tuple[int, dict[str, Any]]], list[str]]:
    """JSON objects with the numbers of their lines, and a note where the last one was torn: a kill
    can cut it, and a machine that goes down can leave zeros.

    Raises:
        EvaluationError: There is no such file, or another line is damaged.
    """
    try:
        content = path.read_bytes().rstrip(b"\0")
    except FileNotFoundError as error:
        raise EvaluationError(f"{path}: there is no such file.") from error
    except OSError as error:
        raise EvaluationError(f"{path} cannot be read: {error.strerror or error}.") from error
    *whole, torn = content.split(b"\n")
    items = []
    for number, line in enumerate(whole, 1):
        try:
            item = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise EvaluationError(
                f"{path}: line {number} is damaged ({first_line(error)}). Delete it and go on "
                "with the evaluation by resume."
            ) from error
        if not isinstance(item, dict):
            raise EvaluationError(f"{path}: line {number} is not a JSON object.")
        items.append((number, item))
    note = f"{path}: line {len(items) + 1} was torn by a kill and is left out."
    return items, [note] if torn else []


def _read_parquet(path: Path) -> list[Result]:
    from pyarrow import ArrowException, parquet

    try:
        table = parquet.read_table(path, page_checksum_verification=True)
        rows = table.to_pylist()
    except FileNotFoundError as error:
        raise EvaluationError(f"{path}: there is no such file.") from error
    except (OSError, ArrowException, ValueError) as error:
        raise EvaluationError(f"{path}: not a readable Parquet file ({first_line(error)}).") from (
            error
        )
    version = (table.schema.metadata or {}).get(_VERSION.encode(), b"none").decode()
    if version != str(RESULT_SCHEMA_VERSION):
        raise _wrong_version(path, version)
    results = []
    for number, row in enumerate(rows, 1):
        where = f"{path}: row {number}"
        try:
            row |= {name: json.loads(row[name]) for name in _MAPPINGS if name in row}
        except (ValueError, TypeError, RecursionError) as error:
            raise EvaluationError(f"{where}: {first_line(error)}.") from error
        results.append(_parse(row, where))
    return results


def _wrong_version(where: object, version: object) -> EvaluationError:
    return EvaluationError(
        f"{where}: result schema version {version}; this zoo reads version "
        f"{RESULT_SCHEMA_VERSION}. Evaluate again, or use the zoo that wrote it."
    )


def _parse(item: dict[str, Any], where: str) -> Result:
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


def _lines(path: Path, results: Sequence[Result]) -> bytes:
    """One JSON object a line, each with the version of the schema, so that files can be joined."""
    rows = [{_VERSION: RESULT_SCHEMA_VERSION, **asdict(result)} for result in results]
    return "".join(_json(row, str(path)) + "\n" for row in rows).encode()


def _json(data: object, where: str) -> str:
    """One line of JSON, the same for the same data where the keys are; NaN is refused."""
    try:
        return json.dumps(data, allow_nan=False, ensure_ascii=False, sort_keys=True)
    except (TypeError, ValueError) as error:
        raise EvaluationError(
            f"{where}: the results hold something that JSON has no word for ({error})."
        ) from error


def _cell(value: object) -> object:
    """A mapping as JSON text, which every reader of Parquet can show and query."""
    if isinstance(value, Mapping):
        return _json(value, PARQUET)
    return list(value) if isinstance(value, tuple) else value


def _column_types() -> dict[str, str]:
    """Arrow's type of every column but `seeds`."""
    types: dict[str, str] = dict.fromkeys((*_TEXTS, *_MAPPINGS, "missing", "ci_missing"), "string")
    types |= dict.fromkeys(("protocol_version", "n", "n_groups"), "int64")
    types["synthetic"] = "bool_"
    return {f.name: types.get(f.name, "float64") for f in fields(Result) if f.name != "seeds"}
