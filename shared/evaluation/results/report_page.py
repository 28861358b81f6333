"""One HTML page a run, and one a sweep: whole in itself, readable on a phone and on paper."""

import base64
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from shared.evaluation.embeddings.embedding_set import SPLIT
from shared.evaluation.metrics import METRICS
from shared.evaluation.pictures.kinds import KINDS, Kind, kind_of
from shared.evaluation.results.result import Result
from shared.evaluation.results.table import NONE, headlines, number_text
from shared.files import atomic_path

if TYPE_CHECKING:
    from shared.evaluation.run import Evaluation

PAGE = "report.html"
MAX_BYTES = 3_300_000
"""Of the pictures in a page, which base64 makes a third longer; further ones are linked."""
INCH = 96
"""CSS pixels."""
WIDE = 7.0
"""Inches; wider pictures are not squeezed into a narrow screen but scroll in their frame."""
FILES: Mapping[str, str] = {
    "results.jsonl": "every metric, one result a line",
    "results.parquet": "the same as a table",
    "predictions": "what was predicted for every test row",
    "outliers.csv": "test rows far from the centre of their class",
    "label_errors.csv": "labels to look at again",
    "duplicates.csv": "samples that are the same or nearly so",
    "skipped.json": "what was left out of the data, and why",
    "config.yaml": "what was asked for",
    "environment.json": "versions, seeds and fingerprints",
    "pictures": "the pictures of this page",
}
"""What may lie beside a page, in the order of its list."""


@dataclass(frozen=True)
class Row:
    """A line of a table of results; all text.

    Attributes:
        metric: Its title; empty where nothing was computed.
        value: With the decimals of the metric.
        interval: `[low, high]`; empty where there is none.
        n: Test rows.
        baselines: Chance, trivial, simple features.
        missing: Why there is no value; empty where there is one.
    """

    metric: str
    value: str
    interval: str
    n: str
    baselines: tuple[str, str, str]
    missing: str = ""


@dataclass(frozen=True)
class Block:
    """The tasks of one protocol.

    Attributes:
        title: Name of the protocol.
        about: What it does, in a line.
        tasks: Of each task its name (inputs, target, variant) and rows.
    """

    title: str
    about: str
    tasks: list[tuple[str, list[Row]]]


@dataclass(frozen=True)
class Shown:
    """A picture of a page.

    Attributes:
        name: Of the file.
        link: Where it lies, seen from the page.
        data: The PNG as a data URI; empty where the page would grow too large.
        width: CSS pixels.
        height: CSS pixels.
        wide: Whether it scrolls on narrow screens.
    """

    name: str
    link: str
    data: str
    width: int
    height: int
    wide: bool


@dataclass(frozen=True)
class Report:
    """One evaluation of a sweep.

    Attributes:
        name: What tells it from the others.
        link: Its page, seen from that of the sweep; empty where there is none.
        results: What it found.
        failed: Why it did not run to its end; empty where it did.
    """

    name: str
    link: str
    results: Sequence[Result] = field(default_factory=tuple)
    failed: str = ""


def save_page(
    path: str | Path, evaluation: "Evaluation", pictures: Sequence[Path] = (), command: str = ""
) -> None:
    """Write the page of a run: results with intervals and baselines, pictures, all it takes to make
    the numbers again. It needs no network, no script and none of the files beside it.

    Args:
        path: Of the page; its folder is made if it is not there. Files beside it that an evaluation
            writes are linked.
        evaluation: Of `evaluate_arrays`.
        pictures: Of `save_pictures`.
        command: What makes the same run again; empty: not told.

    Raises:
        WriteError: The page cannot be written.
    """
    path, embeddings = Path(path), evaluation.embeddings
    results = evaluation.results
    whole = [result for result in results if not result.subgroup]
    about = {run.protocol.name: run.protocol.title for run in evaluation.runs}
    _write(
        path,
        "report.html.j2",
        title=f"{embeddings.model} on {embeddings.dataset}",
        embeddings=embeddings,
        created=max((result.created for result in results), default="").replace("T", " "),
        counts={s: int((embeddings.splits == s).sum()) for s in ("train", "val", "test")},
        level=round(100 * whole[0].ci_level) if whole else 95,
        judged=_judged(whole),
        findings=evaluation.hygiene.findings,
        headline=list(_blocks(whole, about, every=False)),
        every=list(_blocks(whole, about, every=True)),
        subgroups=list(_blocks([r for r in results if r.subgroup], about, every=False)),
        sections=_sections(path.parent, pictures, _kinds(evaluation)),
        tasks=_tasks(whole),
        per_class=_per_class(whole),
        facts=_facts(whole, evaluation),
        methods=sorted({r.ci_method for r in whole if r.ci_low is not None}),
        without=_without_interval(whole),
        trivial=sorted({r.trivial_name for r in whole if r.trivial_name}),
        command=command,
        files=[(name, words) for name, words in FILES.items() if (path.parent / name).exists()],
    )


def save_index(path: str | Path, reports: Sequence[Report], title: str = "Sweep") -> None:
    """Write the page of a sweep: the first headline metric of every task, model by model.

    Args:
        path: Of the page.
        reports: One an evaluation.
        title: Above the page.

    Raises:
        WriteError: The page cannot be written.
    """
    tasks: dict[str, list[tuple[Report, Result]]] = {}
    for report in reports:
        whole = [result for result in report.results if not result.subgroup]
        for group in _grouped(whole, lambda result: result.task):
            metric = headlines([result.metric for result in group])[0]
            first = next(result for result in group if result.metric == metric)
            name = f"{first.protocol}, {_name(first)}: {_metric(metric)}"
            tasks.setdefault(name, []).append((report, first))
    _write(
        Path(path),
        "sweep.html.j2",
        title=title,
        reports=reports,
        tasks={
            name: [(report, result, _row(result)) for report, result in found]
            for name, found in tasks.items()
        },
    )


def _write(path: Path, template: str, **values: Any) -> None:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    folder = Path(__file__).parent / "templates"
    # names of classes, files and models are nobody's markup
    environment = Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["url"] = quote
    text = environment.get_template(template).render(**values)
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _grouped(results: Iterable[Result], key: Any) -> list[list[Result]]:
    """By a key, in the order of the first appearance."""
    groups: dict[Any, list[Result]] = {}
    for result in results:
        groups.setdefault(key(result), []).append(result)
    return list(groups.values())


def _blocks(results: Sequence[Result], about: Mapping[str, str], *, every: bool) -> Iterator[Block]:
    """Rows by protocol; the headline metrics of each task, or every one."""
    for of_protocol in _grouped(results, lambda result: result.protocol):
        tasks: list[tuple[str, list[Row]]] = []
        for task in _grouped(of_protocol, lambda result: (*result.task, result.subgroup)):
            tasks.append((_name(task[0]), _rows(task, every=every)))
        name = of_protocol[0].protocol
        yield Block(name, about.get(name, ""), list(_merged(tasks)))


def _merged(tasks: Sequence[tuple[str, list[Row]]]) -> Iterator[tuple[str, list[Row]]]:
    """Tasks with the same reason to be missing and the same n share a line."""
    names: dict[tuple[str, str], list[str]] = {}
    for name, rows in tasks:
        if not rows[0].metric:
            names.setdefault((rows[0].missing, rows[0].n), []).append(name)
    for name, rows in tasks:
        if rows[0].metric:
            yield name, rows
        elif together := names.pop((rows[0].missing, rows[0].n), None):
            yield "; ".join(together), rows


def _rows(task: Sequence[Result], *, every: bool) -> list[Row]:
    first = task[0]
    reasons = {result.missing for result in task}
    if None not in reasons and len(reasons) == 1:
        return [Row("", "", "", str(first.n), (NONE,) * 3, str(first.missing))]
    names = headlines([result.metric for result in task])
    # of a curve or a subgroup, one number a line is enough
    names = names[:1] if first.variant or first.subgroup else names
    return [_row(result) for result in task if every or result.metric in names]


def _row(result: Result) -> Row:
    interval = ""
    if result.ci_low is not None and result.ci_high is not None:
        ends = (number_text(end, result.metric) for end in (result.ci_low, result.ci_high))
        interval = f"[{', '.join(ends)}]"
    numbers = (result.chance, result.trivial, result.simple_features)
    chance, trivial, simple = (number_text(number, result.metric) for number in numbers)
    return Row(
        _metric(result.metric),
        number_text(result.value, result.metric),
        interval,
        str(result.n),
        (chance, trivial, simple),
        result.missing or "",
    )


def _name(result: Result) -> str:
    target = "" if result.target in ("", "label") else result.target
    parts = (result.inputs.replace("->", " → "), target, result.variant, result.subgroup)
    return ", ".join(filter(None, parts))


def _metric(name: str) -> str:
    return METRICS[name].title if name in METRICS else name


def _kinds(evaluation: "Evaluation") -> list[Kind]:
    """Those of the protocols that draw pictures of their own, then those that all have."""
    own = {run.protocol.name: run.protocol.pictures for run in evaluation.runs}
    return [*(pictures.kind for pictures in own.values() if pictures), *KINDS]


def _sections(
    folder: Path, pictures: Sequence[Path], kinds: Sequence[Kind]
) -> list[tuple[Kind, list[Shown]]]:
    """Pictures by kind, in the order of `kinds`, as long as there is room for them."""
    room = MAX_BYTES
    sections: list[tuple[Kind, list[Shown]]] = []
    for kind in kinds:
        shown = []
        for path in pictures:
            if kind_of(path.stem, kinds) is kind:
                content = path.read_bytes()
                fits = len(content) <= room
                room -= len(content) if fits else 0
                shown.append(_shown(folder, path, content, whole=fits))
        if shown:
            sections.append((kind, shown))
    return sections


def _shown(folder: Path, path: Path, content: bytes, *, whole: bool) -> Shown:
    from shared.evaluation.pictures import DPI

    inside = path.is_relative_to(folder)
    link = (path.relative_to(folder) if inside else Path(path.name)).as_posix()
    # PNG specification, 11.2.2: width and height stand first in the header chunk
    width, height = (round(side / DPI * INCH) for side in struct.unpack(">II", content[16:24]))
    data = f"data:image/png;base64,{base64.b64encode(content).decode()}" if whole else ""
    return Shown(path.name, link, data, width, height, wide=width > WIDE * INCH)


def _tasks(results: Sequence[Result]) -> list[tuple[str, str, str]]:
    """Of each task its name, seconds and settings."""
    found = []
    for task in _grouped(results, lambda result: result.task):
        first = task[0]
        settings = ", ".join(f"{name} = {_setting(v)}" for name, v in first.settings.items())
        name = f"{first.protocol} v{first.protocol_version}, {_name(first)}"
        found.append((name, f"{first.seconds:.2f}", settings))
    return found


def _without_interval(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Reasons why values have no interval, and the protocols where that is so."""
    protocols: dict[str, dict[str, None]] = {}
    for result in results:
        if result.value is not None and result.ci_missing:
            protocols.setdefault(result.ci_missing, {})[result.protocol] = None
    return [(reason, ", ".join(names)) for reason, names in protocols.items()]


def _judged(results: Sequence[Result]) -> str:
    """In words, which rows were judged."""
    splits = sorted({result.split for result in results})
    return "; ".join("the test split" if s == SPLIT else f"all samples, {s}" for s in splits)


def _setting(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _per_class(results: Sequence[Result]) -> Mapping[str, int]:
    """Test rows of each class, of the task that has most."""
    return max((r.n_per_class for r in results), key=lambda c: sum(c.values()), default={})


def _facts(results: Sequence[Result], evaluation: "Evaluation") -> list[tuple[str, str]]:
    """What it takes to know whether two numbers are of the same thing."""
    embeddings = evaluation.embeddings
    versions = dict(results[0].versions) if results else {}
    return [
        ("model", embeddings.model),
        ("model revision", embeddings.revision or "not known"),
        ("data", embeddings.dataset),
        ("data fingerprint", embeddings.fingerprint),
        ("split fingerprint", embeddings.split_fingerprint),
        ("seed of the bootstrap", str(evaluation.seed)),
        *((f"version of {name}", number) for name, number in versions.items()),
    ]
