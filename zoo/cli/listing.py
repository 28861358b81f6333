"""`zoo list`: imports no torch."""

import argparse
from collections.abc import Sequence

EXAMPLES = """examples:
  zoo list                     everything, by kind
  zoo list models              what `zoo.load` knows
  zoo list datasets --domain astro"""


def run(argv: Sequence[str]) -> int:
    """Print registered names by kind."""
    parser = argparse.ArgumentParser(
        prog="zoo list",
        description="Names of models, datasets, encoders, objectives, evaluators, …",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("kind", nargs="?", help="such as models or datasets; default: all")
    parser.add_argument("--domain", help="only what this domain registers")
    parser.add_argument("-v", "--verbose", action="store_true", help="show tracebacks")
    options = parser.parse_args(argv)
    from rich.table import Table

    from shared.errors import UnknownNameError, suggest
    from zoo.catalog import list_models, list_names
    from zoo.plugins import plugins
    from zoo.progress import console

    kinds = [registry.kind for registry in plugins().registries]
    kind = None
    if options.kind:
        kind = options.kind if options.kind in kinds else options.kind.removesuffix("s")
        if kind not in kinds:
            plural = [f"{k}s" for k in kinds]
            raise UnknownNameError(
                f"There is nothing called {options.kind!r} to list. {suggest(options.kind, plural)}"
            )
    domains = {p.name for p in plugins().found} | {"shared"}
    if options.domain and options.domain not in domains:
        raise UnknownNameError(
            f"There is no domain {options.domain!r}. {suggest(options.domain, domains)}"
        )
    if kind == "protocol":
        _print_protocols(options.domain)
        return 0
    table = Table()
    for column in ("kind", "name", "domain", "state"):
        table.add_column(column)
    variants = list_models(options.domain)
    for listed in list_names(kind, options.domain):
        names = [v for v in variants if v.split(":")[0] == listed.name]
        for name in names if listed.kind == "model" and names else [listed.name]:
            table.add_row(listed.kind, name, listed.domain, listed.problem or "ready")
    for plugin in plugins().found:
        if plugin.domain is None:
            table.add_row("domain", plugin.name, plugin.distribution, plugin.problem)
    console().print(table)
    return 0


def _print_protocols(domain: str | None) -> None:
    """What each asks, and what can be set of it; their modules are imported for that."""
    from rich.table import Table

    from shared.errors import PluginError
    from zoo.catalog import list_names
    from zoo.plugins import plugins
    from zoo.progress import console

    table = Table()
    for column in ("protocol", "what it is", "settings.<protocol>.…"):
        table.add_column(column, overflow="fold")
    for listed in list_names("protocol", domain):
        try:
            protocol = plugins().registries.protocols.get(listed.name)
        except PluginError as error:
            table.add_row(listed.name, str(error), "")
            continue
        table.add_row(listed.name, protocol.title, ", ".join(protocol.settings))
    console().print(table)
