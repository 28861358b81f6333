"""A fusion with batch norms on rows that each rank pads by itself; for `run_ranks`."""

import torch
from torch import Tensor, nn

from domains.protein.fusion import CrossAttentionFusion
from shared.distributed import rank, world_size
from shared.encoders.base import Embedding
from shared.training.batch_norm import join_batch_norms

LENGTHS = {"protein": [3, 2, 7, 5], "text": [4, 6, 1, 2]}


def fuse(start: int, stop: int) -> tuple[list[Tensor], dict[str, Tensor]]:
    """Joint tokens of some of the rows, without padding, and the state after the forward."""
    torch.manual_seed(0)
    fusion = CrossAttentionFusion(dict.fromkeys(LENGTHS, 8), depth=2, num_heads=2)
    tokens = {}
    for modality, lengths in LENGTHS.items():
        rows = torch.randn(len(lengths), max(lengths), 8)[start:stop, : max(lengths[start:stop])]
        mask = torch.arange(rows.shape[1]) < torch.tensor(lengths[start:stop])[:, None]
        tokens[modality] = Embedding(rows[:, 0], rows * mask[..., None], mask)
    join_batch_norms(nn.Sequential(fusion))
    fused = fusion(tokens, {})
    assert fused.tokens is not None
    assert fused.mask is not None
    state = {name: tensor.clone() for name, tensor in fusion.state_dict().items()}
    pairs = zip(fused.tokens, fused.mask, strict=True)
    return [row[mask].detach() for row, mask in pairs], state


def on_ranks() -> tuple[list[Tensor], dict[str, Tensor]]:
    """Two rows a rank."""
    assert world_size() == 2
    return fuse(2 * rank(), 2 * rank() + 2)
