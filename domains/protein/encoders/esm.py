"""ESM-1b (doi:10.1073/pnas.2016239118) and ESM-2 (doi:10.1126/science.ade2574)."""

from typing import Literal

from torch import Tensor

from domains.protein.residues import ResidueTokens
from shared.encoders.base import Embedding, Encoder
from shared.encoders.bert import at_least_one_row, mean_over
from shared.errors import DataError
from shared.optional import import_optional

VOCABULARY = (
    *("<cls>", "<pad>", "<eos>", "<unk>"),
    *"LAGVSERTIDPKQNFYMHWCXBUZO.-",
    *("<null_1>", "<mask>"),
)


class Esm(Encoder):
    """Residues through ESM, as the model of transformers.

    Inputs: `input_ids` (batch, length) int64, places in `RESIDUES` or `MASK_ID`, and
    `attention_mask` (batch, length) bool, True for the first positions of a row. `tokens` are the
    last hidden states of the residues, normalised, without begin and end; `mask` is the attention
    mask. There is no dropout, but masked residues are zeroed and the embeddings scaled as in
    training (`token_dropout` of ESM), so that unmasked ones are multiplied by 0.88.

    The defaults are those of ESM-2 of 650 million parameters; ESM-1b has `variant=esm1b`.

    Args:
        variant: ESM-1b adds learned positions and normalises the embeddings, ESM-2 rotates queries
            and keys.
        dim: Width of the hidden states.
        depth: Number of blocks.
        num_heads: Of the attention.
        ffn_dim: Width of the feed-forward.
        max_positions: Rows of ESM-1b's table; four of them belong to no residue.
        readout: `pooled` is the mean or the sum over residues.

    Raises:
        DependencyError: transformers is not installed.
    """

    def __init__(
        self,
        variant: Literal["esm1b", "esm2"] = "esm2",
        dim: int = 1280,
        depth: int = 33,
        num_heads: int = 20,
        ffn_dim: int = 5120,
        max_positions: int = 1026,
        readout: Literal["mean", "sum"] = "mean",
    ) -> None:
        super().__init__()
        transformers = import_optional("transformers", "text", "The encoder esm")
        self.frame = ResidueTokens(VOCABULARY, "<cls>", "<eos>", "<pad>", "<mask>")
        learned = variant == "esm1b"
        config = transformers.EsmConfig(
            vocab_size=self.frame.vocab_size,
            mask_token_id=self.frame.mask_id,
            pad_token_id=self.frame.pad_id,
            hidden_size=dim,
            num_hidden_layers=depth,
            num_attention_heads=num_heads,
            intermediate_size=ffn_dim,
            max_position_embeddings=max_positions,
            position_embedding_type="absolute" if learned else "rotary",
            emb_layer_norm_before=learned,
            layer_norm_eps=1e-5,
            token_dropout=True,
            hidden_dropout_prob=0.0,
            attention_probs_dropout_prob=0.0,
        )
        self.dim, self.readout = dim, readout
        # positions begin after the id of the padding, and begin and end have one each
        self.max_length = max_positions - self.frame.pad_id - 3 if learned else None
        self.esm = transformers.EsmModel(config, add_pooling_layer=False)
        # it reads attention maps, and nothing here does
        del self.esm.contact_head
        # the frequencies follow from the settings, and their name from the release of transformers
        for module in self.esm.modules():
            for name, buffer in list(module.named_buffers(recurse=False)):
                module.register_buffer(name, buffer, persistent=False)

    def forward(self, inputs: dict[str, Tensor]) -> Embedding:
        """Raises DataError where ESM-1b has no position for a residue."""
        ids, mask = inputs["input_ids"], inputs["attention_mask"].bool()
        if self.max_length is not None and ids.shape[1] > self.max_length:
            raise DataError(
                f"A protein is {ids.shape[1]} residues long and ESM-1b takes {self.max_length}. "
                "Set a smaller max_length of the preprocessor."
            )
        rows = len(ids)
        ids, mask = at_least_one_row(ids, mask)
        tokens, framed = self.frame(ids, mask)
        states: Tensor = self.esm(input_ids=tokens, attention_mask=framed).last_hidden_state
        residues = states[:, 1:-1]
        pooled = mean_over(residues, mask)
        if self.readout == "sum":
            pooled = pooled * mask.sum(dim=1, keepdim=True)
        return Embedding(pooled[:rows], residues[:rows], mask[:rows])
