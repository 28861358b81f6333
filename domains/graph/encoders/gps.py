"""The graph transformer GPS (arXiv:2205.12454) with the parts of GraphCLIP (arXiv:2410.10329)."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from shared.encoders.base import Embedding, Encoder
from shared.errors import ConfigError, DataError


@dataclass(frozen=True)
class Graphs:
    """The structure of a batch of padded graphs; node states are kept without padding.

    Attributes:
        mask: (batch, length) bool, True where there is a node.
        index: (nodes,) int64, places of the nodes among batch · length.
        adjacency: (batch, length, length), how many edges lead from the second to the first node.
        degree: (nodes, 1) number of edges into a node, at least 1.
    """

    mask: Tensor
    index: Tensor
    adjacency: Tensor
    degree: Tensor

    @classmethod
    def from_edges(
        cls, mask: Tensor, edges: Tensor, edge_mask: Tensor, dtype: torch.dtype
    ) -> "Graphs":
        """Graphs from (batch, edges, 2) int64 pairs (source, target) and which of them count."""
        batch, length = mask.shape
        source, target = edges.unbind(dim=-1)
        adjacency = torch.zeros(batch, length * length, dtype=dtype, device=mask.device)
        adjacency.scatter_add_(1, target * length + source, edge_mask.to(dtype))
        adjacency = adjacency.view(batch, length, length)
        index = mask.flatten().nonzero()[:, 0]
        degree = adjacency.sum(dim=2).flatten()[index, None].clamp(min=1)
        return cls(mask, index, adjacency, degree)

    def pad(self, states: Tensor) -> Tensor:
        """(nodes, dim) → (batch, length, dim), zero where there is no node."""
        (batch, length), dim = self.mask.shape, states.shape[1]
        padded = states.new_zeros(batch * length, dim)
        return padded.index_copy(0, self.index, states).view(batch, length, dim)

    def flatten(self, padded: Tensor) -> Tensor:
        """Inverse of `pad`."""
        return padded.flatten(0, 1).index_select(0, self.index)


class NeighbourMean(nn.Module):
    """W₁ · mean of the nodes with an edge to a node + W₂ · itself (GraphSAGE, arXiv:1706.02216).

    An edge that stands twice counts twice; the mean of no neighbours is 0.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.neighbours = nn.Linear(dim, dim)
        self.itself = nn.Linear(dim, dim, bias=False)

    def forward(self, states: Tensor, graphs: Graphs) -> Tensor:
        # counts are exact in bfloat16 where weights 1 / degree would not be
        mean = graphs.flatten(graphs.adjacency @ graphs.pad(states)) / graphs.degree
        output: Tensor = self.neighbours(mean) + self.itself(states)
        return output


class GraphAttention(nn.Module):
    """Multi-head attention of every node to all nodes of its own graph.

    Projections see no padding: graphs of a batch may differ much in size.
    """

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)
        nn.init.xavier_uniform_(self.qkv.weight)
        nn.init.zeros_(self.qkv.bias)
        nn.init.zeros_(self.out.bias)

    def forward(self, states: Tensor, graphs: Graphs) -> Tensor:
        batch, length = graphs.mask.shape
        head_dim = states.shape[1] // self.num_heads
        qkv = graphs.pad(self.qkv(states)).view(batch, length, 3, self.num_heads, head_dim)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        keys = graphs.mask[:, None, None, :]
        attended = scaled_dot_product_attention(query, key, value, attn_mask=keys)
        output: Tensor = self.out(graphs.flatten(attended.transpose(1, 2).flatten(2)))
        return output


class GPSLayer(nn.Module):
    """Neighbours and attention side by side, then an MLP, each with residual and batch norm
    (arXiv:2205.12454, §3)."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.sage = NeighbourMean(dim)
        self.attention = GraphAttention(dim, num_heads)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.ReLU(), nn.Linear(2 * dim, dim))
        self.norm1, self.norm2, self.norm3 = (nn.BatchNorm1d(dim) for _ in range(3))

    def forward(self, states: Tensor, graphs: Graphs) -> Tensor:
        near = self.norm1(self.sage(states, graphs) + states)
        far = self.norm2(self.attention(states, graphs) + states)
        both = near + far
        output: Tensor = self.norm3(both + self.mlp(both))
        return output


class GPS(Encoder):
    """GPS layers on node features beside a random-walk encoding; read-out from mean and centre.

    Inputs, of graphs padded to a common number of nodes and of edges:

    - `nodes` (batch, length, in_channels) float: node features;
    - `mask` (batch, length) bool: True where there is a node;
    - `edges` (batch, edges, 2) int64: source and target, by place in `nodes`;
    - `edge_mask` (batch, edges) bool;
    - `positional` (batch, length, walk_length) float: see `domains.graph.preprocess`;
    - `root` (batch,) int64: the centre node.

    `pooled` (batch, dim) is a linear map of (mean of the node states, state of the centre);
    `tokens` (batch, length, hidden_dim) are the node states. Batch norms see the nodes of the whole
    batch and no padding.

    Args:
        in_channels: Width of the node features.
        walk_length: Width of the positional encoding.
        dim: Width of `pooled`.
        hidden_dim: Width of the node states.
        depth: Number of layers.
        num_heads: Of the attention; has to divide `hidden_dim`.
        positional_dim: Share of `hidden_dim` for the positional encoding.
        centre_dim: Width of a second head, on the centre alone; None: there is none. GraphCLIP's
            checkpoints hold one (768) that its training leaves as it was initialised.

    Raises:
        ConfigError: Widths that do not fit together.
    """

    def __init__(
        self,
        in_channels: int,
        walk_length: int,
        dim: int = 384,
        hidden_dim: int = 1024,
        depth: int = 12,
        num_heads: int = 8,
        positional_dim: int = 8,
        centre_dim: int | None = None,
    ) -> None:
        super().__init__()
        if hidden_dim % num_heads or hidden_dim <= positional_dim:
            raise ConfigError(
                f"gps: hidden_dim={hidden_dim} has to be a multiple of num_heads={num_heads} and "
                f"above positional_dim={positional_dim}."
            )
        self.dim, self.hidden_dim = dim, hidden_dim
        self.node_embedding = nn.Linear(in_channels, hidden_dim - positional_dim)
        self.positional_norm = nn.BatchNorm1d(walk_length)
        self.positional_embedding = nn.Linear(walk_length, positional_dim)
        self.layers = nn.ModuleList(GPSLayer(hidden_dim, num_heads) for _ in range(depth))
        self.head = nn.Linear(2 * hidden_dim, dim)
        self.centre_head = None if centre_dim is None else nn.Linear(hidden_dim, centre_dim)

    @property
    def token_dim(self) -> int:
        return self.hidden_dim

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Encode graphs.

        Raises:
            DataError: In training, the batch has a single node: it has no variance.
        """
        nodes, mask = inputs["nodes"], inputs["mask"]
        graphs = Graphs.from_edges(mask, inputs["edges"], inputs["edge_mask"], nodes.dtype)
        # one over the rows of all processes sees to it by itself
        alone = type(self.positional_norm) is nn.BatchNorm1d and len(graphs.index) == 1
        if self.training and alone:
            raise DataError(
                "gps: the whole batch is one graph of one node, which batch norm cannot train on. "
                "Use larger batches, or larger subgraphs."
            )
        features = self.node_embedding(graphs.flatten(nodes))
        positions = self.positional_norm(graphs.flatten(inputs["positional"]))
        states = torch.cat([features, self.positional_embedding(positions)], dim=1)
        for layer in self.layers:
            states = layer(states, graphs)
        tokens = graphs.pad(states)
        mean = tokens.sum(dim=1) / mask.sum(dim=1, keepdim=True).clamp(min=1)
        pooled = self.head(torch.cat([mean, centres(tokens, inputs["root"])], dim=1))
        return Embedding(pooled, tokens, mask)


def centres(tokens: Tensor, root: Tensor) -> Tensor:
    """States of the centre nodes: (batch, length, dim) and (batch,) → (batch, dim)."""
    return tokens[torch.arange(len(root), device=root.device), root]
