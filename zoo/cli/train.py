"""`zoo train`."""

import shlex
from collections.abc import Sequence
from dataclasses import asdict

from zoo.cli.parsing import override_parser, print_config, resumed_folder

EXAMPLES = """examples:
  zoo train domain=astro                                    built-in synthetic stars
  zoo train domain=astro data=sdss_s82_rrlyrae data.root=PATH   published data
  zoo train domain=astro data=star_folder data.root=PATH        your own: a table + a file a star
  zoo train domain=astro optimizer.lr=3e-4 trainer.max_epochs=50 run_folder=runs/long
  zoo train domain=astro objective=[astrom3]                another loss
  zoo train domain=astro objective=[classification] 'model.classifier={}' init.weights=runs/RUN
                                                            fine-tune: docs/fine-tuning.md
  zoo train -m domain=astro seed=0,1,2                      a sweep
  zoo train resume=runs/RUN                                 go on after it was stopped or killed
  zoo train resume=runs/sweep-train-TIME                    what a sweep has not finished
  zoo train domain=astro --dry-run                          all settings, checked"""


def run(argv: Sequence[str]) -> int:
    """Train, judge on held-out data, say what to type next."""
    parser = override_parser("train", "Train a model on built-in data or your own.", EXAMPLES)
    options = parser.parse_intermixed_args(argv)
    overrides: list[str] = options.overrides
    from zoo.api import train_config
    from zoo.cli.sweep import is_sweep, resume_sweep, run_sweep

    if options.multirun:
        return run_sweep("train", overrides, train_config, options.dry_run)
    folder = resumed_folder(overrides)
    if folder is not None and is_sweep(folder):
        return resume_sweep("train", folder, train_config, options.dry_run)
    config = train_config(overrides)
    if options.dry_run:
        print_config(asdict(config))
        return 0
    from shared.data.skipping import describe_skipped, skipped_of
    from shared.evaluation.results.store import EvaluationStore
    from zoo.api import run_training
    from zoo.cli.report import next_lines, report
    from zoo.evaluation import evaluate
    from zoo.loading import is_path
    from zoo.progress import console

    trained = run_training(config, overrides)
    if not trained.is_main:
        return 0
    if config.evaluator and len(trained.dataset.indices("test")):
        report(
            evaluate(
                trained.model,
                trained.dataset,
                store=EvaluationStore(trained.folder),
                brief=True,
                evaluator=config.evaluator,
                cache=False,
            ),
            trained.folder,
            shlex.join(("zoo", "train", *overrides)),
        )
    for line in describe_skipped(skipped_of(trained.dataset)):
        console().print(line, highlight=False, markup=False)
    name = str(trained.folder) if is_path(str(trained.folder)) else f"./{trained.folder}"
    quoted = shlex.quote(name)
    predict = [f"zoo predict model={quoted}"] if trained.model.classifier is not None else []
    next_lines(
        [
            f"zoo eval model={quoted}",
            *predict,
            f"zoo embed model={quoted} out=embeddings.parquet",
            f"zoo info {quoted}",
            f'python -c "import zoo; print(zoo.load({name!r}).modalities)"',
            f"tensorboard --logdir {quoted}",
        ]
    )
    return 0
