"""What all verbs but `train` can be told, typed: configs/<verb>.yaml and the Python API agree."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.errors import ConfigError
from shared.settings import check_value
from zoo.plugins import plugins


@dataclass
class EmbedConfig:
    """Extraction of embeddings.

    Attributes:
        model: Name, model folder, `timm:NAME`, `transformers:NAME` or `python:module:function`.
        data: `name` of the dataset and its settings; empty: the data of the run behind the model.
        weights: A model folder, or `random`.
        out: File to write.
        modalities: Modalities to embed; None: all that model and data share.
        output: `projected`, `unnormalized` or `pooled`.
        batch_size: Samples a forward pass.
        device: `auto`, `cpu`, `cuda`, …
        precision: `float32` or `bfloat16`.
        cache: Whether to keep and use extracted embeddings in `ZOO_HOME`.
    """

    model: str
    data: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    out: str = "embeddings.parquet"
    modalities: list[str] | None = None
    output: str = "projected"
    batch_size: int = 64
    device: str = "auto"
    precision: str = "float32"
    cache: bool = True


@dataclass
class PredictConfig:
    """Prediction of classes; see `EmbedConfig` for the rest.

    Attributes:
        model: Name or model folder, of a model with a classifier.
        out: File to write, .csv or .parquet; it must not be there.
        split: `train`, `val`, `test` or `all`.
        modalities: Modalities to read; None: all that model and data share.
    """

    model: str
    data: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    out: str = "predictions.csv"
    split: str = "all"
    modalities: list[str] | None = None
    batch_size: int = 64
    device: str = "auto"
    precision: str = "float32"


@dataclass
class ImportConfig:
    """Weights in the format of their authors → a model folder.

    Attributes:
        statistics: File with what the authors' preprocessing learned; None: the model takes
            preprocessed samples.
        classes: Names of the classes in the order of the logits; None: unknown.
        settings: Of the model's importer, such as `image_size`.
        out: Folder to write; None: the cache, where `zoo.load(NAME)` finds it.
    """

    statistics: str | None = None
    classes: list[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    out: str | None = None


@dataclass
class ExportConfig:
    """A model → files of another program.

    Attributes:
        format: Such as `transformers`.
        weights: As of `zoo.load`.
    """

    format: str = "transformers"
    weights: str | None = None


@dataclass
class EvalConfig:
    """Evaluation of a model on data, or of a file of embeddings; see `EmbedConfig` for the rest.

    Attributes:
        embeddings: A file of embeddings and labels, instead of model and data.
        evaluator: Registered evaluator; None: the one that the data name, else that of the model's
            domain.
        protocols: Names of protocols; None: those of the evaluator.
        settings: By name of a protocol, what differs from its own settings.
        folds: Judge every sample once, by what was learned without its fold; None: judge the test
            split.
        targets: Names of the regression targets that are predicted; None: all that the data have.
        subgroups: Names of the data's subgroups that are told one by one; None: all.
        templates: Prompts for zero-shot classification, with `{}` for the name of the class; None:
            those of the evaluator.
        class_names: What a class is called in a prompt, where it is not its own name.
        simple_features: A file of embeddings of the same ids, to stand beside every score; None:
            the simple features of the evaluator.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap.
        map: How embeddings are drawn in two dimensions, `tsne` or `umap`.
        run_folder: Where results and pictures go.
    """

    model: str | None = None
    data: dict[str, Any] = field(default_factory=dict)
    weights: str | None = None
    embeddings: str | None = None
    evaluator: str | None = None
    protocols: list[str] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    folds: int | None = None
    targets: list[str] | None = None
    subgroups: list[str] | None = None
    templates: list[str] | None = None
    class_names: dict[str, str] = field(default_factory=dict)
    simple_features: str | None = None
    modalities: list[str] | None = None
    output: str = "projected"
    batch_size: int = 64
    device: str = "auto"
    precision: str = "float32"
    seed: int = 0
    n_resamples: int = 1000
    map: str = "tsne"
    run_folder: str | None = None
    cache: bool = True


def check_evaluation(config: EvalConfig) -> None:
    """Hold names of protocols, their settings and the bootstrap against what there is, before any
    work.

    Raises:
        UnknownNameError: A protocol that is not there.
        ConfigError: A setting that its protocol does not have, or of another type than its default,
            or of a protocol that is not asked for; no protocol, or one twice; a number that is too
            small.
    """
    if config.seed < 0:
        raise ConfigError(f"seed={config.seed} has to be at least 0.")
    if config.n_resamples < 0 or config.n_resamples == 1:
        raise ConfigError(
            f"n_resamples={config.n_resamples} has to be at least 2, or 0 for no intervals."
        )
    if config.protocols is not None:
        _check_asked(config.protocols, config.settings)
    registry = plugins().registries.protocols
    for name in (*(config.protocols or ()), *config.settings):
        registry.entry(name)
    for name, given in config.settings.items():
        from shared.evaluation.run import merge_settings

        check_value(given, dict[str, Any], f"settings.{name}")
        protocol = registry.get(name)
        merge_settings(protocol, given)
        for key, value in given.items():
            where = f"settings.{name}.{key}"
            check_value(value, _kind_of(protocol.settings[key]), where)
            if value == []:
                raise ConfigError(f"{where}=[]: one value at least is needed.")
            if key == "seeds" and min(value) < 0:
                raise ConfigError(f"{where}={value}: seeds are at least 0.")


def _check_asked(protocols: list[str], settings: Mapping[str, Any]) -> None:
    if not protocols:
        raise ConfigError("protocols=[]: name one at least, or leave it out for the usual ones.")
    for name in protocols:
        if protocols.count(name) > 1:
            raise ConfigError(f"protocols: {name} stands there {protocols.count(name)} times.")
    for name in settings:
        if name in plugins().registries.protocols and name not in protocols:
            raise ConfigError(
                f"settings.{name}: {name} is not among protocols=[{','.join(protocols)}]."
            )


def _kind_of(default: object) -> Any:
    """The annotation that a default stands for; what is null may be anything."""
    if isinstance(default, list | tuple):
        return list[type(default[0])] if default else list  # type: ignore[misc]
    return Any if default is None else type(default)
