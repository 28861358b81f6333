"""The plugin object of a domain."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

Table = Mapping[str, str]


@dataclass(frozen=True)
class Domain:
    """A field of science, as one light object: it imports nothing until a name is used.

    A distribution offers it through the entry-point group `zoo.domains`. Every table maps a name
    to a `module:attribute` reference.

    Attributes:
        name: One word, such as `astro`; `zoo train domain=<name>`.
        title: One line for `zoo list`.
        extra: The pip extra (`medical` in `pip install 'domain-zoo[medical]'`) or distribution
            that brings what the domain needs; empty when the base install does.
        requires: Import names the domain needs, checked without importing them.
        datasets: Subclasses of `Dataset`.
        adapters: `Adapter` objects.
        preprocessors: Subclasses of `Preprocessor`.
        encoders: Subclasses of `Encoder`.
        objectives: Subclasses of `Objective`.
        protocols: `Protocol` objects.
        evaluators: `Evaluator` objects.
        models: Names that `zoo.load` knows → Hydra file of the group `model`; see `ModelEntry`.
        configs: Folder with Hydra groups of the plugin; None for the built-in domains.
        cards: Folder with the model cards of the plugin; None for the built-in domains.
    """

    name: str
    title: str
    extra: str = ""
    requires: tuple[str, ...] = ()
    datasets: Table = field(default_factory=dict)
    adapters: Table = field(default_factory=dict)
    preprocessors: Table = field(default_factory=dict)
    encoders: Table = field(default_factory=dict)
    objectives: Table = field(default_factory=dict)
    protocols: Table = field(default_factory=dict)
    evaluators: Table = field(default_factory=dict)
    models: Table = field(default_factory=dict)
    configs: Path | None = None
    cards: Path | None = None
