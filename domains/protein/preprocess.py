"""Protein sequences as residue ids, and the fields of a text as packed token ids."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from domains.protein.residues import RESIDUES
from shared.errors import ConfigError, WeightsError, first_line
from shared.optional import import_optional
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Array, Schema

if TYPE_CHECKING:
    from torch import Tensor

# glycine, the first, stands for every other character
_IDS = np.zeros(256, dtype=np.int64)
_IDS[[ord(residue) for residue in RESIDUES]] = range(len(RESIDUES))


class ProteinSequence(Preprocessor):
    """A sequence of one-letter codes → residue ids, any letter but the 20 of `RESIDUES` being
    taken for glycine, as ProtST does.

    Gives `input_ids` (n,) int64 and `attention_mask` (n,) bool: True. White space at the ends is no
    residue.

    Args:
        schema: Of a text.
        max_length: Residues that are kept, the first ones; 1022 is ESM's limit.
        crop_length: Residues of a window anywhere in the sequence that training takes instead; 450
            in ProtST.

    Raises:
        ConfigError: A length below 1.
    """

    def __init__(self, schema: Schema, max_length: int = 1022, crop_length: int = 450) -> None:
        super().__init__(schema, (), {"max_length": max_length, "crop_length": crop_length})
        if max_length < 1 or crop_length < 1:
            raise ConfigError(
                f"protein_sequence: max_length={max_length} and crop_length={crop_length} have to "
                "be at least 1."
            )
        self.max_length, self.crop_length = max_length, crop_length

    @property
    def sizes(self) -> Mapping[str, int]:
        return {}

    def __call__(self, raw: str) -> Prepared:
        letters = np.frombuffer(raw.strip().encode("latin-1", "replace"), dtype=np.uint8)
        return {"input_ids": _IDS[letters], "attention_mask": np.ones(len(letters), dtype=bool)}

    def crop(self, prepared: Prepared, rng: np.random.Generator | None) -> Prepared:
        """At most `crop_length` residues from anywhere with `rng`, else the first `max_length`."""
        start, length = 0, self.max_length
        if rng is not None:
            length = self.crop_length
            start = int(rng.integers(max(len(prepared["input_ids"]) - length, 0) + 1))
        return {name: array[start : start + length] for name, array in prepared.items()}


def pack_fields(
    samples: Sequence[Sequence[Sequence[int] | Array]],
    cls_id: int,
    sep_id: int,
    pad_id: int,
    max_length: int = 512,
) -> tuple[Array, Array]:
    """Texts of several fields as one sequence each, whose fields begin in the same columns.

    `[CLS] field [PAD]… [SEP] field [PAD]… [SEP] …` without a last `[SEP]`: a field is padded to the
    longest of the batch (ProtST), so what is packed together decides on the positions.

    Args:
        samples: By sample and field, token ids; a sample that ends early lacks the last fields.
        cls_id: Id of [CLS].
        sep_id: Id of [SEP].
        pad_id: Id of padding.
        max_length: Longest result; columns beyond are cut.

    Returns:
        `input_ids` (samples, length) int64 and `attention_mask` (samples, length) bool, False at
        padding.
    """
    number = max(len(fields) for fields in samples)
    columns = []
    for index in range(number):
        field = [fields[index] if index < len(fields) else [] for fields in samples]
        block = np.full((len(samples), 1 + max(map(len, field))), pad_id, dtype=np.int64)
        block[:, 0] = sep_id if index else cls_id
        for row, ids in zip(block, field, strict=True):
            row[1 : 1 + len(ids)] = ids
        columns.append(block)
    packed = np.concatenate(columns, axis=1)[:, :max_length]
    return packed, packed != pad_id


class TextFields(Preprocessor):
    """A text of fields, divided by a separator, → the token ids of each; see `pack_fields`.

    A field may be empty. A batch has `input_ids` (batch, length) int64 and `attention_mask`
    (batch, length) bool.

    Args:
        schema: Of a text.
        tokenizer: A tokenizer with [CLS], [SEP] and [PAD] that transformers' `AutoTokenizer` loads:
            a folder or a name on the hub.
        separator: Between two fields; a text without it is one field.
        max_field_length: Tokens that are kept of a field; 128 in ProtST.
        max_length: Tokens that are kept of a packed text.

    Raises:
        ConfigError: A length below 1.
    """

    def __init__(
        self,
        schema: Schema,
        tokenizer: str,
        separator: str = "\t",
        max_field_length: int = 128,
        max_length: int = 512,
    ) -> None:
        settings = {
            "tokenizer": tokenizer,
            "separator": separator,
            "max_field_length": max_field_length,
            "max_length": max_length,
        }
        super().__init__(schema, (), settings)
        if max_field_length < 1 or max_length < 1:
            raise ConfigError(
                f"text_fields: max_field_length={max_field_length} and max_length={max_length} "
                "have to be at least 1."
            )
        self.separator = separator
        self.max_field_length, self.max_length = max_field_length, max_length

    @property
    def sizes(self) -> Mapping[str, int]:
        return {}

    @cached_property
    def tokenizer(self) -> Any:
        """Loaded when it is first used.

        Raises:
            DependencyError: transformers is not installed.
            WeightsError: There is no such tokenizer.
        """
        transformers = import_optional("transformers", "text", "The preprocessor text_fields")
        name = self.settings["tokenizer"]
        try:
            return transformers.AutoTokenizer.from_pretrained(name)
        except (OSError, ValueError) as error:
            raise WeightsError(
                f"text_fields: transformers cannot load the tokenizer {name!r}: "
                f"{first_line(error)}. Give the folder of one."
            ) from error

    def __call__(self, raw: str) -> Prepared:
        fields = [
            self.tokenizer(
                field.strip(),
                add_special_tokens=False,
                truncation=True,
                max_length=self.max_field_length,
            )["input_ids"]
            for field in raw.split(self.separator)
        ]
        ids = np.array([token for field in fields for token in field], dtype=np.int64)
        return {"ids": ids, "lengths": np.array([len(field) for field in fields])}

    def collate(self, samples: Sequence[Prepared]) -> dict[str, "Tensor"]:
        import torch

        fields = [np.split(s["ids"], np.cumsum(s["lengths"])[:-1]) for s in samples]
        tokenizer = self.tokenizer
        special = (tokenizer.cls_token_id, tokenizer.sep_token_id, tokenizer.pad_token_id)
        ids, mask = pack_fields(fields, *special, self.max_length)
        return {"input_ids": torch.from_numpy(ids), "attention_mask": torch.from_numpy(mask)}
