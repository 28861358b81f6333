"""Finds the domains through the entry-point group `zoo.domains` and fills the registries."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from importlib.util import find_spec
from pathlib import Path

from shared.domain import Domain
from shared.errors import PluginError
from shared.registry import Registries, is_reference

GROUP = "zoo.domains"
KINDS = (
    "datasets",
    "adapters",
    "preprocessors",
    "encoders",
    "objectives",
    "protocols",
    "evaluators",
    "models",
)

SHARED = Domain(
    name="shared",
    title="What needs no domain",
    datasets={
        "image_folder": "shared.data.generic:ImageFolder",
        "text_table": "shared.data.generic:TextTable",
        "webdataset": "shared.data.shards:WebDataset",
    },
    preprocessors={
        "clip_image": "shared.preprocessors.clip_image:CLIPImage",
        "clip_tokens": "shared.preprocessors.clip_tokens:CLIPTokens",
        "image": "shared.preprocessors.image:ImagePreprocessor",
        "sentencepiece_tokens": "shared.preprocessors.sentencepiece_tokens:SentencePieceTokens",
    },
    encoders={
        "bert_text": "shared.encoders.bert:BertText",
        "clip_text": "shared.encoders.clip:CLIPText",
        "clip_vision": "shared.encoders.clip:CLIPVision",
        "hf_text": "shared.encoders.hf_text:HFText",
        "joint_masked": "shared.encoders.joint_masked:JointMaskedTransformer",
        "label_patch_tokens": "shared.encoders.patch_tokens:LabelPatchTokens",
        "patch_tokens": "shared.encoders.patch_tokens:PatchTokens",
        "vit": "shared.encoders.vit:VisionTransformer",
    },
    objectives={
        "classification": "shared.objectives.classification:Classification",
        "contrastive": "shared.objectives.contrastive:Contrastive",
        "dinov2": "shared.objectives.dinov2:DINOv2",
        "distillation": "shared.objectives.distillation:Distillation",
        "filip": "shared.objectives.filip:FILIP",
        "local_global": "shared.objectives.local_global:LocalGlobal",
        "mae": "shared.objectives.mae:MAE",
        "masked_fusion": "shared.objectives.masked_fusion:MaskedFusion",
        "masked_series": "shared.objectives.masked_series:MaskedSeries",
        "multimae": "shared.objectives.multimae:MultiMAE",
        "sigmoid": "shared.objectives.sigmoid:Sigmoid",
        "supcon": "shared.objectives.supcon:SupCon",
    },
    protocols={
        "class_retrieval": "shared.evaluation.protocols.class_retrieval:PROTOCOL",
        "classifier": "shared.evaluation.protocols.classifier:PROTOCOL",
        "clustering": "shared.evaluation.protocols.clustering:PROTOCOL",
        "embedding_health": "shared.evaluation.protocols.embedding_health:PROTOCOL",
        "few_shot": "shared.evaluation.protocols.few_shot:PROTOCOL",
        "knn": "shared.evaluation.protocols.knn:PROTOCOL",
        "linear_probe": "shared.evaluation.protocols.linear_probe:PROTOCOL",
        "mean_recall": "shared.evaluation.protocols.retrieval:MEAN_RECALL",
        "modality_ablation": "shared.evaluation.protocols.modality_ablation:PROTOCOL",
        "nearest_centroid": "shared.evaluation.protocols.nearest_centroid:PROTOCOL",
        "nearest_neighbour": "shared.evaluation.protocols.knn:NEAREST_NEIGHBOUR",
        "retrieval": "shared.evaluation.protocols.retrieval:PROTOCOL",
        "ridge_probe": "shared.evaluation.protocols.ridge_probe:PROTOCOL",
        "similarity_search": "shared.evaluation.protocols.similarity_search:PROTOCOL",
        "zero_shot": "shared.evaluation.protocols.zero_shot:PROTOCOL",
    },
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

    @property
    def built_in(self) -> bool:
        """Whether this very distribution brings it."""
        return self.distribution.startswith("domain-zoo ")


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

    A plugin with a name that another one has is such a plugin: none of its names is registered,
    and to use the name they share is an error. The domains of this distribution come first.
    """
    registries = Registries()
    _register(SHARED, "shared (domain-zoo)", registries)
    found: list[Plugin] = []
    opened = [_open(point) for point in entry_points(group=GROUP)]
    for plugin in sorted(opened, key=lambda p: (not p.built_in, p.name, p.distribution)):
        twins = [other.distribution for other in found if other.name == plugin.name]
        if plugin.domain and twins:
            both = f"{twins[0]} and {plugin.distribution}"
            problem = f"{both} bring a domain of this name. Uninstall one of the two"
            plugin = replace(plugin, domain=None, problem=problem)
        elif plugin.domain:
            origin = f"domain {plugin.name} ({plugin.distribution})"
            if clash := _register(plugin.domain, origin, registries):
                plugin = replace(plugin, domain=None, problem=clash)
        found.append(plugin)
    return Plugins(tuple(found), registries)


def _open(point: EntryPoint) -> Plugin:
    distribution = f"{point.dist.name} {point.dist.version}" if point.dist else "unknown"
    try:
        domain = point.load()
        problem = _defect(domain, point)
        missing = [] if problem else [name for name in domain.requires if not _is_installed(name)]
    except Exception as error:  # a plugin may fail in any way; the others must go on
        remedy = f"Reinstall it: pip install --force-reinstall {distribution.split()[0]}"
        problem = f"{type(error).__name__}: {error}. {remedy}"
    if problem:
        return Plugin(point.name, distribution, None, problem)
    plugin = Plugin(point.name, distribution, domain)
    if missing:
        extra = domain.extra or distribution.split()[0]
        what = f"'domain-zoo[{extra}]'" if plugin.built_in else extra
        return replace(plugin, problem=f"needs {', '.join(missing)}: pip install {what}")
    return plugin


def _defect(domain: object, point: EntryPoint) -> str:
    """What is wrong with the object behind an entry point; empty when it is a whole `Domain`."""
    if not isinstance(domain, Domain):
        return f"{point.value} is a {type(domain).__name__}, not a zoo.Domain"
    if domain.name != point.name:
        return f"its entry point is called {point.name!r} but its Domain {domain.name!r}"
    for kind in KINDS:
        table: object = getattr(domain, kind)
        if not isinstance(table, Mapping):
            return f"its {kind} are a {type(table).__name__}, not a mapping name → 'module:name'"
        for name, target in table.items():
            if not isinstance(name, str) or not is_reference(target):
                return f"in its {kind}, {name!r} → {target!r} is not name → 'module:name'"
    if not isinstance(domain.requires, tuple | list):
        return f"its requires is {domain.requires!r}, not a tuple of import names"
    for folder in (domain.configs, domain.cards):
        if folder is None:
            continue
        if not isinstance(folder, Path):
            return f"its folder {folder!r} is a {type(folder).__name__}, not a pathlib.Path"
        if not folder.is_dir():
            brought_by = point.dist.name if point.dist else "it"
            return f"its folder {folder} is missing. Reinstall {brought_by}"
    return ""


def _is_installed(name: str) -> bool:
    return find_spec(name.partition(".")[0]) is not None


def _register(domain: Domain, origin: str, registries: Registries) -> str:
    """Register all names of a domain, or none where another origin has one of them.

    Returns:
        What clashes, naming both origins; empty when all are registered.
    """
    names = [
        (getattr(registries, kind), name, target)
        for kind in KINDS
        for name, target in getattr(domain, kind).items()
    ]
    clashes = [registry.dispute(name, origin) for registry, name, _ in names if name in registry]
    if not clashes:
        for registry, name, target in names:
            registry.add(name, target, origin, domain.name)
    return " ".join(clashes).rstrip(".")


def check_usable(domain: str) -> None:
    """Raise a PluginError with the install command when a known domain cannot be used."""
    for plugin in plugins().found:
        if plugin.name == domain and plugin.problem:
            raise PluginError(f"The domain {domain} cannot be used: {plugin.problem}.")
