"""`zoo plugins`."""

import argparse
from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    """Print every domain plugin, what brought it and whether it can be used."""
    parser = argparse.ArgumentParser(
        prog="zoo plugins",
        description="Domains that are installed. A plugin is a distribution with an entry point in "
        "the group zoo.domains; see docs/new-domain.md.",
        epilog="examples:\n  zoo plugins",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    parser.parse_args(argv)
    from rich.table import Table

    from zoo.plugins import plugins
    from zoo.progress import console

    table = Table()
    for column in ("domain", "from", "what", "state"):
        table.add_column(column)
    for plugin in plugins().found:
        title = plugin.domain.title if plugin.domain else ""
        table.add_row(plugin.name, plugin.distribution, title, plugin.problem or "ready")
    console().print(table)
    return 0
