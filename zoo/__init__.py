"""Load, train and judge the foundation models of the sciences.

    import zoo

    model = zoo.load("runs/my-run/model")
    embeddings = model.embed(photometry=[curve, ...])

Only this package is public API. Nothing here imports torch until it is used.
"""

from typing import TYPE_CHECKING

from zoo._guard import check_packages

check_packages()

if TYPE_CHECKING:
    from shared.data.batch import Batch as Batch
    from shared.data.batch import View as View
    from shared.data.dataset import Dataset as Dataset
    from shared.data.dataset import Raw as Raw
    from shared.data.dataset import SampleTable as SampleTable
    from shared.data.dataset import hash_files as hash_files
    from shared.data.geotiff import read_geotiff as read_geotiff
    from shared.domain import Domain as Domain
    from shared.encoders.base import Embedding as Embedding
    from shared.encoders.base import Encoder as Encoder
    from shared.encoders.base import Fusion as Fusion
    from shared.errors import ConfigError as ConfigError
    from shared.errors import DataError as DataError
    from shared.errors import SchemaError as SchemaError
    from shared.errors import ZooError as ZooError
    from shared.evaluation.embeddings.embedding_set import EmbeddingSet as EmbeddingSet
    from shared.evaluation.evaluator import Evaluator as Evaluator
    from shared.evaluation.hygiene.duplicates import group_duplicates as group_duplicates
    from shared.evaluation.neighbours.similarity import similar as similar
    from shared.evaluation.outcomes import Outcome as Outcome
    from shared.evaluation.protocol import Output as Output
    from shared.evaluation.protocol import Protocol as Protocol
    from shared.evaluation.protocol import Task as Task
    from shared.evaluation.results.compare import compare as compare
    from shared.matching import Ranking as Ranking
    from shared.model import Model as Model
    from shared.model_entry import HubSource as HubSource
    from shared.model_entry import ModelEntry as ModelEntry
    from shared.objectives.base import Encoded as Encoded
    from shared.objectives.base import LossOutput as LossOutput
    from shared.objectives.base import Objective as Objective
    from shared.objectives.base import Position as Position
    from shared.objectives.base import Request as Request
    from shared.objectives.base import Tensors as Tensors
    from shared.objectives.base import Term as Term
    from shared.prediction import Predictions as Predictions
    from shared.preprocess import Prepared as Prepared
    from shared.preprocess import Preprocessor as Preprocessor
    from shared.random import fold_in as fold_in
    from shared.random import uniform as uniform
    from shared.schema import Adapter as Adapter
    from shared.schema import Channel as Channel
    from shared.schema import Schema as Schema
    from shared.training.preemption import Preempted as Preempted
    from zoo.api import dataset as dataset
    from zoo.api import embed as embed
    from zoo.api import predict as predict
    from zoo.api import train as train
    from zoo.catalog import list_models as list_models
    from zoo.evaluation import evaluate as evaluate
    from zoo.exporting import export as export
    from zoo.fine_tuning import fine_tune as fine_tune
    from zoo.loading import load as load

_HOMES = {
    "Adapter": "shared.schema",
    "Batch": "shared.data.batch",
    "Channel": "shared.schema",
    "compare": "shared.evaluation.results.compare",
    "ConfigError": "shared.errors",
    "DataError": "shared.errors",
    "Dataset": "shared.data.dataset",
    "dataset": "zoo.api",
    "Domain": "shared.domain",
    "embed": "zoo.api",
    "Embedding": "shared.encoders.base",
    "EmbeddingSet": "shared.evaluation.embeddings.embedding_set",
    "Encoded": "shared.objectives.base",
    "Encoder": "shared.encoders.base",
    "evaluate": "zoo.evaluation",
    "Evaluator": "shared.evaluation.evaluator",
    "export": "zoo.exporting",
    "fine_tune": "zoo.fine_tuning",
    "fold_in": "shared.random",
    "Fusion": "shared.encoders.base",
    "group_duplicates": "shared.evaluation.hygiene.duplicates",
    "hash_files": "shared.data.dataset",
    "HubSource": "shared.model_entry",
    "list_models": "zoo.catalog",
    "load": "zoo.loading",
    "LossOutput": "shared.objectives.base",
    "Model": "shared.model",
    "ModelEntry": "shared.model_entry",
    "Objective": "shared.objectives.base",
    "Outcome": "shared.evaluation.outcomes",
    "Output": "shared.evaluation.protocol",
    "Position": "shared.objectives.base",
    "predict": "zoo.api",
    "Predictions": "shared.prediction",
    "Preempted": "shared.training.preemption",
    "Prepared": "shared.preprocess",
    "Preprocessor": "shared.preprocess",
    "Protocol": "shared.evaluation.protocol",
    "Ranking": "shared.matching",
    "Raw": "shared.data.dataset",
    "read_geotiff": "shared.data.geotiff",
    "Request": "shared.objectives.base",
    "SampleTable": "shared.data.dataset",
    "Schema": "shared.schema",
    "SchemaError": "shared.errors",
    "similar": "shared.evaluation.neighbours.similarity",
    "Task": "shared.evaluation.protocol",
    "Tensors": "shared.objectives.base",
    "Term": "shared.objectives.base",
    "train": "zoo.api",
    "uniform": "shared.random",
    "View": "shared.data.batch",
    "ZooError": "shared.errors",
}

__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str) -> object:
    import importlib

    if name == "__version__":
        from importlib.metadata import version

        return version("domain-zoo")
    if name not in _HOMES:
        raise AttributeError(f"module 'zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
