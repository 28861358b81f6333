"""Finds the domains through the entry-point group `zoo.domains` and fills the registries."""

from dataclasses import dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from shared.domain import Domain
from shared.errors import PluginError
from shared.registry import Registries

GROUP = "zoo.domains"
KINDS = ("datasets", "adapters", "preprocessors", "encoders", "objectives", "evaluators", "models")

SHARED = Domain(
    name="shared",
    title="What needs no domain",
    datasets={
        "image_folder": "shared.data.generic:ImageFolder",
        "text_table": "shared.data.generic:TextTable",
    },
    objectives={"contrastive": "shared.objectives.contrastive:Contrastive"},
    evaluators={"default": "shared.evaluation.evaluator:DEFAULT"},
)


@dataclass(frozen=True)
class Plugin:
    """One domain as it was found.

    Attributes:
        name: Of the entry point.
        distribution: Name and version of what installed it.
        domain: None where it is broken.
        problem: Why it cannot be used, and what to do; empty when it can.
    """

    name: str
    distribution: str
    domain: Domain | None
    problem: str = ""


@dataclass(frozen=True)
class Plugins:
    """All plugins and what the usable ones registered."""

    found: tuple[Plugin, ...]
    registries: Registries

    def config_folders(self) -> list[Path]:
        """Hydra folders of plugins that bring their own."""
        return [p.domain.configs for p in self.found if p.domain and p.domain.configs]

    def card_folders(self) -> list[Path]:
        """Folders of model cards of plugins that bring their own."""
        return [p.domain.cards for p in self.found if p.domain and p.domain.cards]


@cache
def plugins() -> Plugins:
    """Discover once a process; a broken plugin is listed with its reason and breaks nothing.

    Raises:
        PluginError: Two plugins register the same name.
    """
    registries = Registries()
    _register(SHARED, "shared (domain-zoo)", registries)
    found = [_open(point) for point in sorted(entry_points(group=GROUP), key=lambda p: p.name)]
    for plugin in found:
        if plugin.domain:
            origin = f"domain {plugin.domain.name} ({plugin.distribution})"
            _register(plugin.domain, origin, registries)
    return Plugins(tuple(found), registries)


def _open(point: EntryPoint) -> Plugin:
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
    try:
        domain = point.load()
    except Exception as error:  # a plugin may fail in any way; the others must go on
        remedy = f"Reinstall it: pip install --force-reinstall {distribution.split()[0]}"
        problem = f"{type(error).__name__}: {error}. {remedy}"
        return Plugin(point.name, distribution, None, problem)
    if not isinstance(domain, Domain):
        problem = f"{point.value} is a {type(domain).__name__}, not a zoo.Domain"
        return Plugin(point.name, distribution, None, problem)
    if domain.name != point.name:
        problem = f"its entry point is called {point.name!r} but its Domain {domain.name!r}"
        return Plugin(point.name, distribution, None, problem)
    for folder in (domain.configs, domain.cards):
        if folder is not None and not folder.is_dir():
            problem = f"its folder {folder} is missing. Reinstall {distribution.split()[0]}"
            return Plugin(point.name, distribution, None, problem)
    missing = [name for name in domain.requires if find_spec(name.partition(".")[0]) is None]
    if missing:
        extra = domain.extra or distribution.split()[0]
        what = f"'domain-zoo[{extra}]'" if distribution.startswith("domain-zoo ") else extra
        return Plugin(
            point.name,
            distribution,
            domain,
            f"needs {', '.join(missing)}: pip install {what}",
        )
    return Plugin(point.name, distribution, domain)


def _register(domain: Domain, origin: str, registries: Registries) -> None:
    for kind in KINDS:
        registry = getattr(registries, kind)
        for name, target in getattr(domain, kind).items():
            registry.add(name, target, origin)


def check_usable(domain: str) -> None:
    """Raise a PluginError with the install command when a known domain cannot be used."""
    for plugin in plugins().found:
        if plugin.name == domain and plugin.problem:
            raise PluginError(f"The domain {domain} cannot be used: {plugin.problem}.")
