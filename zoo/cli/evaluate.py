"""`zoo eval`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from zoo.cli.parsing import override_parser, print_config, run_sweep

EXAMPLES = """examples:
  zoo eval model=runs/RUN                                   on the data it was trained on, held out
  zoo eval model=runs/RUN data=osc_supernovae data.root=PATH    on other data
  zoo eval embeddings=FILE.npz                              arrays `embeddings` and `labels`
  zoo eval model=timm:resnet18 data=image_folder data.root=PATH
  zoo eval model=transformers:PATH data=text_table data.root=FILE.csv
  zoo eval model=python:my_module:embed data=image_folder data.root=PATH
  zoo eval model=runs/RUN protocols=[linear_probe] n_resamples=10000
  zoo eval -m model=runs/A,runs/B                           a sweep"""


def run(argv: Sequence[str]) -> int:
    """Judge, print the table, write results and pictures."""
    parser = override_parser(
        "eval", "Judge a model or a file of embeddings on labelled data.", EXAMPLES
    )
    options = parser.parse_intermixed_args(argv)
    from zoo.config import compose_config, typed
    from zoo.options import EvalConfig

    def check(overrides: Sequence[str]) -> EvalConfig:
        return typed(EvalConfig, compose_config("eval", overrides))

    if options.multirun:
        return run_sweep("eval", options.overrides, check, options.dry_run)
    config = check(options.overrides)
    if options.dry_run:
        print_config(asdict(config))
        return 0
    from shared.data.skipping import FILE
    from shared.files import make_folder
    from zoo.api import evaluate_config, new_folder
    from zoo.cli.report import report, report_skipped

    judged = config.model or config.embeddings or ""
    name = Path(judged).stem.replace(":", "-")
    folder = new_folder(config.run_folder, f"eval-{name}")
    make_folder(folder.parent)
    evaluation = evaluate_config(config)
    report(evaluation, folder)
    report_skipped(evaluation.embeddings.skipped, folder / FILE)
    return 0
