"""What the towers make of a batch and its views: every distinct thing is computed once a step."""

from functools import partial
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from shared.data.batch import Batch, View, scatter_rows
from shared.distributed import gather_constants, gather_rows, numbers_of_ranks, world_size
from shared.encoders.base import Embedding
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import Encoded, Output

Modality = str | tuple[str, ...]


class Encodings:
    """What one tower makes of one view of a batch, of this rank.

    Args:
        tower: The model or a teacher.
        batch: On its device.
        view: What replaces some of the batch's inputs.
        plain: The same tower's encodings of the batch itself, for what the view leaves as it is.
        chunk_size: Rows that are encoded at once; see `encode_in_chunks`.
        keep_tokens: Whether tokens are read; otherwise they go as soon as they are pooled.
    """

    def __init__(
        self,
        tower: Model,
        batch: Batch,
        view: View,
        plain: "Encodings | None",
        chunk_size: int | None,
        keep_tokens: bool,
    ) -> None:
        self.tower, self.batch, self.view, self.plain = tower, batch, view, plain
        self.chunk_size, self.keep_tokens = chunk_size, keep_tokens
        self._embeddings: dict[str, Embedding] = {}
        self._fused: Embedding | None = None
        self._found: dict[tuple[Modality, Output], Encoded] = {}

    def get(self, modality: Modality, output: Output) -> Encoded:
        """(copies · batch, …) rows, zero where a sample lacks the modality.

        Raises:
            ConfigError: The model does not give this output.
        """
        key = (modality, output)
        if key not in self._found:
            if isinstance(modality, str):
                self._found[key] = self._of_one(modality, output)
            else:
                self._found[key] = self._logits() if output == "logits" else self._joint(output)
        return self._found[key]

    def _of_one(self, modality: str, output: Output) -> Encoded:
        if self.plain is not None and modality not in self.view.inputs and self.view.copies == 1:
            return self.plain.get(modality, output)
        present = self.batch.present[modality].repeat(self.view.copies)
        embedding = self._embedding(modality)
        if output == "pooled":
            return Encoded(scatter_rows(embedding.pooled, present), present)
        if output == "projected":
            rows = self.tower.project(modality, embedding.pooled)
            return Encoded(scatter_rows(rows, present), present)
        if embedding.tokens is None:
            raise ConfigError(f"An objective reads tokens, and {modality}'s encoder gives none.")
        tokens, mask = embedding.tokens, embedding.mask
        if output == "projected_tokens":
            tokens = self.tower.project_tokens(modality, tokens)
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return Encoded(scatter_rows(tokens, present), present, scatter_rows(mask, present))

    def _embedding(self, modality: str) -> Embedding:
        if modality not in self._embeddings:
            inputs = self.view.inputs.get(modality)
            if inputs is None:
                # a view of several copies that leaves this modality as it is
                inputs = {
                    name: torch.cat([tensor] * self.view.copies)
                    for name, tensor in self.batch.inputs[modality].items()
                }
            found = encode_in_chunks(self.tower, modality, inputs, self.chunk_size)
            self._embeddings[modality] = found if self.keep_tokens else Embedding(found.pooled)
        return self._embeddings[modality]

    def _joint(self, output: Output) -> Encoded:
        """What the fusion makes of all modalities."""
        parts = {m: self.get(m, "projected_tokens") for m in self.tower.modalities}
        if self._fused is None:
            # the fusion reads tokens only
            nothing = self.batch.rows.new_zeros(0)
            tokens = {m: Embedding(nothing, part.rows, part.mask) for m, part in parts.items()}
            self._fused = self.tower.fuse(tokens, self.view.joint)
        present = torch.stack([part.present for part in parts.values()]).any(dim=0)
        if output == "pooled":
            return Encoded(self._fused.pooled, present)
        return Encoded(cast(Tensor, self._fused.tokens), present, self._fused.mask)

    def _logits(self) -> Encoded:
        """What the classifier makes of all modalities."""
        features = self.tower.classifier_features
        parts = {m: self.get(m, features) for m in self.tower.modalities}
        present = {m: part.present for m, part in parts.items()}
        logits = self.tower.classify({m: part.rows for m, part in parts.items()}, present)
        return Encoded(logits, torch.stack(list(present.values())).any(dim=0))


def encode_in_chunks(
    tower: Model, modality: str, inputs: dict[str, Tensor], chunk_size: int | None
) -> Embedding:
    """The encoder's output; with a chunk size, a chunk at a time under activation checkpointing.

    The random state of each chunk is replayed when the backward pass encodes it again, so the
    gradients are those of encoding all at once where the encoder treats rows one by one.
    """
    number = len(next(iter(inputs.values())))
    if chunk_size is None or number <= chunk_size:
        return tower.encode(modality, inputs)
    encode = partial(tower.encode, modality)
    chunks = []
    for start in range(0, number, chunk_size):
        part = {name: tensor[start : start + chunk_size] for name, tensor in inputs.items()}
        chunks.append(checkpoint(encode, part, use_reentrant=False))
    joined = [None if field[0] is None else torch.cat(field) for field in zip(*chunks, strict=True)]
    return Embedding(*joined)  # type: ignore[arg-type]


def gather_encoded(encoded: Encoded, with_grad: bool, counts: list[int]) -> Encoded:
    """Rows of all ranks, in rank order; without gradient only the own rows carry one.

    Tokens are padded to the longest sequence of any rank.

    Args:
        encoded: Rows of this rank.
        with_grad: Whether the rows of other ranks carry gradients.
        counts: Number of rows of every rank.
    """
    if world_size() == 1:
        return encoded
    join = gather_rows if with_grad else gather_constants
    rows, mask = encoded.rows, encoded.mask
    if mask is not None:
        longest = max(numbers_of_ranks(rows.shape[1], rows.device))
        missing = longest - rows.shape[1]
        rows = nn.functional.pad(rows, (0, 0, 0, missing))
        mask = gather_rows(nn.functional.pad(mask, (0, missing)), counts)
    return Encoded(join(rows, counts), gather_rows(encoded.present, counts), mask)
