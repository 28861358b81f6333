"""XLM-RoBERTa (arXiv:1911.02116) as the text tower of a CLIP model, as open_clip wraps it."""

from typing import Any, cast

from torch import Tensor, nn

from shared.encoders.base import Embedding, Encoder
from shared.errors import ConfigError, DataError, suggest
from shared.optional import import_optional

# `cls_pooler` of open_clip would go through a dense layer that the mean does not have
POOLERS = {"mean": "mean_pooler", "cls": "cls_last_hidden_state_pooler"}
"""Ours → open_clip's."""


class HFText(Encoder):
    """Post-norm transformer whose tokens see each other, pooled over what is no padding.

    Input `input_ids` (batch, length) int64, at most `max_positions` − `pad_id` − 1 long, padded by
    `pad_id`. `tokens` (batch, length, dim) are the last hidden states, `mask` (batch, length) says
    which stand for text, first and last id of a text included; the projection is the model's head.
    The tower is open_clip's `HFTextEncoder`, built from numbers alone: nothing is fetched. The
    defaults are those of xlm-roberta-base.

    Args:
        vocab_size: Number of ids.
        pad_id: Id of padding; positions are counted from the one after it.
        dim: Width of the tokens.
        depth: Number of blocks.
        num_heads: Of the attention.
        hidden_dim: Width of the feed-forward.
        max_positions: Rows of the table of positions.
        dropout: Of hidden states and of the attention, in training.
        pooler: `mean` over the tokens of the text, or `cls`, the first one.

    Raises:
        ConfigError: There is no such pooler, or `dim` is no multiple of `num_heads`.
        DependencyError: open_clip or transformers is not installed.
    """

    def __init__(
        self,
        vocab_size: int = 250002,
        pad_id: int = 1,
        dim: int = 768,
        depth: int = 12,
        num_heads: int = 12,
        hidden_dim: int = 3072,
        max_positions: int = 514,
        dropout: float = 0.1,
        pooler: str = "mean",
    ) -> None:
        super().__init__()
        if pooler not in POOLERS:
            raise ConfigError(f"hf_text: pooler={pooler!r}. {suggest(pooler, POOLERS)}")
        if dim % num_heads:
            raise ConfigError(f"hf_text: dim={dim} is no multiple of num_heads={num_heads}.")
        self.dim, self.pad_id = dim, pad_id
        self.context_length = max_positions - pad_id - 1
        self.trunk = _build_trunk(
            POOLERS[pooler],
            dim,
            vocab_size=vocab_size,
            pad_token_id=pad_id,
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            intermediate_size=hidden_dim,
            max_position_embeddings=max_positions,
            hidden_dropout_prob=dropout,
            attention_probs_dropout_prob=dropout,
            type_vocab_size=1,
            layer_norm_eps=1e-5,
        )

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Raises DataError for texts longer than the table of positions."""
        ids = inputs["input_ids"]
        if ids.shape[1] > self.context_length:
            raise DataError(
                f"A text of {ids.shape[1]} ids for an encoder of at most {self.context_length}: "
                "cut it in the preprocessing."
            )
        # transformers cannot reshape nothing, and DDP waits for the gradient of every parameter
        row = ids if len(ids) else ids.new_full((1, ids.shape[1]), self.pad_id + 1)
        pooled, tokens = self.trunk(row)
        return Embedding(pooled[: len(ids)], tokens[: len(ids)], ids != self.pad_id)


def _build_trunk(pooler: str, dim: int, **settings: Any) -> nn.Module:
    """open_clip's text tower with fresh weights, without a projection."""
    transformers = import_optional("transformers", "text", "hf_text")
    hf_model = import_optional("open_clip.hf_model", "vision", "hf_text")
    config = transformers.XLMRobertaConfig(**settings)
    # equal widths: open_clip then projects by the identity
    trunk: Any = hf_model.HFTextEncoder("", dim, config, pooler, output_tokens=True)
    # what transformers puts on the first token, which open_clip's poolers do not read
    trunk.transformer.pooler = None
    return cast(nn.Module, trunk)
