"""`zoo predict`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from zoo.cli.parsing import override_parser, print_config
from zoo.cli.report import report_skipped
from zoo.progress import console

if TYPE_CHECKING:
    from rich.table import Table

    from shared.prediction import Predictions

EXAMPLES = """examples:
  zoo predict model=runs/RUN                                its own data, to predictions.csv
  zoo predict model=runs/RUN split=test out=test.parquet
  zoo predict model=runs/RUN data=star_folder data.root=PATH out=stars.csv
  zoo predict model=runs/RUN modalities=[photometry] device=cuda precision=bfloat16"""


def run(argv: Sequence[str]) -> int:
    """Predict the classes of a dataset into a file."""
    parser = override_parser("predict", "Write predicted classes, with probabilities.", EXAMPLES)
    options = parser.parse_intermixed_args(argv)
    from shared.errors import ConfigError
    from zoo.config import compose_config, typed
    from zoo.options import PredictConfig

    if options.multirun:
        raise ConfigError("zoo predict writes one file: sweep in the shell.")
    config = typed(PredictConfig, compose_config("predict", options.overrides))
    if options.dry_run:
        print_config(asdict(config))
        return 0
    from shared.files import make_folder
    from shared.prediction import check_out
    from zoo.api import predict

    out = Path(config.out)
    check_out(out)
    make_folder(out.parent)
    settings = asdict(config)
    del settings["out"]
    predictions = predict(settings.pop("model"), settings.pop("data"), **settings)
    predictions.save(out)
    console().print(predictions_table(predictions))
    if predictions.without:
        console().print(
            f"left out, having none of {', '.join(predictions.present)}: {predictions.without}",
            highlight=False,
        )
    report_skipped(predictions.skipped, out.with_suffix(".skipped.json"))
    console().print(f"written to {out}", highlight=False)
    return 0


def predictions_table(predictions: "Predictions") -> "Table":
    """Predicted and labelled samples of each class, and the accuracy on every split."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"{predictions.model} on {predictions.dataset}"
    title += " (synthetic data)" if predictions.synthetic else ""
    table = Table(title=Text(title), box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("class")
    for name in ("predicted", "labelled", "of these right"):
        table.add_column(name, justify="right")
    for name in predictions.classes:
        predicted, true = predictions.predicted == name, predictions.labels == name
        numbers = (predicted.sum(), true.sum(), (predicted & true).sum())
        table.add_row(Text(name), *map(str, numbers))
    table.add_section()
    right = predictions.predicted == predictions.labels
    for split in ("train", "val", "test"):
        rows = predictions.judged & (predictions.splits == split)
        if rows.any():
            accuracy = f"{right[rows].mean():.3f}"
            table.add_row(f"accuracy, {split}", "", str(rows.sum()), accuracy)
    others = (predictions.labels != "") & ~predictions.judged
    if others.any():
        table.add_row("labels that are no class of the model", "", str(others.sum()), "")
    return table
