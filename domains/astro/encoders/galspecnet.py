"""GalSpecNet, the spectrum CNN of AstroM3 (arXiv:2411.08842 §3.2), without its dense layers."""

from collections.abc import Sequence

from torch import Tensor, nn

from shared.encoders.base import Embedding, Encoder


class GalSpecNet(Encoder):
    """Convolutions with ReLU and max-pooling, flattened channel-major.

    Input `values` (batch, in_channels, input_length) float32; `pooled` (batch, dim) with
    dim = last channel · remaining length, 1184 for the published 2575 points.

    Args:
        in_channels: Rows of the prepared spectrum.
        input_length: Points of the wavelength grid.
        conv_channels: Output channels of each convolution.
        kernel_size: Of every convolution; stride 1, no padding.
        mp_kernel_size: Of the max-pooling after every convolution but the last.
        dropout: On the flattened features.

    Raises:
        ValueError: The spectrum is too short for the stack.
    """

    gives_tokens = False

    def __init__(
        self,
        in_channels: int,
        input_length: int,
        conv_channels: Sequence[int] = (64, 64, 32, 32),
        kernel_size: int = 3,
        mp_kernel_size: int = 4,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        length, width = input_length, in_channels
        for position, channels in enumerate(conv_channels):
            layers += [nn.Conv1d(width, channels, kernel_size), nn.ReLU()]
            width, length = channels, length - kernel_size + 1
            if position < len(conv_channels) - 1:
                layers.append(nn.MaxPool1d(mp_kernel_size))
                length //= mp_kernel_size
            if length < 1:
                raise ValueError(
                    f"A spectrum of {input_length} points is too short for "
                    f"{len(conv_channels)} convolutions of kernel {kernel_size} and pooling "
                    f"{mp_kernel_size}; use a finer grid or fewer conv_channels."
                )
        self.layers = nn.Sequential(*layers)
        self.dropout = nn.Dropout(dropout)
        self.dim = width * length

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        return Embedding(self.dropout(self.layers(inputs["values"]).flatten(1)))
