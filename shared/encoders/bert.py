"""BERT (arXiv:1810.04805) as an encoder of token ids, over the model of transformers."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from shared.encoders.base import Embedding, Encoder
from shared.errors import DataError
from shared.optional import import_optional


def build_bert(
    vocab_size: int,
    dim: int,
    depth: int,
    num_heads: int,
    ffn_dim: int,
    max_positions: int,
    layer_norm_eps: float,
    dropout: float,
    pad_id: int,
    pooler: bool,
) -> Any:
    """A `BertModel` of transformers with fresh weights; the settings are those of `BertText`.

    Args:
        pooler: Whether it has the layer on top of the first token.

    Raises:
        DependencyError: transformers is not installed.
    """
    transformers = import_optional("transformers", "text", "An encoder over BERT")
    config = transformers.BertConfig(
        vocab_size=vocab_size,
        hidden_size=dim,
        num_hidden_layers=depth,
        num_attention_heads=num_heads,
        intermediate_size=ffn_dim,
        max_position_embeddings=max_positions,
        layer_norm_eps=layer_norm_eps,
        hidden_dropout_prob=dropout,
        attention_probs_dropout_prob=dropout,
        pad_token_id=pad_id,
    )
    return transformers.BertModel(config, add_pooling_layer=pooler)


def mean_over(tokens: Tensor, counts: Tensor) -> Tensor:
    """(batch, length, dim) → (batch, dim), the mean over the tokens that count; 0 where none does.

    Args:
        tokens: (batch, length, dim).
        counts: (batch, length) bool.
    """
    weights = counts.to(tokens.dtype)
    total = (tokens * weights[..., None]).sum(dim=1)
    return total / weights.sum(dim=1, keepdim=True).clamp(min=1)


def at_least_one_row(ids: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Ids and mask, both (batch, length), with one row of no meaning where there is none.

    The attention of transformers takes no empty batch; the caller leaves the row out again, so that
    parameters have a gradient, zero, on every rank.
    """
    if len(ids):
        return ids, mask
    return ids.new_zeros(1, ids.shape[1]), mask.new_ones(1, mask.shape[1])


class BertText(Encoder):
    """Token ids through BERT, all of token type 0.

    Inputs: `input_ids` (batch, length) int64 and `attention_mask` (batch, length) bool, True where
    there is a token; padding may lie anywhere. `tokens` are the last hidden states of all
    positions, `mask` is the attention mask.

    The defaults are those of BERT base (uncased), whose sizes PubMedBERT shares.

    Args:
        vocab_size: Number of token ids.
        dim: Width of the hidden states.
        depth: Number of blocks.
        num_heads: Of the attention.
        ffn_dim: Width of the feed-forward.
        max_positions: Longest sequence.
        layer_norm_eps: Of every LayerNorm.
        dropout: Of hidden states and attention weights.
        pad_id: Id of padding, whose embedding has no gradient.
        readout: `pooled` is the mean of the tokens or the first of them (`cls`).
        special_ids: Ids that the mean leaves out beside the padding, such as those of [CLS] and
            [SEP].

    Raises:
        DependencyError: transformers is not installed.
    """

    def __init__(
        self,
        vocab_size: int = 30522,
        dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        ffn_dim: int = 3072,
        max_positions: int = 512,
        layer_norm_eps: float = 1e-12,
        dropout: float = 0.1,
        pad_id: int = 0,
        readout: Literal["mean", "cls"] = "mean",
        special_ids: Sequence[int] = (),
    ) -> None:
        super().__init__()
        self.dim, self.max_positions, self.readout = dim, max_positions, readout
        self.special_ids: Tensor
        special = torch.tensor(list(special_ids), dtype=torch.int64)
        self.register_buffer("special_ids", special, persistent=False)
        self.bert = build_bert(
            vocab_size,
            dim,
            depth,
            num_heads,
            ffn_dim,
            max_positions,
            layer_norm_eps,
            dropout,
            pad_id,
            pooler=False,
        )

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Raises DataError where the texts are longer than `max_positions`."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        if ids.shape[1] > self.max_positions:
            raise DataError(
                f"A batch of texts is {ids.shape[1]} tokens long and the encoder takes "
                f"{self.max_positions}. Set a smaller max_length of the preprocessor."
            )
        rows = len(ids)
        ids, mask = at_least_one_row(ids, mask)
        tokens: Tensor = self.bert(input_ids=ids, attention_mask=mask).last_hidden_state
        if self.readout == "cls":
            pooled = tokens[:, 0]
        else:
            pooled = mean_over(tokens, mask & ~torch.isin(ids, self.special_ids))
        return Embedding(pooled[:rows], tokens[:rows], mask[:rows])
