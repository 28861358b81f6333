"""`zoo import`."""

import argparse
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from zoo.cli.parsing import print_config
from zoo.progress import console

EXAMPLES = """examples:
  zoo import astrom3 FOLDER statistics=info.json        config.json and model.safetensors
  zoo import astrom3:clip-42 model.safetensors          which variant it is to be
  zoo import astrom3:all FOLDER classes=[DSCT,EA]       names in the order of the logits
  zoo import astrom3 weights-best.pth out=models/mine   a plain state dict, to a folder of your own
  zoo import rs-clip:ViT-B-32 RS5M_ViT-B-32.pt          a file that does not tell its variant
  zoo import rs-clip FOLDER settings.image_size=448     for images of another size

statistics: what the authors' preprocessing learned; where there is such, the model takes samples as
measured with it, and without it samples that are preprocessed already."""


def run(argv: Sequence[str]) -> int:
    """Make a model folder of weights that other people's code wrote."""
    parser = argparse.ArgumentParser(
        prog="zoo import",
        description="Make a model folder of weights in the format of their authors.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", help="model or model:variant; see `zoo list models`")
    parser.add_argument("file", help="folder or file of the authors; see `zoo info MODEL`")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # else argparse counts it among the required ones
        metavar="KEY=VALUE",
        help="statistics=…, classes=[…], settings.KEY=…, out=…",
    )
    parser.add_argument("--dry-run", action="store_true", help="print all settings, run nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    options = parser.parse_intermixed_args(argv)
    from zoo.config import compose_config, typed
    from zoo.importing import import_files, samples_taken
    from zoo.loading import find_model
    from zoo.options import ImportConfig

    config = typed(ImportConfig, compose_config("import", options.overrides))
    entry, variant = find_model(options.model)
    if options.dry_run:
        print_config(asdict(config))
        return 0
    family, named, _ = options.model.partition(":")
    path = Path(options.file).expanduser()
    model, folder = import_files(
        entry, family, variant if named else None, path, config, f"`{path.name or path}`"
    )
    from zoo.cli.report import next_lines

    ours = model.config.name if config.out is None else _as_path(folder)
    console().print(
        f"{model.config.name}: {', '.join(model.modalities)}; "
        f"{sum(p.numel() for p in model.parameters()):,} parameters; takes "
        f"{samples_taken(entry, config)}",
        highlight=False,
    )
    console().print(f"written to {folder}", highlight=False)
    next_lines(
        [
            f"zoo info {shlex.quote(ours)}",
            f"zoo embed model={shlex.quote(ours)} data=NAME data.root=PATH out=embeddings.parquet",
            f'python -c "import zoo; print(zoo.load({ours!r}).schemas)"',
        ]
    )
    return 0


def _as_path(folder: Path) -> str:
    from zoo.loading import is_path

    return str(folder) if is_path(str(folder)) else f"./{folder}"
