"""What `zoo eval` and `zoo embed` can be told, typed: configs/eval.yaml, configs/embed.yaml and
the Python API agree on it."""

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
class EvalConfig:
    """Evaluation of a model on data, or of a file of embeddings; see `EmbedConfig` for the rest.

    Attributes:
        embeddings: A file of embeddings and labels, instead of model and data.
        evaluator: Registered evaluator; None: the one of the model's domain.
        protocols: Names of protocols; None: those of the evaluator.
        seed: Of the bootstrap.
        n_resamples: Of the bootstrap.
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
    run_folder: str | None = None
    cache: bool = True
