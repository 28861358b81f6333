"""`zoo embed`."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from zoo.cli.parsing import override_parser, print_config
from zoo.cli.report import report_skipped
from zoo.progress import console

EXAMPLES = """examples:
  zoo embed model=runs/RUN                                  its own data, to embeddings.parquet
  zoo embed model=runs/RUN data=star_folder data.root=PATH out=stars.npz
  zoo embed model=runs/RUN modalities=[spectra] output=pooled device=cuda precision=bfloat16"""


def run(argv: Sequence[str]) -> int:
    """Embed a dataset into a file."""
    parser = override_parser("embed", "Write embeddings of a dataset, with ids.", EXAMPLES)
    options = parser.parse_intermixed_args(argv)
    from shared.errors import ConfigError
    from zoo.config import compose_config, typed
    from zoo.options import EmbedConfig

    if options.multirun:
        raise ConfigError("zoo embed writes one file: sweep in the shell.")
    config = typed(EmbedConfig, compose_config("embed", options.overrides))
    if options.dry_run:
        print_config(asdict(config))
        return 0
    out = Path(config.out)
    if out.suffix not in (".parquet", ".npz"):
        raise ConfigError(f"out={config.out}: the suffix must be .parquet or .npz.")
    from shared.files import make_folder
    from zoo.api import embed

    make_folder(out.parent)
    settings = asdict(config)
    del settings["out"]
    embeddings = embed(settings.pop("model"), settings.pop("data"), **settings)
    embeddings.save(out)
    widths = ", ".join(
        f"{m} {int(embeddings.present[m].sum())} × {v.shape[1]}"
        for m, v in embeddings.vectors.items()
    )
    console().print(f"{len(embeddings)} samples of {embeddings.dataset}: {widths}", highlight=False)
    report_skipped(embeddings.skipped, out.with_suffix(".skipped.json"))
    console().print(f"written to {out}; judge it by: zoo eval embeddings={out}", highlight=False)
    return 0
