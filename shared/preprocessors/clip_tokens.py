"""Texts as the ids of CLIP's vocabulary (Radford et al. 2021, arXiv:2103.00020, §2.4)."""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

from shared.errors import ConfigError
from shared.optional import import_optional
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Schema


class CLIPTokens(Preprocessor):
    """A text as byte pairs, by open_clip's `SimpleTokenizer`, whose vocabulary is part of the
    package.

    Gives `input_ids` (context_length,) int64: 49406 (start), the ids of the text cleaned by ftfy,
    of HTML entities and of repeated spaces, in lower case, then 49407 (end) and zeros. A text that
    is too long is cut and ends with 49407 all the same.

    A sample may have several texts, as a tuple: all are tokenised, and `crop` takes one of them.

    Args:
        schema: Of texts.
        context_length: Ids of a text.

    Raises:
        ConfigError: Fewer than the two ids of start and end.
        DependencyError: open_clip is not installed.
    """

    def __init__(self, schema: Schema, context_length: int = 77) -> None:
        super().__init__(replace(schema, axes=()), (), {"context_length": context_length})
        if context_length < 2:
            raise ConfigError(f"clip_tokens: context_length={context_length} must be at least 2.")
        self.context_length = context_length
        _tokenizer()

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"context_length": self.context_length}

    def __call__(self, raw: str | tuple[str, ...]) -> Prepared:
        """One text or k of them → `input_ids` (k, context_length), of which `crop` takes one."""
        texts = [raw] if isinstance(raw, str) else list(raw)
        return {"input_ids": _tokenizer()(texts, self.context_length).numpy()}

    def views(self, prepared: Prepared) -> list[Prepared]:
        """Every text: one at random in training, the first in evaluation."""
        return [{"input_ids": ids} for ids in prepared["input_ids"]]


@cache
def _tokenizer() -> Any:
    """Built once a process: reading the merges takes a moment."""
    return import_optional("open_clip.tokenizer", "vision", "clip_tokens").SimpleTokenizer()
