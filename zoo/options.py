"""What `zoo eval`, `embed`, `predict` and `import` can be told, typed: configs/<verb>.yaml and the
Python API agree on it."""

from dataclasses import dataclass, field
from typing import Any


@dataclass
class EmbedConfig:
    """Extraction of embeddings.

    Attributes:
        model: Name, model folder, `timm:NAME`, `transformers:NAME` or `python:module:function`.
        data: `name` of the dataset and its settings; empty: the data of the run behind the model.
        weights: A model folder, or `random`.
        out: File to write.
        modalities: Modalities to embed; None: all that model and data share.
        output: `projected` or `pooled`.
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
        out: Folder to write; None: the cache, where `zoo.load(NAME)` finds it.
    """

    statistics: str | None = None
    classes: list[str] | None = None
    out: str | None = None


@dataclass
class EvalConfig:
    """Evaluation of a model on data, or of a file of embeddings; see `EmbedConfig` for the rest.

    Attributes:
        embeddings: A file of embeddings and labels, instead of model and data.
        evaluator: Registered evaluator; None: the one of the model's domain.
        protocols: Names of protocols; None: those of the evaluator.
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
