"""A name that `zoo.load` knows."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class HubSource:
    """Where published files lie.

    Attributes:
        repo: `owner/name` on the Hugging Face hub.
        revision: Commit; the newest when empty.
        files: Which of its files are meant; empty: a model's weights and config.
        repo_type: What the hub calls the repository.
    """

    repo: str
    revision: str = ""
    files: tuple[str, ...] = ()
    repo_type: Literal["model", "dataset"] = "model"


@dataclass(frozen=True)
class ModelEntry:
    """A family of models.

    Attributes:
        variants: Variant → file of the Hydra group `model`; the first is the default.
        dataset: Registered dataset whose schemas say what inputs it takes, alone or with its
            settings (`{"name": …, …}`); it needs no files.
        train: Command that makes weights, for the message when there are none: of every variant,
            which `model=FILE` is appended to, or variant → whole command.
        hub: Variant → published weights in this project's format.
        upstream: Variant → published weights in the format of the authors, which `importer` reads.
        statistics: Variant → one file with what the preprocessing of the authors' weights learned.
        importer: `module:attribute` of a function that makes a `Model` of the authors' files:
            `(path, registries, *, …)`, where `path` is a file or folder. It gets by name what it
            has a parameter for: `variant`, None where the user named none (the model's name then
            says which it is, or the function refuses); `configs`, by variant the node of the group
            `model`; `statistics`, a path or None; `classes`, the names in the order of the logits
            or None. Any other parameter, with a default, is a setting of `zoo import`.
        exporter: `module:attribute` of a function `(model, folder, format)` that writes a `Model`
            into an empty folder, in a format that other programs read.
    """

    variants: Mapping[str, str]
    dataset: str | Mapping[str, Any]
    train: str | Mapping[str, str]
    hub: Mapping[str, HubSource]
    upstream: Mapping[str, HubSource] = field(default_factory=dict)
    statistics: Mapping[str, HubSource] = field(default_factory=dict)
    importer: str = ""
    exporter: str = ""

    @property
    def data(self) -> dict[str, Any]:
        """`dataset` as the node of a config."""
        return {"name": self.dataset} if isinstance(self.dataset, str) else dict(self.dataset)

    def train_command(self, variant: str) -> str:
        """What makes weights of a variant."""
        if isinstance(self.train, str):
            return f"{self.train} model={self.variants[variant]}"
        return self.train[variant]
