"""Texts as ids of XLM-RoBERTa's SentencePiece vocabulary (arXiv:1911.02116, §3)."""

import io
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.errors import ConfigError, DataError
from shared.optional import import_optional
from shared.preprocess import Prepared, Preprocessor
from shared.schema import Schema
from shared.untrusted import read_bytes

if TYPE_CHECKING:
    from sentencepiece import SentencePieceProcessor

BOS, PAD, EOS, UNKNOWN = range(4)
"""First ids of XLM-RoBERTa (fairseq's); the last one of its vocabulary is `<mask>`."""
# SentencePiece's own first ids are <unk>, <s> and </s>: its others are one lower than ours
SHIFT = 1
SPECIAL = 2
"""Ids that no piece has: padding and mask."""
LARGEST = 64 * 2**20
"""Bytes of a vocabulary; that of XLM-RoBERTa has 5 million."""


class SentencePieceTokens(Preprocessor):
    """Ids of a text as open_clip makes them for its multilingual towers.

    Gives `input_ids` (captions, context_length) int64, of which a step draws one caption: `<s>`,
    the pieces, `</s>`, then padding; too long a text loses its end. Before that its encoding is
    repaired (ftfy), HTML is unescaped twice and white space collapsed; case is kept. `<s>` and the
    like within a text are text.

    The vocabulary is part of the state, as text in base64: a model folder is one complete recipe,
    and its weights mean nothing under another vocabulary.

    Args:
        schema: Of a text, or of several captions a sample.
        vocabulary: File `sentencepiece.bpe.model`; null: one is learned from the training texts.
        context_length: Ids of a text.
        vocab_size: Ids of the encoder: the pieces of the vocabulary, padding and mask. One that is
            learned has at most so many.

    Raises:
        ConfigError: A `context_length` without room for a piece.
    """

    def __init__(
        self,
        schema: Schema,
        vocabulary: str | None = None,
        context_length: int = 77,
        vocab_size: int = 250002,
    ) -> None:
        settings = {
            "vocabulary": vocabulary,
            "context_length": context_length,
            "vocab_size": vocab_size,
        }
        super().__init__(schema, (), settings)
        self.takes = replace(self.takes, axes=())
        if context_length < 3:
            raise ConfigError(f"sentencepiece_tokens: context_length={context_length} is below 3.")
        self.context_length, self.vocab_size = context_length, vocab_size
        self._path = None if vocabulary is None else Path(vocabulary).expanduser()
        self._vocabulary: bytes | None = None
        self._processor: SentencePieceProcessor | None = None

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"vocab_size": self.vocab_size, "pad_id": PAD}

    def __call__(self, raw: str | Sequence[str]) -> Prepared:
        clean = _cleaning()
        texts = [raw] if isinstance(raw, str) else raw
        ids = np.full((len(texts), self.context_length), PAD, dtype=np.int64)
        for row, pieces in zip(ids, self.processor.encode([clean(t) for t in texts]), strict=True):
            kept = [UNKNOWN if piece == 0 else piece + SHIFT for piece in pieces]
            kept = [BOS, *kept[: self.context_length - 2], EOS]
            row[: len(kept)] = kept
        return {"input_ids": ids}

    def views(self, prepared: Prepared) -> list[Prepared]:
        """Every caption: any of them in training, else the first."""
        return [{"input_ids": ids} for ids in prepared["input_ids"]]

    def fit(self, raws: Iterable[Any]) -> None:
        """Read the file, or learn a vocabulary from all captions of the training split."""
        if self._path is not None:
            self._read(self._path)
            return
        texts = (text for raw in raws for text in ([raw] if isinstance(raw, str) else raw))
        made = io.BytesIO()
        _sentencepiece().SentencePieceTrainer.train(
            sentence_iterator=texts,
            model_writer=made,
            vocab_size=self.vocab_size - SPECIAL,
            hard_vocab_limit=False,  # few texts give few pieces
            num_threads=1,  # the same pieces every time
            minloglevel=2,
        )
        self._take(made.getvalue())

    @property
    def processor(self) -> "SentencePieceProcessor":
        """SentencePiece with the vocabulary.

        Raises:
            ConfigError: There is none, it is none, or its size is not that of the encoder.
        """
        if self._processor is None:
            if self._path is None:
                raise ConfigError(
                    "The tokens of texts have no vocabulary: it is learned in training, or comes "
                    "with imported weights. Name a file by preprocess.vocabulary=FILE, such as "
                    "sentencepiece.bpe.model of the hub's FacebookAI/xlm-roberta-base."
                )
            self._read(self._path)
        assert self._processor is not None
        return self._processor

    @property
    def ids(self) -> int:
        """Number of ids that the vocabulary makes, at most `vocab_size`."""
        return self.processor.get_piece_size() + SPECIAL

    def _read(self, path: Path) -> None:
        try:
            self._take(read_bytes(path, LARGEST))
        except DataError as error:
            # no fault of a sample
            raise ConfigError(f"preprocess.vocabulary: {error}") from error

    def _take(self, vocabulary: bytes) -> None:
        processor: SentencePieceProcessor = _sentencepiece().SentencePieceProcessor()
        try:
            processor.LoadFromSerializedProto(vocabulary)
        except RuntimeError as error:
            raise ConfigError(
                f"The vocabulary {self._path or ''} is damaged, or not of SentencePiece."
            ) from error
        ids = processor.get_piece_size() + SPECIAL
        if ids > self.vocab_size or (self._path and ids < self.vocab_size):
            raise ConfigError(
                f"The vocabulary {self._path or ''} makes {ids} ids, and the encoder takes "
                f"{self.vocab_size}: set preprocess.vocab_size={ids}, or give the right one."
            )
        self._vocabulary, self._processor = vocabulary, processor

    def state(self) -> dict[str, Any]:
        if self._vocabulary is None:
            return {}
        return {"vocabulary": b64encode(self._vocabulary).decode()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Raises ValueError where the text is no base64."""
        if state:
            self._take(b64decode(state["vocabulary"], validate=True))


def _cleaning() -> Callable[[str], str]:
    """What open_clip does to a text first."""
    tokenizer = import_optional("open_clip.tokenizer", "vision", "sentencepiece_tokens")
    clean: Callable[[str], str] = tokenizer.get_clean_fn("whitespace")
    return clean


def _sentencepiece() -> Any:
    return import_optional("sentencepiece", "text", "sentencepiece_tokens")
