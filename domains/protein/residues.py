"""Residues as integers, and as the tokens of protein language models."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

RESIDUES = "GASPVTCILNDQKEMHFRYW"
"""The 20 proteinogenic amino acids by molecular mass; their places are ids 0 to 19 (ProtST)."""

MASK_ID = len(RESIDUES)
"""Id of a masked residue."""


class ResidueTokens(nn.Module):
    """Residue ids → tokens of a language model: begin, residues, end, padding.

    Args:
        vocabulary: All tokens of the language model, in the order of their ids.
        begin: The token before the first residue.
        end: The one after the last.
        pad: The one after that.
        mask: The one of a masked residue.
    """

    def __init__(
        self, vocabulary: Sequence[str], begin: str, end: str, pad: str, mask: str
    ) -> None:
        super().__init__()
        self.begin, self.end, self.pad_id = map(vocabulary.index, (begin, end, pad))
        self.mask_id, self.vocab_size = vocabulary.index(mask), len(vocabulary)
        self.table: Tensor
        table = [vocabulary.index(residue) for residue in (*RESIDUES, mask)]
        self.register_buffer("table", torch.tensor(table), persistent=False)

    def forward(self, ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Frame sequences.

        Args:
            ids: (batch, length) int64, residues or `MASK_ID`.
            mask: (batch, length) bool, True for the first positions of a row, those of residues.

        Returns:
            Tokens (batch, length + 2) int64, and (batch, length + 2) bool, False at padding.
        """
        lengths = mask.sum(dim=1, keepdim=True)
        inner = self.table[ids].masked_fill(~mask, self.pad_id)
        tokens = nn.functional.pad(inner, (1, 0), value=self.begin)
        tokens = nn.functional.pad(tokens, (0, 1), value=self.pad_id)
        tokens = tokens.scatter(1, lengths + 1, self.end)
        places = torch.arange(tokens.shape[1], device=tokens.device)
        return tokens, places < lengths + 2
