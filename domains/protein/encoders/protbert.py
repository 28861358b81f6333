"""ProtBert-BFD (ProtTrans, arXiv:2007.06225)."""

from typing import Literal

from torch import Tensor

from domains.protein.residues import ResidueTokens
from shared.encoders.base import Embedding, Encoder
from shared.encoders.bert import at_least_one_row, build_bert, mean_over
from shared.errors import DataError

VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"LAGVESIKRDTPNQFYMHCWXUBZO")


class ProtBert(Encoder):
    """Residues through ProtBert, as the `BertModel` of transformers.

    Inputs and outputs as of `Esm`. The defaults are those of ProtBert-BFD.

    Args:
        dim: Width of the hidden states.
        depth: Number of blocks.
        num_heads: Of the attention.
        ffn_dim: Width of the feed-forward.
        max_positions: Longest sequence with [CLS] and [SEP].
        layer_norm_eps: Of every LayerNorm.
        readout: `pooled` is BERT's pooler on [CLS], or the mean over residues, which leaves the
            pooler as it is.
        attend_padding: Whether padding is attended, as ProtST's code does: embeddings then depend
            on the longest protein of the batch.

    Raises:
        DependencyError: transformers is not installed.
    """

    def __init__(
        self,
        dim: int = 1024,
        depth: int = 30,
        num_heads: int = 16,
        ffn_dim: int = 4096,
        max_positions: int = 40000,
        layer_norm_eps: float = 1e-12,
        readout: Literal["pooler", "mean"] = "pooler",
        attend_padding: bool = False,
    ) -> None:
        super().__init__()
        self.frame = ResidueTokens(VOCABULARY, "[CLS]", "[SEP]", "[PAD]", "[MASK]")
        self.dim, self.max_positions = dim, max_positions
        self.readout, self.attend_padding = readout, attend_padding
        self.bert = build_bert(
            self.frame.vocab_size,
            dim,
            depth,
            num_heads,
            ffn_dim,
            max_positions,
            layer_norm_eps,
            dropout=0.0,
            pad_id=self.frame.pad_id,
            pooler=True,
        )
        # checkpoints have it, but DDP waits for what is trained
        self.bert.pooler.requires_grad_(readout == "pooler")

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Raises DataError where a protein is longer than the table of positions."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        if ids.shape[1] + 2 > self.max_positions:
            raise DataError(
                f"A protein is {ids.shape[1]} residues long and ProtBert takes "
                f"{self.max_positions - 2}. Set a smaller max_length of the preprocessor."
            )
        rows = len(ids)
        ids, mask = at_least_one_row(ids, mask)
        tokens, framed = self.frame(ids, mask)
        attended = None if self.attend_padding else framed
        output = self.bert(input_ids=tokens, attention_mask=attended)
        residues = output.last_hidden_state[:, 1:-1]
        pooled = output.pooler_output if self.readout == "pooler" else mean_over(residues, mask)
        return Embedding(pooled[:rows], residues[:rows], mask[:rows])
