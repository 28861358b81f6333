"""What an encoder is: inputs of one modality → `Embedding`."""

from abc import ABC, abstractmethod
from typing import NamedTuple

from torch import Tensor, nn


class Embedding(NamedTuple):
    """Output of an encoder.

    Attributes:
        pooled: (batch, dim) one vector a sample.
        tokens: (batch, length, dim) one vector a position, or None.
        mask: (batch, length) bool, True where a token stands for data, or None.
    """

    pooled: Tensor
    tokens: Tensor | None = None
    mask: Tensor | None = None


class Encoder(nn.Module, ABC):
    """Inputs of one modality → `Embedding`.

    The constructor names what it must know of the inputs (`in_channels`, `input_length`, …) as the
    preprocessor's `sizes` do; everything else is a setting with a default.

    Attributes:
        dim: Width of `Embedding.pooled`.
    """

    dim: int

    @abstractmethod
    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Encode the named arrays of the preprocessor, with a leading batch axis (possibly 0)."""
