"""What the towers make of a batch and its views: every distinct thing is computed once a step."""

from collections import defaultdict
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor

from shared.data.batch import EMBEDDED, Batch, View, scatter_rows
from shared.encoders.base import Embedding
from shared.errors import ConfigError
from shared.model import Model
from shared.objectives.base import Encoded, Output
from shared.training.chunks import Chunking, Rows

Modality = str | tuple[str, ...]


class Encodings:
    """What one tower makes of one view of a batch, of this rank.

    Args:
        tower: The model or a teacher.
        batch: On its device.
        view: What replaces some of the batch's inputs.
        plain: The same tower's encodings of the batch itself, for what the view leaves as it is.
        chunking: How many rows are encoded at once.

    What will be read is asked for first, so that nothing else is kept of what an encoder gives.
    """

    def __init__(
        self,
        tower: Model,
        batch: Batch,
        view: View,
        plain: "Encodings | None",
        chunking: Chunking,
    ) -> None:
        self.tower, self.batch, self.view, self.plain = tower, batch, view, plain
        self.chunking = chunking
        self._asked: defaultdict[Modality, set[Output]] = defaultdict(set)
        self._computed: dict[Modality, Rows] = {}
        self._found: dict[tuple[Modality, Output], Encoded] = {}

    def ask(self, modality: Modality, output: Output) -> None:
        """Say that `get` will be called like this; before the first `get`."""
        if isinstance(modality, str) and self._is_plain(modality):
            assert self.plain is not None
            self.plain.ask(modality, output)
            return
        self._asked[modality].add(output)
        if not isinstance(modality, str):
            needed = self.tower.classifier_features if output == "logits" else "projected_tokens"
            for name in self.tower.modalities:
                self.ask(name, needed)

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

    def _is_plain(self, modality: str) -> bool:
        """Whether the view leaves a modality as it is in the batch."""
        whole = self.view.copies == 1 and modality not in self.view.inputs
        return self.plain is not None and whole

    def _of_one(self, modality: str, output: Output) -> Encoded:
        if self._is_plain(modality):
            assert self.plain is not None
            return self.plain.get(modality, output)
        present = self.batch.present[modality].repeat(self.view.copies)
        if modality not in self._computed:
            self._computed[modality] = self._encode(modality)
        found = self._computed[modality]
        mask = scatter_rows(found["mask"], present) if "tokens" in output else None
        return Encoded(scatter_rows(found[output], present), present, mask)

    def _encode(self, modality: str) -> Rows:
        """What is asked for of one modality, for the rows that have it."""
        inputs = self.view.inputs.get(modality)
        if inputs is None:
            # a view of several copies that leaves this modality as it is
            inputs = {
                name: torch.cat([tensor] * self.view.copies)
                for name, tensor in self.batch.inputs[modality].items()
            }
        asked = self._asked[modality]

        def encode(rows: Rows) -> Rows:
            embedding = (
                Embedding(rows[EMBEDDED]) if EMBEDDED in rows else self.tower.encode(modality, rows)
            )
            found = {}
            if "pooled" in asked:
                found["pooled"] = embedding.pooled
            if "projected" in asked:
                found["projected"] = self.tower.project(modality, embedding.pooled)
            if {"tokens", "projected_tokens"} & asked:
                found |= self._tokens(modality, embedding)
            return found

        return self.chunking(encode, inputs)

    def _tokens(self, modality: str, embedding: Embedding) -> Rows:
        """Tokens as they are asked for, and which of them stand for data."""
        tokens, mask = embedding.tokens, embedding.mask
        if tokens is None:
            raise ConfigError(f"An objective reads tokens, and {modality}'s encoder gives none.")
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        found = {"mask": mask}
        if "tokens" in self._asked[modality]:
            found["tokens"] = tokens
        if "projected_tokens" in self._asked[modality]:
            found["projected_tokens"] = self.tower.project_tokens(modality, tokens)
        return found

    def _joint(self, output: Output) -> Encoded:
        """What the fusion makes of all modalities."""
        modalities = self.tower.modalities
        parts = {m: self.get(m, "projected_tokens") for m in modalities}
        if modalities not in self._computed:
            self._computed[modalities] = self._fuse(parts)
        present = torch.stack([part.present for part in parts.values()]).any(dim=0)
        found = self._computed[modalities]
        mask = found.get("mask") if output == "tokens" else None
        return Encoded(found[output], present, mask)

    def _fuse(self, parts: Mapping[str, Encoded]) -> Rows:
        """What is asked for of all modalities together."""
        asked = self._asked[tuple(parts)]
        rows = {f"tokens/{m}": part.rows for m, part in parts.items()}
        rows |= {f"mask/{m}": cast(Tensor, part.mask) for m, part in parts.items()}
        rows |= {f"joint/{name}": tensor for name, tensor in self.view.joint.items()}

        def fuse(rows: Rows) -> Rows:
            nothing = self.batch.rows.new_zeros(0)  # the fusion reads tokens only
            tokens = {m: Embedding(nothing, rows[f"tokens/{m}"], rows[f"mask/{m}"]) for m in parts}
            joint = {name: rows[f"joint/{name}"] for name in self.view.joint}
            fused = self.tower.fuse(tokens, joint)._asdict()
            wanted = {**fused, "mask": fused["mask"] if "tokens" in asked else None}
            return {n: t for n, t in wanted.items() if n in (*asked, "mask") and t is not None}

        return self.chunking(fuse, rows)

    def _logits(self) -> Encoded:
        """What the classifier makes of all modalities."""
        features = self.tower.classifier_features
        parts = {m: self.get(m, features) for m in self.tower.modalities}
        present = {m: part.present for m, part in parts.items()}
        logits = self.tower.classify({m: part.rows for m, part in parts.items()}, present)
        return Encoded(logits, torch.stack(list(present.values())).any(dim=0))
