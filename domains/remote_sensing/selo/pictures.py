"""Maps of queries over their scenes."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from domains.remote_sensing.selo.heatmap import heat_map
from domains.remote_sensing.selo.indicators import Polygon, candidate_points
from domains.remote_sensing.selo.opencv import Image
from domains.remote_sensing.selo.scenes import Scene, polygons, scenes, scores
from shared.evaluation.embeddings.embedding_set import EmbeddingSet
from shared.evaluation.metrics import METRICS
from shared.evaluation.outcomes import MeanOutcome
from shared.evaluation.pictures.figures import SMALL, TEXT, make_figure
from shared.evaluation.pictures.kinds import Kind, OwnPictures

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from shared.data.dataset import Dataset
    from shared.evaluation.run import Run

SHOWN = 4
"""Queries."""
WIDTH, PANEL = 6.6, 2.6
"""Inches of a figure, and about those of one of its panels."""
MAX_PIXELS = 800
"""Of a side of a scene; more are not seen."""
OPACITY = 0.6
"""Of a map over its scene in grey."""
_UNSEEN = 128
"""Grey of what no window shows."""

KIND = Kind(
    "localisation",
    "Semantic localisation",
    "Left the scene with the regions that the sentence describes, right the map that the model "
    "makes of it: bright where it fits best. Crosses are the points that the map proposes; a good "
    "map is bright inside of the outlines only, with one cross near the middle of each. Below, the "
    "four indicators of this sentence; the arrows say whether higher or lower is better.",
)


def draw(
    run: "Run", embeddings: EmbeddingSet, dataset: "Dataset"
) -> "Iterator[tuple[str, Figure]]":
    """A figure for each of the first queries: scene, map, and the four indicators."""
    outcome, pair = run.output.outcome, run.task.modalities
    assert isinstance(outcome, MeanOutcome)
    cut = scenes(embeddings, pair[1])
    for place, row in enumerate(run.output.rows[:SHOWN].tolist()):
        scene = cut[str(embeddings.groups[row])]
        of_windows = scores(row, scene, pair, embeddings)
        grey = heat_map(scene.windows, of_windows, *scene.size, jpeg=bool(run.settings["jpeg"]))
        shown = mosaic(scene, dataset, pair[1])
        numbers = {metric: float(column[place]) for metric, column in outcome.numbers.items()}
        caption = str(dataset[row][pair[0]])
        title = f"“{caption}” in {embeddings.groups[row]}"
        height, width = scene.size
        figure = make_figure(WIDTH, 1.35 + PANEL * height / width, title, embeddings)
        _draw(figure, shown, grey, polygons(embeddings, row), numbers)
        yield f"{KIND.name}_{place + 1}", figure


def mosaic(scene: Scene, dataset: "Dataset", modality: str) -> Image:
    """(height, width, 3) uint8 of a scene, put together from its smallest windows."""
    side = scene.windows[:, 1] - scene.windows[:, 0]
    whole = np.full((*scene.size, 3), _UNSEEN, dtype=np.uint8)
    for at in np.flatnonzero(side == side.min()).tolist():
        top, bottom, left, right = scene.windows[at].tolist()
        # the image of a window has a size of its own
        image = np.asarray(dataset[int(scene.rows[at])][modality])
        rows, columns = (np.arange(side.min()) * n // side.min() for n in image.shape[:2])
        whole[top:bottom, left:right] = image[np.ix_(rows, columns)]
    return whole


def _draw(
    figure: "Figure",
    scene: Image,
    grey: Image,
    regions: Sequence[Polygon],
    numbers: dict[str, float],
) -> None:
    panels = figure.subplots(1, 2, sharey=True)
    height, width = grey.shape
    step = max(1, -(-max(height, width) // MAX_PIXELS))
    place: dict[str, Any] = {"extent": (0, width, height, 0)}
    scene = scene[::step, ::step]
    panels[0].imshow(scene, **place)
    # colours of a map are read on a scene without any
    panels[1].imshow(scene.mean(axis=2), "gray", vmin=0, vmax=255, **place)
    for axes in panels:
        _outline(axes, regions)
        axes.set_xlim(0, width)
        axes.set_ylim(height, 0)
        axes.set_xlabel("x [pixel]", fontsize=SMALL)
        axes.tick_params(labelsize=SMALL)
    panels[0].set_ylabel("y [pixel]", fontsize=SMALL)
    probability = grey[::step, ::step] / 255.0
    drawn = panels[1].imshow(probability, "inferno", vmin=0, vmax=1, alpha=OPACITY, **place)
    points = candidate_points(grey)
    for size, line, colour in ((10, 4.0, "black"), (9, 2.0, "white")):  # a dark rim
        panels[1].plot(*points.T, "x", color=colour, ms=size, mew=line)
    bar = figure.colorbar(drawn, ax=panels, shrink=0.8, pad=0.01)
    bar.set_label("map, 0 to 1", fontsize=SMALL)
    bar.ax.tick_params(labelsize=SMALL)
    signs = {"higher": "↑", "lower": "↓"}
    parts = (f"{m.capitalize()} {x:.3f} {signs[METRICS[m].better]}" for m, x in numbers.items())
    figure.supxlabel("     ".join(parts), fontsize=TEXT)


def _outline(axes: "Axes", regions: Sequence[Polygon]) -> None:
    """Polygons, white with a dark rim."""
    for polygon in regions:
        closed = np.asarray([*polygon, polygon[0]], dtype=np.float64)
        for width, colour in ((3.0, "black"), (1.3, "white")):
            axes.plot(closed[:, 0], closed[:, 1], color=colour, linewidth=width)


PICTURES = OwnPictures(KIND, draw)
