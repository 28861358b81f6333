"""The encoder of both modalities."""

from torch import Tensor, nn

from zoo import Embedding, Encoder


class ToyMLP(Encoder):
    """Two layers with GELU: `values` (batch, in_channels) → `pooled` (batch, hidden_dim)."""

    gives_tokens = False

    def __init__(self, in_channels: int, hidden_dim: int = 32) -> None:
        super().__init__()
        self.dim = hidden_dim
        self.layers = nn.Sequential(
            nn.Linear(in_channels, hidden_dim),
            nn.GELU(),
            nn.Linear(hidden_dim, hidden_dim),
            nn.GELU(),
        )

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        return Embedding(self.layers(inputs["values"]))
