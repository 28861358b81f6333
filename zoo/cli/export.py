"""`zoo export`."""

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from zoo.cli.parsing import print_config
from zoo.progress import console

EXAMPLES = """examples:
  zoo export rs-clip:ViT-B-32 FOLDER            for CLIPModel.from_pretrained of transformers
  zoo export runs/RUN FOLDER format=open_clip   for open_clip's model name local-dir:FOLDER"""


def run(argv: Sequence[str]) -> int:
    """Write a model in a format of another library."""
    parser = argparse.ArgumentParser(
        prog="zoo export",
        description="Write a model as other programs read it.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", help="name, model folder or run")
    parser.add_argument("folder", help="where to; nothing is overwritten")
    parser.add_argument(
        "overrides",
        nargs="*",
        default=[],  # else argparse counts it among the required ones
        metavar="KEY=VALUE",
        help="format=…, weights=…",
    )
    parser.add_argument("--dry-run", action="store_true", help="print all settings, run nothing")
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    options = parser.parse_intermixed_args(argv)
    from zoo.config import compose_config, typed
    from zoo.exporting import export
    from zoo.options import ExportConfig

    config = typed(ExportConfig, compose_config("export", options.overrides))
    if options.dry_run:
        print_config(asdict(config))
        return 0
    folder = export(options.model, options.folder, **asdict(config))
    files = ", ".join(sorted(path.name for path in Path(folder).iterdir()))
    console().print(f"written to {folder}: {files}", highlight=False)
    return 0
