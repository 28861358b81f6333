"""What a run folder or a model folder holds, and whether it is whole."""

import shlex
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from shared.data.skipping import FILE as SKIPPED
from shared.errors import (
    ConfigError,
    DependencyError,
    EvaluationError,
    PluginError,
    UnknownNameError,
    WeightsError,
    ZooError,
    first_line,
)
from shared.evaluation.results.result import LINES, PARQUET, by_task, load_results, read_results
from shared.run_folder import (
    BEST,
    CHECKPOINTS,
    CONFIG,
    ENVIRONMENT,
    LAST,
    METRICS,
    PREVIOUS,
    STATISTICS,
    is_training,
    leftovers,
    read_best,
    read_metrics,
    read_state,
    resume_point,
)
from shared.training.config import TrainConfig
from shared.untrusted import read_json
from shared.weights import FINGERPRINT, read_metadata, read_tensors
from zoo.cli.sweep import is_sweep
from zoo.config import load_yaml, typed
from zoo.options import EvalConfig

PREDICTIONS = "predictions"
WHOLE, DAMAGED, ABSENT, UNKNOWN, LEFT = "whole", "DAMAGED", "not there", "not checked", "left over"


@dataclass(frozen=True)
class Finding:
    """One file.

    Attributes:
        name: Within the folder.
        state: `whole`, `DAMAGED`, `not there`, `not checked` or `left over`.
        detail: What it holds, or what is wrong.
    """

    name: str
    state: str
    detail: str


@dataclass(frozen=True)
class Inspection:
    """A folder.

    Attributes:
        folder: Its path.
        state: `training` or `evaluating` (just now), `finished`, `resumable`, `not begun` (no
            checkpoint, no result yet), `weights only`, `model` or `lost` (nothing to go on from).
        detail: The same in words.
        findings: What was looked at.
        next: What to type next; empty where nothing helps.
    """

    folder: str
    state: str
    detail: str
    findings: tuple[Finding, ...]
    next: str

    @property
    def whole(self) -> bool:
        """Whether nothing is damaged."""
        return self.state != "lost" and all(f.state != DAMAGED for f in self.findings)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "whole": self.whole}


def inspect_folder(folder: Path) -> Inspection:
    """Look at everything in a run folder or a model folder; nothing in it is changed or run.

    Raises:
        ConfigError: It is neither.
    """
    if not folder.is_dir():
        raise ConfigError(f"There is no folder {folder}.")
    if _is_evaluation(folder):
        return _inspect_evaluation(folder)
    if (folder / CONFIG).exists() or (folder / CHECKPOINTS).exists():
        return _inspect_run(folder)
    if (folder / "config.json").exists() or (folder / "model.safetensors").exists():
        findings = _model_findings(folder, "")
        good = all(finding.state != DAMAGED for finding in findings)
        command = _command("zoo info", folder) if good else ""
        return Inspection(str(folder), "model", "a model folder", findings, command)
    if is_sweep(folder):
        raise ConfigError(
            f"{folder} is a sweep: name one of the runs in it. What it has not finished runs by "
            f"`zoo train resume={folder}` or `zoo eval resume={folder}`, whichever it is of."
        )
    raise ConfigError(
        f"{folder} is no run folder and no model folder: it has no {CONFIG}, no {CHECKPOINTS} and "
        "no config.json."
    )


def _inspect_run(folder: Path) -> Inspection:
    training = is_training(folder)
    findings = [
        _look(folder, CONFIG, _config, required=True),
        _look(folder, ENVIRONMENT, _json),
        _look(folder, STATISTICS, _json),
        _look(folder, METRICS, _metrics),
        *(_look(folder, f"{CHECKPOINTS}/{name}", _checkpoint) for name in (LAST, PREVIOUS)),
        _look(folder, f"{CHECKPOINTS}/{BEST}", _best),
    ]
    model = _model_findings(folder / "model", "model/") if (folder / "model").exists() else ()
    findings += model or [Finding("model", ABSENT, "the run has not ended")]
    findings += _result_findings(folder)
    if (folder / SKIPPED).exists():
        findings.append(_look(folder, SKIPPED, _size))
    if training:
        # what was replaced under the reader's eyes looks damaged
        findings = [
            Finding(f.name, UNKNOWN, "is being written")
            if f.state == DAMAGED and f.name.startswith((CHECKPOINTS, METRICS))
            else f
            for f in findings
        ]
        words, command = "a process is training in it now", _command("zoo doctor", folder)
        return Inspection(str(folder), "training", words, tuple(findings), command)
    findings += [
        Finding(str(path.relative_to(folder)), LEFT, f"{_size(path)}; deleted by a resume")
        for path in leftovers(folder)
    ]
    state, words, command = _state_of_run(folder, {f.name: f.state for f in findings}, model)
    return Inspection(str(folder), state, words, tuple(findings), command)


def _is_evaluation(folder: Path) -> bool:
    """Whether it is of `zoo eval`, whose config says what is judged and not what is trained."""
    try:
        content = load_yaml(folder / CONFIG)
    except ConfigError:
        return False
    return "embeddings" in content and "objective" not in content


def _inspect_evaluation(folder: Path) -> Inspection:
    findings = (
        _look(folder, CONFIG, _evaluation_config, required=True),
        _look(folder, ENVIRONMENT, _json),
        *_result_findings(folder),
    )
    if is_training(folder):
        words, command = "a process is evaluating into it now", _command("zoo doctor", folder)
        return Inspection(str(folder), "evaluating", words, findings, command)
    states = {finding.name: finding.state for finding in findings}
    if states[CONFIG] == DAMAGED:
        words = f"{CONFIG} is damaged: put it right, then the evaluation can go on"
        return Inspection(str(folder), "lost", words, findings, "")
    if states[PARQUET] == WHOLE and DAMAGED not in states.values():
        return Inspection(str(folder), "finished", "finished", findings, "")
    begun = states[LINES] != ABSENT
    state, words = ("resumable", "finished tasks are kept") if begun else ("not begun", "no result")
    return Inspection(str(folder), state, words, findings, _command("zoo eval", folder, "resume="))


def _result_findings(folder: Path) -> list[Finding]:
    """What an evaluation has left: every result, and the predictions behind them."""
    findings = [_look(folder, name, _results) for name in (LINES, PARQUET)]
    if findings[0].state == WHOLE:
        findings.append(_look(folder, PREDICTIONS, _predictions))
    return findings


def _state_of_run(
    folder: Path, states: Mapping[str, str], model: tuple[Finding, ...]
) -> tuple[str, str, str]:
    """State, the same in words, and the next command; `states` are those of the findings."""
    if model and all(finding.state in (WHOLE, UNKNOWN) for finding in model):
        return "finished", "finished", _command("zoo eval", folder, "model=")
    problem = ""
    try:
        point = resume_point(folder)
    except WeightsError as error:
        point, problem = None, str(error)
    resume = _command("zoo train", folder, "resume=")
    if (folder / CONFIG).is_file() and not problem:
        if states[CONFIG] == DAMAGED:
            return "lost", f"{CONFIG} is damaged: put it right, then the run can go on", ""
        if point and states[STATISTICS] != WHOLE:
            return "lost", f"{STATISTICS} is {states[STATISTICS]}: start the run anew", ""
        if point is None:
            return "not begun", "no checkpoint yet: a resume begins from the beginning", resume
        state = point.state
        words = f"resumable from epoch {state.epoch + 1}, step {state.step} of {state.total_steps}"
        return "resumable", " ".join([f"{words}.", *point.notes]), resume
    if (folder / CHECKPOINTS / BEST).is_file() and not problem:
        return "weights only", f"only weights: {CONFIG} is missing", ""
    return "lost", problem or f"nothing to go on from: {CONFIG} is missing", ""


def _look(folder: Path, name: str, check: Callable[[Path], str], required: bool = False) -> Finding:
    """What a check says of a file; what it raises is the damage."""
    path = folder / name
    if not path.exists():
        return Finding(name, DAMAGED if required else ABSENT, "missing" if required else "")
    try:
        return Finding(name, WHOLE, check(path))
    except (PluginError, UnknownNameError, DependencyError) as error:
        return Finding(name, UNKNOWN, str(error))
    except (ZooError, OSError, ValueError) as error:
        return Finding(name, DAMAGED, first_line(error))


def _config(path: Path) -> str:
    config = typed(TrainConfig, load_yaml(path))
    return f"{config.model.get('name')} on {config.data.get('name')}, seed {config.seed}"


def _evaluation_config(path: Path) -> str:
    config = typed(EvalConfig, load_yaml(path))
    return f"{config.model or config.embeddings}, seed {config.seed}"


def _results(path: Path) -> str:
    results, notes = read_results(path)
    if notes:
        raise EvaluationError(f"{len(results)} results and a torn line, which a resume drops")
    tasks = {(result.model, result.key) for result in results}
    return f"{len(results)} results of {len(tasks)} tasks"


def _predictions(path: Path) -> str:
    from shared.evaluation.results.store import check_predictions

    tasks = by_task(load_results(path.parent / LINES)).values()
    judged = [results for results in tasks if any(r.missing is None for r in results)]
    for results in judged:
        check_predictions(path.parent, results)
    return f"of {len(judged)} tasks"


def _json(path: Path) -> str:
    read_json(path)
    return _size(path)


def _metrics(path: Path) -> str:
    rows, good = read_metrics(path)
    if not good:
        raise WeightsError(
            f"{len(rows)} whole rows and something else, as after a kill; a resume drops it"
        )
    steps = f", last step {rows[-1][0]}" if rows else ""
    return f"{len(rows)} rows{steps}"


def _checkpoint(path: Path) -> str:
    state = read_state(path)
    return f"hash fits; epoch {state.epoch + 1}, step {state.step}; {_size(path)}"


def _best(path: Path) -> str:
    _, best = read_best(path)
    return f"fingerprint fits; epoch {best.epoch + 1}, value {best.value:.4g}; {_size(path)}"


def _model_findings(folder: Path, prefix: str) -> tuple[Finding, ...]:
    def load(path: Path) -> str:
        from zoo.loading import load as load_model

        model = load_model(path)
        return f"loads; {', '.join(model.modalities)}"

    whole = _look(folder.parent, folder.name, load)
    found = [
        _look(folder, name, check, required=True)
        for name, check in (
            ("config.json", _json),
            ("schema.json", _json),
            ("model.safetensors", _weights),
        )
    ]
    return (
        *(Finding(prefix + f.name, f.state, f.detail) for f in found),
        Finding(prefix or ".", whole.state, whole.detail),
    )


def _weights(path: Path) -> str:
    read_tensors(path)
    compared = "fingerprint fits" if FINGERPRINT in read_metadata(path) else "no fingerprint"
    return f"{compared}; {_size(path)}"


def _size(path: Path) -> str:
    size = float(path.stat().st_size)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GiB"


def _command(verb: str, folder: Path, key: str = "") -> str:
    # a name without a separator is a model's
    text = str(folder) if "/" in str(folder) else f"./{folder}"
    return f"{verb} {key}{shlex.quote(text)}"
