"""Scenes and queries among embeddings, by the texts that stand beside these."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domains.remote_sensing.selo.heatmap import Scores
from domains.remote_sensing.selo.indicators import Polygon, check_polygon
from domains.remote_sensing.selo.windows import Windows
from shared.errors import DataError, EvaluationError
from shared.evaluation.embeddings.embedding_set import SPLIT, EmbeddingSet
from shared.evaluation.embeddings.vectors import normalise

WINDOW, REGIONS = "window", "regions"
"""Annotations: of a window its [row start, row end, column start, column end], of a query its
polygons; empty for all else. The scene of both is the group."""

Rows = NDArray[np.int64]


def to_text(value: Sequence[Any]) -> str:
    return json.dumps(value, separators=(",", ":"))


@dataclass(frozen=True)
class Scene:
    """The windows of one scene, in the order of `windows.windows`.

    Attributes:
        rows: (n,) of the windows in the set of embeddings.
        windows: (n, 4) as in `windows.windows`.
    """

    rows: Rows
    windows: Windows

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, pixels: windows reach to the edges."""
        return int(self.windows[:, 1].max()), int(self.windows[:, 3].max())


def queries(embeddings: EmbeddingSet, modality: str) -> Rows:
    """Test rows of the queries that have a modality."""
    return _annotated(embeddings, REGIONS, modality)


def scenes(embeddings: EmbeddingSet, modality: str) -> dict[str, Scene]:
    """By name, the scenes whose windows have a modality.

    Raises:
        EvaluationError: An annotation is no window.
    """
    rows = _annotated(embeddings, WINDOW, modality)
    found = [_read(embeddings, WINDOW, row) for row in rows.tolist()]
    for row, window in zip(rows.tolist(), found, strict=True):
        if not _is_window(window):
            raise EvaluationError(f"{_where(embeddings, WINDOW, row)} is no window.")
    cut = np.array(found, dtype=np.int64).reshape(-1, 4)
    order = np.lexsort(cut.T[::-1])
    rows, cut = rows[order], cut[order]
    names = embeddings.groups[rows]
    return {str(n): Scene(rows[names == n], cut[names == n]) for n in np.unique(names)}


def _is_window(value: Any) -> bool:
    whole = isinstance(value, list) and len(value) == 4 and all(type(x) is int for x in value)
    return whole and 0 <= value[0] < value[1] < 2**16 and 0 <= value[2] < value[3] < 2**16


def polygons(embeddings: EmbeddingSet, row: int) -> list[Polygon]:
    """The regions of a query.

    Raises:
        EvaluationError: Its annotation is no list of polygons.
    """
    found: list[Polygon] = _read(embeddings, REGIONS, row)
    try:
        if not isinstance(found, list) or not found:
            raise DataError("it holds no polygon.")
        for polygon in found:
            check_polygon(polygon)
    except DataError as error:
        raise EvaluationError(f"{_where(embeddings, REGIONS, row)}: {error}") from error
    return found


def scores(query: int, scene: Scene, pair: Sequence[str], embeddings: EmbeddingSet) -> Scores:
    """(n,) cosines of the windows of a scene with a query.

    Args:
        query: Its row.
        scene: The one that the query is about.
        pair: Modality of the queries, modality of the windows.
        embeddings: Both modalities are equally wide.
    """
    of_query, of_windows = (embeddings.vectors[modality] for modality in pair)
    cosine: Scores = normalise(of_windows[scene.rows]) @ normalise(of_query[[query]])[0]
    return cosine


def _annotated(embeddings: EmbeddingSet, name: str, modality: str) -> Rows:
    """Test rows that have a modality and an annotation; windows that look alike count each."""
    texts = embeddings.annotations.get(name, np.full(len(embeddings), ""))
    test = embeddings.splits == SPLIT
    return np.flatnonzero(test & embeddings.present[modality] & (texts != ""))


def _read(embeddings: EmbeddingSet, name: str, row: int) -> Any:
    try:
        return json.loads(embeddings.annotations[name][row])
    except (ValueError, RecursionError) as error:
        raise EvaluationError(f"{_where(embeddings, name, row)} is no JSON.") from error


def _where(embeddings: EmbeddingSet, name: str, row: int) -> str:
    return f"{embeddings.dataset}: the annotation {name!r} of {str(embeddings.ids[row])!r}"
