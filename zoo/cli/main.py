"""Entry point: picks the verb, turns a user's mistake into one message and exit code 2."""

import importlib
import os
import sys
from collections.abc import Sequence

VERBS = {
    "train": ("train a model on built-in data or your own", "zoo.cli.train"),
    "eval": ("judge a model or a file of embeddings on labelled data", "zoo.cli.evaluate"),
    "compare": ("say whether a model is better than another on the same test rows",
                "zoo.cli.compare"),
    "embed": ("write embeddings of a dataset to Parquet or npz", "zoo.cli.embed"),
    "import": ("make a model of weights in the format of their authors", "zoo.cli.import_model"),
    "export": ("write a model as other programs read it", "zoo.cli.export"),
    "predict": ("write predicted classes of a dataset to CSV or Parquet", "zoo.cli.predict"),
    "list": ("names of models, datasets, encoders, …", "zoo.cli.listing"),
    "info": ("what a model takes, holds and may be used for", "zoo.cli.info"),
    "plugins": ("domains that are installed, and what is wrong with those that are not",
                "zoo.cli.plugins"),
    "doctor": ("what this machine offers, or what a run folder holds and whether it is whole",
               "zoo.cli.doctor"),
}  # fmt: skip

EXAMPLES = """examples:
  zoo train domain=astro                          train on built-in (synthetic) stars
  zoo eval model=runs/RUN                         judge it on held-out data
  zoo compare runs/eval-A runs/eval-B             is B better than A?
  zoo embed model=runs/RUN out=stars.parquet      embeddings with ids
  zoo predict model=runs/RUN                      classes, by a model with a classifier
  zoo list models                                 what `zoo.load` knows
  zoo VERB --help                                 options and examples of a verb"""


def usage() -> str:
    """The text of `zoo --help`."""
    lines = ["usage: zoo VERB [KEY=VALUE …] [options]", "", "verbs:"]
    lines += [f"  {verb:<9}{summary}" for verb, (summary, _) in VERBS.items()]
    return "\n".join([*lines, "", EXAMPLES])


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; returns the exit code (0 done, 1 our fault, 2 the user's mistake)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(usage())
        return 0 if arguments else 2
    if arguments[0] == "--version":
        from importlib.metadata import version

        print(f"zoo {version('domain-zoo')}")
        return 0
    verb, rest = arguments[0], arguments[1:]
    from shared.errors import ZooError, suggest
    from shared.training.preemption import Preempted

    try:
        if verb not in VERBS:
            raise ZooError(f"There is no verb {verb!r}. {suggest(verb, VERBS)}")
        code: int = importlib.import_module(VERBS[verb][1]).run(rest)
        return code
    except ZooError as error:
        if "-v" in rest or "--verbose" in rest:
            raise
        from zoo.progress import harmless

        print(f"zoo: {harmless(str(error))}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print(f"zoo: {str(error) or 'interrupted'}", file=sys.stderr)
        return 130
    except Preempted as error:
        print(f"zoo: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # the reader (such as `head`) has gone; keep Python from complaining at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


if __name__ == "__main__":
    sys.exit(main())
