"""`zoo info`: imports no torch."""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

EXAMPLES = """examples:
  zoo info star-clip            the card of a model
  zoo info star-clip:base       with the architecture of that variant
  zoo info runs/RUN             a model trained here"""


def run(argv: Sequence[str]) -> int:
    """Print card, inputs and architecture of a model."""
    parser = argparse.ArgumentParser(
        prog="zoo info",
        description="What a model takes, holds and may be used for.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("model", help="model, model:variant, or a model or run folder")
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    options = parser.parse_args(argv)
    from zoo.loading import is_path

    if is_path(options.model):
        _show_folder(options.model)
    else:
        _show_named(options.model)
    return 0


def _show_folder(name: str) -> None:
    from shared.model_config import read_model_json
    from zoo.loading import model_folder

    folder = model_folder(Path(name))
    config = read_model_json(folder, "config.json")
    for parts in config["modalities"].values():
        parts["preprocess"].pop("state", None)
    card = folder / "README.md"
    _print(card.read_text(encoding="utf-8") if card.is_file() else "", config)


def _show_named(name: str) -> None:
    from zoo.catalog import card_path
    from zoo.config import load_group
    from zoo.loading import find_model
    from zoo.paths import cache_folder

    entry, variant = find_model(name)
    family = name.partition(":")[0]
    cached = cache_folder(family, variant)
    if (cached / "config.json").is_file():
        _show_folder(str(cached))
        return
    card = card_path(family)
    text = card.read_text(encoding="utf-8") if card else "This model has no card.\n"
    _print(text, load_group("model", entry.variants[variant]))


def _print(card: str, architecture: dict[str, Any]) -> None:
    from rich.markdown import Markdown

    from zoo.progress import console

    header, found, body = card.partition("\n---\n")
    console().print(Markdown(body if found and header.startswith("---") else card), soft_wrap=False)
    console().print("\narchitecture:")
    console().print(json.dumps(architecture, indent=2), highlight=False, markup=False)
