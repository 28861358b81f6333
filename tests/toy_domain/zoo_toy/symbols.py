"""Label maps and texts as integers."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from zoo import DataError, Preprocessor, Schema

PADDING, BEGIN, END, MASK, FIRST = range(5)
"""Ids of what is no symbol, and of the first symbol."""


class LabelMap(Preprocessor):
    """Labels (height, width) → `values` of the same shape, int64."""

    def __init__(self, schema: Schema) -> None:
        super().__init__(schema, (), {})

    @property
    def sizes(self) -> Mapping[str, int]:
        return {}

    def __call__(self, raw: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        return {"values": raw.astype(np.int64)}


class Symbols(Preprocessor):
    """A text of known symbols → `input_ids` (n + 2,) int64 and `attention_mask` (n + 2,) bool.

    Id 0 stands for padding, 1 and 2 for begin and end, 3 is left to masks; symbol i is 4 + i.

    Args:
        schema: Of a text.
        symbols: All that there are.
        separator: What stands between them; empty: every letter is one.
    """

    def __init__(self, schema: Schema, symbols: Sequence[str], separator: str = "") -> None:
        super().__init__(schema, (), {"symbols": list(symbols), "separator": separator})
        self._ids = {symbol: FIRST + i for i, symbol in enumerate(symbols)}
        self._separator = separator

    @property
    def sizes(self) -> Mapping[str, int]:
        return {"vocab_size": FIRST + len(self._ids)}

    def __call__(self, raw: str) -> dict[str, NDArray[Any]]:
        symbols = raw.split(self._separator) if self._separator else list(raw)
        if unknown := sorted(set(symbols) - set(self._ids)):
            raise DataError(f"{unknown[0]!r} is none of the symbols {', '.join(self._ids)}.")
        ids = np.array([BEGIN, *(self._ids[symbol] for symbol in symbols), END])
        return {"input_ids": ids, "attention_mask": np.ones(len(ids), dtype=np.bool_)}
