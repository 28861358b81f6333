"""What there is: models and parts by domain, without importing any of them."""

from dataclasses import dataclass
from pathlib import Path

from shared.errors import PluginError
from shared.registry import Registry
from zoo.paths import data_folder
from zoo.plugins import plugins


@dataclass(frozen=True)
class Listed:
    """One name for `zoo list`.

    Attributes:
        kind: `model`, `dataset`, `encoder`, …
        name: What the user writes.
        domain: Which domain registered it.
        problem: Why it cannot be used now; empty when it can.
    """

    kind: str
    name: str
    domain: str
    problem: str = ""


def list_names(kind: str | None = None, domain: str | None = None) -> list[Listed]:
    """Registered names, of one kind and one domain or of all."""
    problems = {p.name: p.problem for p in plugins().found}
    listed = []
    for registry in plugins().registries:
        for entry in registry:
            owner = entry.domain
            if kind in (None, registry.kind) and domain in (None, owner):
                listed.append(Listed(registry.kind, entry.name, owner, problems.get(owner, "")))
    return listed


def list_models(domain: str | None = None) -> list[str]:
    """Names that `zoo.load` knows, each variant as `model:variant`."""
    names = []
    registry: Registry[object] = plugins().registries.models
    for listed in list_names("model", domain):
        if not listed.problem:
            try:
                entry = registry.get(listed.name)
            except PluginError:  # `zoo.load` and `zoo info` say why
                continue
            names += [f"{listed.name}:{v}" for v in entry.variants]  # type: ignore[attr-defined]
    return names


def card_path(model: str) -> Path | None:
    """The card of a model family, if there is one."""
    for folder in (data_folder("model_cards"), *plugins().card_folders()):
        path = folder / f"{model}.md"
        if path.is_file():
            return path
    return None
