"""A name that `zoo.load` knows."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class HubSource:
    """Where published weights lie.

    Attributes:
        repo: `owner/name` on the Hugging Face hub.
        revision: Commit; the newest when empty.
    """

    repo: str
    revision: str = ""


@dataclass(frozen=True)
class ModelEntry:
    """A family of models.

    Attributes:
        variants: Variant → file of the Hydra group `model`; the first is the default.
        dataset: Registered dataset whose schemas say what inputs it takes; its constructor needs
            no argument.
        train: Command that makes weights, for the message when there are none.
        hub: Variant → published weights in this project's format; variants without are trained.
    """

    variants: Mapping[str, str]
    dataset: str
    train: str
    hub: Mapping[str, HubSource]
