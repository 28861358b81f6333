"""Features that need no training, for images and texts of any kind: what a score has to beat."""

from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from shared.errors import SchemaError
from shared.schema import Schema

COLOUR_BINS = 16
"""Of the histogram of each channel, over its valid range."""
ORIENTATIONS, CELLS = 8, 2
"""Of the gradient, over 180°; the image is divided into `CELLS` × `CELLS`."""
TEXT_BINS = 512
"""Of the words and of the letters each."""


def image_statistics(schema: Schema, raw: NDArray[Any]) -> NDArray[np.float64]:
    """Colours and edges of an image, whatever its size.

    For each channel, the share of the pixels in 16 equal bins of its valid range. Then gradient
    energy: of the mean over the channels, scaled to 0–1, the differences to the next pixel
    (`numpy.gradient`); in each of 2 × 2 cells, the mean squared gradient by orientation, modulo
    180°, in 8 bins, as square roots. The orientation histograms are those of Dalal & Triggs 2005
    (Histograms of oriented gradients, section 6.3) without their interpolation and blocks.

    Args:
        schema: Of the image; every channel has a valid range with both ends.
        raw: (height, width, channels).

    Returns:
        (16 · channels + 32,).

    Raises:
        SchemaError: It is no image whose channels have a valid range.
    """
    limits = [channel.valid_range for channel in schema.channels]
    if schema.axes != ("height", "width", "channel") or any(None in pair for pair in limits):
        raise SchemaError(
            f"{schema.modality}: histograms need (height, width, channel) and the valid range of "
            "each channel."
        )
    low, high = np.array(limits, dtype=np.float64).T
    scaled = (np.asarray(raw, dtype=np.float64) - low) / (high - low)
    level = np.minimum(scaled * COLOUR_BINS, COLOUR_BINS - 1).astype(np.int64)
    colours = [
        np.bincount(level[..., c].ravel(), minlength=COLOUR_BINS) / level[..., c].size
        for c in range(len(limits))
    ]
    return np.concatenate([*colours, _gradient_energy(scaled.mean(axis=2))])


def _gradient_energy(grey: NDArray[np.float64]) -> NDArray[np.float64]:
    """(CELLS² · ORIENTATIONS,); zeros where an image is one pixel wide or high."""
    shape = (CELLS, CELLS, ORIENTATIONS)
    if min(grey.shape) == 1:
        return np.zeros(np.prod(shape))
    down, right = np.gradient(grey)
    turn = np.mod(np.arctan2(down, right), np.pi) / np.pi * ORIENTATIONS
    bins = np.minimum(turn.astype(np.int64), ORIENTATIONS - 1)
    of_row, of_column = (np.arange(size) * CELLS // size for size in grey.shape)
    cell = of_row[:, None] * CELLS + of_column
    where = (cell * ORIENTATIONS + bins).ravel()
    energy = np.bincount(where, (down**2 + right**2).ravel(), minlength=int(np.prod(shape)))
    pixels = np.bincount(cell.ravel(), minlength=CELLS**2)
    return np.sqrt(energy.reshape(-1, ORIENTATIONS) / pixels[:, None]).ravel()


def word_counts(schema: Schema, raw: str) -> NDArray[np.float64]:
    """Words and letters of a text, lower case: counts of the words (two letters and more) and of
    the three letters in a row, hashed with signs into 512 bins each (Weinberger et al. 2009,
    arXiv:0902.2206, section 2; `HashingVectorizer` of scikit-learn), each half of unit norm.

    Args:
        schema: Of the text.
        raw: Any text; sequences and formulas without blanks are told apart by the second half.

    Returns:
        (1024,).
    """
    halves = [vectorizer.transform([raw]).toarray()[0] for vectorizer in _vectorizers()]
    return np.concatenate(halves)


@cache
def _vectorizers() -> tuple[Any, ...]:
    from sklearn.feature_extraction.text import HashingVectorizer

    return (
        HashingVectorizer(n_features=TEXT_BINS),
        HashingVectorizer(n_features=TEXT_BINS, analyzer="char_wb", ngram_range=(3, 3)),
    )
