"""The catalogue-column MLP of AstroM3 (arXiv:2411.08842 §3.3)."""

from torch import Tensor, nn

from shared.encoders.base import Embedding, Encoder


class MetadataMLP(Encoder):
    """Two hidden layers with ReLU and dropout.

    Input `values` (batch, in_channels) float32, standardised; `pooled` (batch, hidden_dim).
    """

    gives_tokens = False

    def __init__(self, in_channels: int, hidden_dim: int = 512, dropout: float = 0.0) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Linear(in_channels, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
            nn.Linear(hidden_dim, hidden_dim),
            nn.ReLU(),
            nn.Dropout(dropout),
        )
        self.dim = hidden_dim

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        return Embedding(self.model(inputs["values"]))
