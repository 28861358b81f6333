"""`zoo eval`."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.parsing import override_parser, print_config, resumed_folder

if TYPE_CHECKING:
    from zoo.options import EvalConfig

EXAMPLES = """examples:
  zoo eval model=runs/RUN                                   on the data it was trained on, held out
  zoo eval model=runs/RUN data=osc_supernovae data.root=PATH    on other data
  zoo eval embeddings=FILE.npz                              arrays `embeddings` and `labels`
  zoo eval model=timm:resnet18 data=image_folder data.root=PATH
  zoo eval model=transformers:PATH data=text_table data.root=FILE.csv
  zoo eval model=python:my_module:embed data=image_folder data.root=PATH
  zoo eval model=runs/RUN protocols=[linear_probe] n_resamples=10000
  zoo eval model=runs/RUN protocols=[few_shot] settings.few_shot.shots=[1,5,10]
  zoo eval embeddings=FILE.npz simple_features=SIMPLE.npz   with a baseline of your own beside it
  zoo eval resume=runs/eval-RUN                             go on after it was stopped or killed
  zoo eval -m model=runs/A,runs/B seed=0,1                  a sweep: every combination
  zoo eval -m embeddings=a.npz,b.npz                        files of embeddings, one after another
  zoo eval resume=runs/sweep-eval-TIME                      what a sweep has not finished
  zoo compare runs/eval-A runs/eval-B                       is B better than A?"""


def run(argv: Sequence[str]) -> int:
    """Judge, print the table, write results and pictures."""
    parser = override_parser(
        "eval", "Judge a model or a file of embeddings on labelled data.", EXAMPLES
    )
    options = parser.parse_intermixed_args(argv)
    from zoo.cli.sweep import is_sweep, resume_sweep, run_sweep
    from zoo.config import load_yaml, typed
    from zoo.options import EvalConfig

    if options.multirun:
        return run_sweep("eval", options.overrides, check, options.dry_run)
    folder = resumed_folder(options.overrides)
    if folder is not None and is_sweep(folder):
        return resume_sweep("eval", folder, check, options.dry_run)
    if folder is None:
        config = check(options.overrides)
    else:
        config = typed(EvalConfig, load_yaml(folder / "config.yaml"))
    if options.dry_run:
        print_config(asdict(config))
        return 0
    evaluate_into(folder, config, shlex.join(("zoo", "eval", *options.overrides)))
    return 0


def check(overrides: Sequence[str]) -> "EvalConfig":
    """The checked config of an evaluation, before anything is computed.

    Raises:
        ConfigError: An unknown key, a setting that its protocol does not have, a wrong value.
        UnknownNameError: A protocol that is not there.
    """
    from zoo.config import compose_config, typed
    from zoo.options import EvalConfig, check_evaluation
    from zoo.paths import absolute, make_paths_absolute

    config = typed(EvalConfig, compose_config("eval", overrides))
    check_evaluation(config)
    # the evaluation is resumed from other folders, too
    for key in ("embeddings", "simple_features"):
        if (path := getattr(config, key)) is not None:
            setattr(config, key, absolute(path))
    make_paths_absolute(config.data)
    return config


def evaluate_into(folder: Path | None, config: "EvalConfig", command: str) -> None:
    """Evaluate into a new folder, or go on in one that holds a part; leave nothing where a mistake
    stops it before the first task is finished."""
    from omegaconf import OmegaConf

    from shared.data.skipping import FILE
    from shared.errors import ZooError
    from shared.evaluation.results.result import LINES
    from shared.evaluation.results.store import EvaluationStore
    from shared.files import atomic_path
    from shared.folder_lock import LOCK, FolderLock, leftovers
    from zoo.api import new_folder
    from zoo.cli.report import report, report_skipped
    from zoo.evaluation import evaluate_config
    from zoo.progress import console

    if folder is None:
        judged = Path(config.model or config.embeddings or "").stem.replace(":", "-")
        folder = new_folder(config.run_folder, f"eval-{judged}", "eval")
    lock = FolderLock(folder, "evaluating")
    lock.take()
    for path in leftovers(folder):  # of a process that was killed, since the lock is ours
        path.unlink(missing_ok=True)
    saved = folder / "config.yaml"
    fresh = not saved.exists()
    try:
        store = EvaluationStore(folder)
        for note in store.notes:
            console().print(note, highlight=False)
        if fresh:
            with atomic_path(saved) as temporary:
                OmegaConf.save(OmegaConf.create(asdict(config)), temporary)
        evaluation = evaluate_config(config, store)
        if store.resumed:
            told = f"{store.resumed} of {len(evaluation.runs)} tasks were finished before"
            console().print(told, highlight=False)
        report(evaluation, folder, command)
        report_skipped(evaluation.embeddings.skipped, folder / FILE)
    except ZooError:
        if fresh and not (folder / LINES).exists():
            for path in (saved, folder / LOCK):
                path.unlink(missing_ok=True)
            if not any(folder.iterdir()):
                folder.rmdir()
        raise
    except KeyboardInterrupt as error:
        raise KeyboardInterrupt(
            f"interrupted; go on with: zoo eval resume={shlex.quote(str(folder))}"
        ) from error
    finally:
        lock.release()
