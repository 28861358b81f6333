"""What an encoder is: inputs of one modality → `Embedding`."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
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
        token_dim: Width of `Embedding.tokens`, where it is another.
        gives_tokens: Whether there are `Embedding.tokens`.
        leading_tokens: Tokens that stand before those of the positions.
        positions_per_token: Neighbouring positions of a sequence that one token stands for.
    """

    dim: int
    gives_tokens = True
    leading_tokens = 0
    positions_per_token = 1

    @property
    def token_dim(self) -> int:
        return self.dim

    @abstractmethod
    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Encode the named arrays of the preprocessor, with a leading batch axis (possibly 0)."""


class Fusion(nn.Module, ABC):
    """Tokens of several modalities → one joint `Embedding`.

    Constructed as `Fusion(dims, **settings)` with the width of each modality's projected tokens, in
    the order of the model's modalities.

    Attributes:
        dim: Width of the joint tokens and of `Embedding.pooled`.
        encodes_alone: Whether the embedding of one modality is what this makes of it alone, as of
            a joint masked encoder, instead of what the modality's encoder gives.
    """

    dim: int
    encodes_alone = False

    @abstractmethod
    def forward(self, tokens: Mapping[str, Embedding], inputs: Mapping[str, Tensor]) -> Embedding:
        """Join the modalities.

        Args:
            tokens: By modality, `tokens` (batch, length, dim) and `mask` (batch, length) bool; a
                row without the modality has no True in its mask.
            inputs: What a view says about the joint sequence, such as `ids_keep`.

        Returns:
            Joint tokens (batch, sum of lengths unless some are left out, dim), modality after
            modality, and their mask.
        """
