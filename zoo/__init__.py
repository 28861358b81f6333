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
    from shared.data.dataset import Dataset, SampleTable
    from shared.domain import Domain
    from shared.encoders.base import Embedding, Encoder
    from shared.errors import ZooError
    from shared.evaluation.evaluator import Evaluator
    from shared.model import Model
    from shared.model_entry import HubSource, ModelEntry
    from shared.objectives.base import LossOutput, Objective, Request, Tensors, Term
    from shared.preprocess import Preprocessor
    from shared.schema import Adapter, Channel, Schema
    from zoo.api import dataset, embed, evaluate, train
    from zoo.catalog import list_models
    from zoo.loading import load

_HOMES = {
    "Adapter": "shared.schema",
    "Channel": "shared.schema",
    "Dataset": "shared.data.dataset",
    "Domain": "shared.domain",
    "Embedding": "shared.encoders.base",
    "Encoder": "shared.encoders.base",
    "Evaluator": "shared.evaluation.evaluator",
    "HubSource": "shared.model_entry",
    "LossOutput": "shared.objectives.base",
    "Model": "shared.model",
    "ModelEntry": "shared.model_entry",
    "Objective": "shared.objectives.base",
    "Preprocessor": "shared.preprocess",
    "Request": "shared.objectives.base",
    "SampleTable": "shared.data.dataset",
    "Schema": "shared.schema",
    "Tensors": "shared.objectives.base",
    "Term": "shared.objectives.base",
    "ZooError": "shared.errors",
    "dataset": "zoo.api",
    "embed": "zoo.api",
    "evaluate": "zoo.api",
    "list_models": "zoo.catalog",
    "load": "zoo.loading",
    "train": "zoo.api",
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
